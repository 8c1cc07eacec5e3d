//! stub: helper "kernel" writes this
/// A field of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatField {
    /// Its name.
    pub name: String,
    /// Its type as C writes it, without the array's length: `const char *`, `char`.
    pub ctype: String,
    /// From the record's first byte.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
    /// As the file says it.
    pub signed: bool,
    /// What stands there.
    pub shape: FieldShape,
}
/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldShape {
    /// The value itself.
    Value,
    /// An array of this many elements.
    Array(u32),
    /// A `u32`: where in the record the data is (low 16 bits), and its length (high 16).
    DataLoc,
    /// The same, relative to the end of this field (`__rel_loc`).
    RelLoc,
}
/// A tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The tracepoint's number.
    pub id: u64,
    /// Its fields, without those that begin with `common_`.
    pub fields: Vec<FormatField>,
}
/// Parses the text of a `format` file.
pub fn parse(_text: &str) -> Result<Format, String> { unimplemented!() }
