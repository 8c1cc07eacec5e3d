//! Types as C writes them.

use super::{Btf, MAX_LINKS, TypeId, graph::Type, scan::Kind, text::SPELLINGS};

impl Btf {
    /// A type as C writes it.
    pub fn ctype(&self, id: TypeId) -> String {
        self.declare(id, MAX_LINKS)
    }

    fn declare(&self, id: TypeId, links: usize) -> String {
        let Some(found) = self.get(id) else { return if id == TypeId::VOID { "void".to_owned() } else { "?".to_owned() } };
        let Some(links) = links.checked_sub(1) else { return "?".to_owned() };
        let own = found.name();
        let name = if own.is_empty() { "{...}" } else { own };
        let inner = || self.declare(found.to(), links);
        match found.kind {
            Kind::Struct => format!("struct {name}"),
            Kind::Union => format!("union {name}"),
            Kind::Enum | Kind::Enum64 => format!("enum {name}"),
            Kind::Forward => format!("{} {name}", if found.flag { "union" } else { "struct" }),
            Kind::Const => qualify("const", &inner()),
            Kind::Volatile => qualify("volatile", &inner()),
            Kind::Restrict => qualify("restrict", &inner()),
            Kind::TypeTag => inner(),
            Kind::Pointer => {
                let inner = inner();
                match inner.split_once('(') {
                    Some((result, arguments)) => format!("{result}(*)({arguments}").replacen("(*)(*", "(**", 1),
                    None => match inner.split_once('[') {
                        Some((element, length)) => format!("{element} (*)[{length}"),
                        None if inner.ends_with('*') => format!("{inner}*"),
                        None => format!("{inner} *"),
                    },
                }
            }
            Kind::FunctionType => format!("{} ({})", inner(), self.arguments(found, links)),
            Kind::Array => match found.array() {
                Some((element, length)) => format!("{}[{length}]", self.declare(element, links)),
                None => "?".to_owned(),
            },
            Kind::Int => SPELLINGS.iter().find(|(long, _)| *long == name).map_or(name, |(_, short)| short).to_owned(),
            _ => name.to_owned(),
        }
    }

    fn arguments(&self, function: Type<'_>, links: usize) -> String {
        // Only the first few arguments: their types can nest without end in malformed input, and nobody reads on.
        let arguments = (0..function.count.min(12)).filter_map(|i| function.parameter(i));
        let arguments: Vec<_> = arguments.map(|(_, parameter)| self.declare(parameter, links / 16)).collect();
        if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") }
    }
}

/// C reads a qualifier that stands before a pointer as one of what it points to.
fn qualify(qualifier: &str, inner: &str) -> String {
    match inner.strip_suffix('*') {
        Some(_) => format!("{inner}{qualifier}"),
        None => format!("{qualifier} {inner}"),
    }
}
