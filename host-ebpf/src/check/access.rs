//! Maps in statements and expressions.

use super::{
    Checker, Half, Result,
    ir::{Key, KeyPart, Stack, StatementKind, Text, Value},
    maps::{Declared, KeyType, MAX_ELEMENTS, Use, ValueType},
    types::{IntType, S64, Typed, U64, computed},
};
use crate::{
    aggregate::{Content, SeriesOf},
    kernel::btf::Int,
    record::Naming,
    syntax::{
        ast::{BinaryOp, Expr, ExprKind, Ident, MapAccess},
        last_name,
    },
};

/// The kinds of map that can be declared, as bpftrace names them. A map of aggregations is per CPU whatever it is called.
const KINDS: [(&str, Declared); 4] = [
    ("hash", Declared::Hash),
    ("lruhash", Declared::LruHash),
    ("percpuhash", Declared::Hash),
    ("percpulruhash", Declared::LruHash),
];

/// What aggregates: `@m = NAME(...)`.
pub(super) const AGGREGATIONS: [&str; 9] = ["count", "sum", "min", "max", "avg", "stats", "hist", "lhist", "tseries"];

/// What a time series keeps of each interval.
const SERIES: [(&str, SeriesOf); 5] =
    [("last", SeriesOf::Last), ("sum", SeriesOf::Sum), ("avg", SeriesOf::Avg), ("min", SeriesOf::Min), ("max", SeriesOf::Max)];

/// The most intervals that a time series keeps.
const MAX_INTERVALS: u32 = 1_000;

/// The most buckets that a linear histogram can have, as in bpftrace.
const MAX_LINEAR_BUCKETS: u32 = 1002;

