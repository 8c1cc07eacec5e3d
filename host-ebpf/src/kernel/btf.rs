//! stub: helper "kernel" writes this
/// The kernel's types.
#[derive(Debug)]
pub struct Btf {}
/// An integer type: width and sign. Pointers, booleans and enums count as such too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int {
    /// In bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Two's complement.
    pub signed: bool,
}
/// An argument of a raw tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type as C writes it.
    pub ctype: String,
    /// `None` for what is neither an integer, nor a pointer, an enum or a boolean.
    pub int: Option<Int>,
    /// It is a pointer.
    pub pointer: bool,
}
impl Btf {
    /// Parses.
    pub fn parse(_bytes: Vec<u8>) -> Result<Btf, super::SourceError> { unimplemented!() }
    /// The raw tracepoints that have a typedef `btf_trace_NAME`, sorted.
    pub fn raw_tracepoints(&self) -> Vec<&str> { unimplemented!() }
    /// The id of the typedef `btf_trace_NAME`.
    pub fn raw_tracepoint_id(&self, _name: &str) -> Option<u32> { unimplemented!() }
    /// The arguments of a raw tracepoint, without the `void *__data` before them: types from the typedef, names from FUNC `__bpf_trace_NAME`.
    pub fn raw_tracepoint_arguments(&self, _name: &str) -> Option<Vec<Argument>> { unimplemented!() }
    /// Width and sign of a named integer type: a typedef (`umode_t`), a base type in any usual spelling (`unsigned int`), `enum X`.
    pub fn int(&self, _ctype: &str) -> Option<Int> { unimplemented!() }
    /// The byte offset and type of a member of a struct, by path through nested structs: `member("task_struct", "thread_info.status")`.
    pub fn member(&self, _structure: &str, _path: &str) -> Option<(u32, Int)> { unimplemented!() }
}
