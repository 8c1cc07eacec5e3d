//! The `format` file of a tracepoint in tracefs: what stands where in the record that its programs get as context.

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
    /// An array of this many elements; 0 where the file does not say.
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

/// Parses the text of a `format` file. The error is a line that says what is wrong with which line of the text.
pub fn parse(text: &str) -> Result<Format, String> {
    let mut id = None;
    let mut fields = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(number) = line.strip_prefix("ID:") {
            id = Some(number.trim().parse().map_err(|_| format!("no number in `{line}`"))?);
        } else if let Some(rest) = line.strip_prefix("field:") {
            let field = field(rest).map_err(|reason| format!("{reason} in `{line}`"))?;
            if !field.name.starts_with("common_") {
                fields.push(field);
            }
        } else if line.starts_with("print fmt:") {
            break;
        }
    }
    Ok(Format { id: id.ok_or("no line begins with `ID:`")?, fields })
}

/// `char comm[16];\toffset:8;\tsize:16;\tsigned:0;`
fn field(text: &str) -> Result<FormatField, String> {
    let mut parts = text.split(';').map(str::trim);
    let declaration = parts.next().unwrap_or_default();
    let (mut offset, mut size, mut signed) = (None, None, None);
    for part in parts.filter(|p| !p.is_empty()) {
        let (key, value) = part.split_once(':').ok_or_else(|| format!("`{part}` is no KEY:VALUE"))?;
        let number = value.trim().parse::<u32>().map_err(|_| format!("`{part}` has no number"))?;
        match key {
            "offset" => offset = Some(number),
            "size" => size = Some(number),
            "signed" => signed = Some(number != 0),
            _ => {}
        }
    }
    let (Some(offset), Some(size)) = (offset, size) else { return Err("no offset or no size".into()) };
    offset.checked_add(size).ok_or("an offset beyond any record")?;
    let (ctype, name, shape) = declaration_parts(declaration)?;
    Ok(FormatField { name, ctype, offset, size, signed: signed.unwrap_or(false), shape })
}

/// Type, name and shape of `const char * name`, `char comm[16]`, `__data_loc char[] name`.
fn declaration_parts(declaration: &str) -> Result<(String, String, FieldShape), String> {
    for (prefix, shape) in [("__data_loc ", FieldShape::DataLoc), ("__rel_loc ", FieldShape::RelLoc)] {
        if let Some(rest) = declaration.strip_prefix(prefix) {
            let (ctype, name) = split_name(rest)?;
            let ctype = ctype.strip_suffix("[]").unwrap_or(&ctype).trim_end();
            return Ok((ctype.to_owned(), name, shape));
        }
    }
    // An array's length, last: `char comm[16]`, `int a[2][3]`, `u32 buf[]`, `char[16] comm`.
    let (text, lengths) = match declaration.find('[') {
        None => (declaration.to_owned(), None),
        Some(open) => {
            let close = declaration.rfind(']').filter(|close| *close > open).ok_or("a bracket that does not close")?;
            let text = format!("{}{}", &declaration[..open], &declaration[close + 1..]);
            (text, Some(&declaration[open + 1..close]))
        }
    };
    let (ctype, name) = split_name(&text)?;
    let shape = match lengths {
        None => FieldShape::Value,
        // A length may be the name of a constant, on kernels built without the pass that resolves them.
        Some(lengths) => {
            let lengths = lengths.split("][").map(|l| l.trim().parse::<u32>().unwrap_or(0));
            FieldShape::Array(lengths.fold(1, u32::saturating_mul))
        }
    };
    Ok((ctype, name, shape))
}