impl Checker<'_> {
    fn here_use(&self, map: &MapAccess) -> Use {
        let end = map.keys.last().map_or(map.name.span.end, |key| key.span.end + 1);
        Use { probe: self.spec.name.clone(), text: self.text(&(map.name.span.start..end)).to_owned() }
    }

    /// The map's number and the key of one of its elements.
    fn element(&mut self, map: &MapAccess) -> Result<(usize, Key)> {
        let index = self.maps.index(&map.name.name);
        let (mut key, mut types) = (Key::new(), Vec::new());
        for part in &map.keys {
            let typed = self.expr(part, Half::Here)?;
            let (part, typ) = self.key_part(typed, part)?;
            key.push(part);
            types.push(typ);
        }
        if !self.kernel.features().large_keys {
            shorten(&mut key, &mut types);
        }
        let here = self.here_use(map);
        self.maps.name_keys(index, map.keys.iter().map(last_name));
        if let Err((known, first)) = self.maps.keys(index, &types, here) {
            let list = |keys: &[KeyType]| match keys {
                [] => "no key".to_owned(),
                keys => format!("the key [{}]", keys.iter().map(KeyType::describe).collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`@{}` has {} here and {} elsewhere", map.name.name, list(&types), list(&known));
            let help = format!("probe \"{}\" has `{}`; all keys of a map are of the same types", first.probe, first.text);
            let end = map.keys.last().map_or(map.name.span.end, |key| key.span.end);
            return Err(self.error_help(&(map.name.span.start..end), message, help));
        }
        Ok((index, key))
    }

    fn key_part(&mut self, typed: Typed, expr: &Expr) -> Result<(KeyPart, KeyType)> {
        Ok(match typed {
            Typed::Int(value, typ) => {
                (KeyPart::Int(value), KeyType::Int { signed: typ.int.signed, ctype: typ.ctype, naming: typ.naming })
            }
            Typed::Text(text, _) => {
                let text = self.short(text, &expr.span)?;
                let capacity = text.capacity();
                (KeyPart::Text(text), KeyType::Text { capacity })
            }
            Typed::Literal(bytes) => {
                let text = self.short(Text::Literal(bytes), &expr.span)?;
                let capacity = text.capacity();
                (KeyPart::Text(text), KeyType::Text { capacity })
            }
            Typed::Bytes(bytes, naming, _) => {
                let length = bytes.length();
                (KeyPart::Bytes(bytes), KeyType::Bytes { length, naming })
            }
            Typed::Stack(stack, naming) => {
                let depth = stack.depth();
                (KeyPart::Stack(stack), KeyType::Stack { depth, naming })
            }
            other @ (Typed::Object(_) | Typed::Array(_)) => {
                let message = format!("a key can't be {}", other.describe());
                return Err(self.error_help(&expr.span, message, "name a member of it, or take its bytes: `buf(x, LENGTH)`"));
            }
        })
    }

    fn content(&mut self, index: usize, map: &MapAccess, content: Content) -> Result<()> {
        let here = self.here_use(map);
        let Err((known, first)) = self.maps.content(index, content, here) else { return Ok(()) };
        let name = |content: Content| match content {
            Content::Value => "an assigned value".to_owned(),
            other => format!("`{}`", other.name()),
        };
        let message = match known.name() == content.name() {
            true => format!("`@{}` is {} with other arguments elsewhere", map.name.name, name(content)),
            false => format!("`@{}` is {} here and {} elsewhere", map.name.name, name(content), name(known)),
        };
        let help = format!("probe \"{}\" has `{}`; use another map", first.probe, first.text);
        Err(self.error_help(&map.name.span, message, help))
    }

    pub(super) fn assign_map(
        &mut self,
        map: &MapAccess,
        op: Option<BinaryOp>,
        value: &Expr,
        span: &std::ops::Range<usize>,
    ) -> Result<StatementKind> {
        if let (None, ExprKind::Call(function, arguments)) = (op, &value.kind)
            && AGGREGATIONS.contains(&function.name.as_str())
        {
            return self.aggregate(map, function, arguments, &value.span);
        }
        let (index, key) = self.element(map)?;
        self.content(index, map, Content::Value)?;
        if let Some(op @ (BinaryOp::Add | BinaryOp::Subtract)) = op {
            let (mut value, typ) = self.int(value, Half::Here)?;
            self.assigned_int(index, map, IntType { int: Int { size: 8, ..typ.int }, ..computed(U64) })?;
            if op == BinaryOp::Subtract {
                value = super::fold::unary(crate::syntax::ast::UnaryOp::Negate, value);
            }
            return Ok(StatementKind::Add { map: index, key, value });
        }
        let combined;
        let value = match op {
            None => value,
            Some(op) => {
                let left = Expr { kind: ExprKind::Map(map.clone()), span: map.name.span.clone() };
                combined = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(value.clone())), span: span.clone() };
                &combined
            }
        };
        match self.expr(value, Half::Here)? {
            Typed::Int(value, typ) => {
                self.assigned_int(index, map, typ)?;
                Ok(StatementKind::Set { map: index, key, value })
            }
            Typed::Text(text, _) => self.set_text(index, map, key, text, value),
            Typed::Literal(bytes) => self.set_text(index, map, key, Text::Literal(bytes), value),
            Typed::Object(object) => {
                let (value, typ) = self.address_of(object);
                self.assigned_int(index, map, typ)?;
                Ok(StatementKind::Set { map: index, key, value })
            }
            other => {
                let message = format!("a map's value is an integer or text, and this is {}", other.describe());
                Err(self.error_help(&value.span, message, "make it a key: `@m[kstack] = count()`"))
            }
        }
    }

    fn set_text(&mut self, index: usize, map: &MapAccess, key: Key, text: Text, value: &Expr) -> Result<StatementKind> {
        let text = self.short(text, &value.span)?;
        if !self.maps.value(index, ValueType::Text(text.capacity())) {
            return Err(self.other_value(map, "text", "an integer"));
        }
        Ok(StatementKind::SetText { map: index, key, value: text })
    }

    fn assigned_int(&mut self, index: usize, map: &MapAccess, typ: IntType) -> Result<()> {
        let typ = IntType { int: Int { size: 8, ..typ.int }, ..typ };
        if self.maps.value(index, ValueType::Int(typ)) { Ok(()) } else { Err(self.other_value(map, "an integer", "text")) }
    }

    fn other_value(&self, map: &MapAccess, here: &str, elsewhere: &str) -> crate::Diagnostic {
        let message = format!("`@{}` is {here} here and {elsewhere} elsewhere", map.name.name);
        self.error_help(&map.name.span, message, "all values of a map are of the same type; use another map")
    }

    fn aggregate(
        &mut self,
        map: &MapAccess,
        function: &Ident,
        arguments: &[Expr],
        span: &std::ops::Range<usize>,
    ) -> Result<StatementKind> {
        let (index, key) = self.element(map)?;
        let name = function.name.as_str();
        let usage = match name {
            "count" => "count()",
            "hist" => "hist(x), hist(x, BITS)",
            "lhist" => "lhist(x, MIN, MAX, STEP)",
            "tseries" => "tseries(x, INTERVAL, INTERVALS), tseries(x, 1s, 60, \"avg\")",
            _ => "one value, as in sum(x)",
        };
        let fits = match name {
            "count" => arguments.is_empty(),
            "hist" => matches!(arguments.len(), 1 | 2),
            "lhist" => arguments.len() == 4,
            "tseries" => matches!(arguments.len(), 3 | 4),
            _ => arguments.len() == 1,
        };
        if !fits {
            let message = format!("`{name}` does not take {} arguments", arguments.len());
            return Err(self.error_help(span, message, usage));
        }
        let (value, typ) = match arguments.first() {
            Some(value) => self.int(value, Half::Here)?,
            None => (Value::Const(1), computed(U64)),
        };
        let mut constants = Vec::new();
        let mut of = SeriesOf::Last;
        for argument in arguments.iter().skip(1) {
            if let ("tseries", ExprKind::Text(text)) = (name, &argument.kind) {
                match SERIES.iter().find(|(name, _)| name == text) {
                    Some((_, series)) => of = *series,
                    None => {
                        let names: Vec<&str> = SERIES.iter().map(|(name, _)| *name).collect();
                        let message = format!("`{text}` is nothing that a time series keeps");
                        return Err(self.error_help(&argument.span, message, format!("there are {}", names.join(", "))));
                    }
                }
                continue;
            }
            match self.int(argument, Half::Here)?.0 {
                Value::Const(n) => constants.push(n.cast_signed()),
                _ => return Err(self.error_help(&argument.span, format!("`{name}` takes constants here"), usage)),
            }
        }
        let content = match (name, constants.as_slice()) {
            ("count", _) => Content::Count,
            ("sum", _) => Content::Sum,
            ("min", _) => Content::Min,
            ("max", _) => Content::Max,
            ("avg", _) => Content::Avg,
            ("stats", _) => Content::Stats,
            ("hist", bits) => match bits.first().copied().unwrap_or(0) {
                bits @ 0..=5 => Content::Hist { bits: bits as u8 },
                _ => return Err(self.error(span, "a power of two is parted by 0 to 5 bits")),
            },
            ("tseries", &[interval, buckets]) => match (u64::try_from(interval), u32::try_from(buckets)) {
                (Ok(interval @ 1..), Ok(buckets @ 1..=MAX_INTERVALS)) => Content::TimeSeries { interval, buckets, of },
                _ => {
                    let message = format!("a time series has 1 to {MAX_INTERVALS} intervals of 1 ns at least");
                    return Err(self.error_help(span, message, usage));
                }
            },
            ("lhist", &[min, max, step]) => {
                let content = Content::LinearHist { min, max, step };
                if step <= 0 || max <= min {
                    return Err(self.error_help(span, "the buckets go from a smaller to a larger value by steps above 0", usage));
                }
                if content.buckets().is_none_or(|buckets| buckets > MAX_LINEAR_BUCKETS) {
                    let message = format!("that is more than {} buckets", MAX_LINEAR_BUCKETS - 2);
                    return Err(self.error_help(span, message, "take a larger step"));
                }
                content
            }
            _ => return Err(self.error_help(span, format!("`{name}` takes other arguments"), usage)),
        };
        self.content(index, map, content)?;
        if typ.int.signed && !matches!(value, Value::Const(n) if n.cast_signed() >= 0) {
            self.maps.all[index].signed = true;
        }
        let series = matches!(content, Content::TimeSeries { .. });
        Ok(StatementKind::Aggregate { map: index, key, value, series })
    }

    pub(super) fn declare_map(&mut self, map: &Ident, kind: &Ident, size: u64) -> Result<()> {
        let Some((_, declared)) = KINDS.iter().find(|(name, _)| *name == kind.name) else {
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            let message = format!("`{}` is no kind of map", kind.name);
            return Err(self.error_help(&kind.span, message, format!("there are {}", names.join(", "))));
        };
        if size == 0 || size > MAX_ELEMENTS {
            return Err(self.error(&kind.span, format!("a map has between 1 and {MAX_ELEMENTS} elements")));
        }
        let index = self.maps.index(&map.name);
        let wanted = Some((*declared, size as u32));
        let known = &mut self.maps.all[index].declared;
        if known.is_some() && *known != wanted {
            let message = format!("`@{}` is declared in another way elsewhere", map.name);
            return Err(self.error_help(&map.span, message, "declare it once"));
        }
        *known = wanted;
        Ok(())
    }

    pub(super) fn delete(&mut self, map: &MapAccess) -> Result<StatementKind> {
        let (index, key) = self.element(map)?;
        let content = self.maps.all[index].content.as_ref().map(|(content, _)| *content);
        if key.is_empty() && content.is_some_and(|content| content != Content::Value) {
            let message =
                format!("`@{}` is kept by each CPU for itself, and a program can't delete what others keep", map.name.name);
            return Err(self.error_help(&map.name.span, message, "the plugin takes it by its import `maps`, and reads it so"));
        }
        Ok(StatementKind::Delete { map: index, key })
    }

    /// An element's value.
    pub(super) fn map_value(&mut self, map: &MapAccess) -> Result<Typed> {
        let (index, key) = self.element(map)?;
        let known = &self.maps.all[index];
        if let Some((content, first)) = known.content.clone()
            && content != Content::Value
        {
            let message =
                format!("`@{}` is a `{}`, which each CPU keeps for itself: it has no value here", map.name.name, content.name());
            let help = format!("the plugin reads it as a whole (probe \"{}\" has `{}`)", first.probe, first.text);
            return Err(self.error_help(&map.name.span, message, help));
        }
        match known.value.clone() {
            Some(ValueType::Int(typ)) => Ok(Typed::Int(Value::Element(index, key), typ)),
            Some(ValueType::Text(keep)) => Ok(Typed::Text(Text::Element { map: index, key, keep }, format!("char[{keep}]"))),
            None => {
                // A later probe may say; the next pass knows.
                let here = self.here_use(map);
                self.maps.all[index].unknown = Some(here);
                Ok(Typed::Int(Value::Element(index, key), computed(S64)))
            }
        }
    }

    pub(super) fn has_key(&mut self, map: &MapAccess) -> Result<Typed> {
        let (index, key) = self.element(map)?;
        Ok(Typed::Int(Value::HasKey(index, key), IntType { naming: Naming::Plain, ..computed(super::types::BOOL) }))
    }
}

/// What a key can have where the kernel has no large ones (`MAX_BPF_STACK`, include/linux/filter.h).
const SMALL_KEY: u32 = 512;

/// Takes as few frames into a key as fit: kernels before 5.16 have keys of 512 bytes at most.
fn shorten(key: &mut Key, types: &mut [KeyType]) {
    let stacks = types.iter().filter(|typ| matches!(typ, KeyType::Stack { .. })).count() as u32;
    if stacks == 0 {
        return;
    }
    // A histogram's bucket may come behind.
    let others: u32 = 8 + types.iter().map(|typ| if matches!(typ, KeyType::Stack { .. }) { 0 } else { typ.size() }).sum::<u32>();
    let most = (SMALL_KEY.saturating_sub(others) / stacks / 8).saturating_sub(1).max(1);
    for (part, typ) in key.iter_mut().zip(types) {
        if let (KeyPart::Stack(Stack::Kernel(depth) | Stack::User(depth)), KeyType::Stack { depth: typ, .. }) = (part, typ) {
            *depth = (*depth).min(most);
            *typ = *depth;
        }
    }
}