/// Splits the last word from what is before it.
fn split_name(text: &str) -> Result<(String, String), String> {
    let text = text.trim();
    let start = text.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |i| i + 1);
    let (ctype, name) = text.split_at_checked(start).unwrap_or((text, ""));
    if ctype.trim().is_empty() || name.is_empty() {
        return Err("no type or no name".into());
    }
    Ok((ctype.trim().to_owned(), name.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(declaration: &str, expect: (&str, &str, FieldShape)) {
        let text =
            format!("name: x\nID: 7\nformat:\n\tfield:{declaration};\toffset:8;\tsize:16;\tsigned:1;\n\nprint fmt: \"\"\n");
        let format = parse(&text).unwrap();
        let field = &format.fields[0];
        assert_eq!((field.ctype.as_str(), field.name.as_str(), field.shape), expect, "{declaration}");
        assert_eq!((format.id, field.offset, field.size, field.signed), (7, 8, 16, true));
    }

    /// Every form of declaration that kernels write.
    #[test]
    fn declarations() {
        check("int __syscall_nr", ("int", "__syscall_nr", FieldShape::Value));
        check("const char * filename", ("const char *", "filename", FieldShape::Value));
        check("const char __user *const __user * argv", ("const char __user *const __user *", "argv", FieldShape::Value));
        check("struct request *rq", ("struct request *", "rq", FieldShape::Value));
        check("void * (*f)(int) g", ("void * (*f)(int)", "g", FieldShape::Value));
        check("char comm[16]", ("char", "comm", FieldShape::Array(16)));
        check("int grid[2][3]", ("int", "grid", FieldShape::Array(6)));
        check("unsigned long args[]", ("unsigned long", "args", FieldShape::Array(0)));
        check("char comm[TASK_COMM_LEN]", ("char", "comm", FieldShape::Array(0)));
        check("__data_loc char[] name", ("char", "name", FieldShape::DataLoc));
        check("__data_loc unsigned int[] lengths", ("unsigned int", "lengths", FieldShape::DataLoc));
        check("__rel_loc char[] name", ("char", "name", FieldShape::RelLoc));
    }

    /// A real file: common fields are left out, and nothing after `print fmt` is read.
    #[test]
    fn sched_process_exec() {
        let text = "name: sched_process_exec\nID: 365\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
            \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n\
            \tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;\n\
            \tfield:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;\n\n\
            print fmt: \"filename=%s pid=%d\", __get_str(filename), REC->pid\nfield:int x;\toffset:1;\tsize:4;\n";
        let format = parse(text).unwrap();
        assert_eq!(format.id, 365);
        let names: Vec<_> = format.fields.iter().map(|f| (f.name.as_str(), f.offset, f.size, f.signed)).collect();
        assert_eq!(names, [("filename", 8, 4, false), ("pid", 12, 4, true), ("old_pid", 16, 4, true)]);
    }

    /// What is no format file is an error that quotes the line.
    #[test]
    fn malformed() {
        let check = |text: &str, expect: &str| assert_eq!(parse(text).unwrap_err(), expect, "{text}");
        check("", "no line begins with `ID:`");
        check("ID: many", "no number in `ID: many`");
        check("ID: 1\nfield:int x;", "no offset or no size in `field:int x;`");
        check("ID: 1\nfield:int x; offset:-1; size:4;", "`offset:-1` has no number in `field:int x; offset:-1; size:4;`");
        check("ID: 1\nfield:int x]3[; offset:0; size:4;", "a bracket that does not close in `field:int x]3[; offset:0; size:4;`");
        check("ID: 1\nfield:x; offset:0; size:4;", "no type or no name in `field:x; offset:0; size:4;`");
        check("ID: 1\nfield:; offset:0; size:4;", "no type or no name in `field:; offset:0; size:4;`");
        check(
            "ID: 1\nfield:int x; offset:4294967295; size:4;",
            "an offset beyond any record in `field:int x; offset:4294967295; size:4;`",
        );
        check("ID: 1\nfield:int é x€; offset:0; size:4;", "no type or no name in `field:int é x€; offset:0; size:4;`");
    }

    /// Every tracepoint of the running kernel parses.
    #[test]
    fn this_kernel() {
        let Ok(categories) = std::fs::read_dir("/sys/kernel/tracing/events") else { return };
        for category in categories.filter(|c| c.as_ref().unwrap().path().is_dir()) {
            for event in std::fs::read_dir(category.unwrap().path()).unwrap() {
                let path = event.unwrap().path().join("format");
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let format = parse(&text).map_err(|e| format!("{}: {e}", path.display())).unwrap();
                assert!(format.fields.iter().all(|f| !f.ctype.is_empty()), "{}", path.display());
            }
        }
    }
}
