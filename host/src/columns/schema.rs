//! The plugin's view of what the compiler made.

use portcullis_ebpf::{FieldKind, PluginMap, Slot, Stream, aggregate::SeriesOf};

use crate::contract::{self, Kind, Schema};

/// The schema of the compiler's streams and maps.
pub fn schema(streams: &[Stream], maps: &[PluginMap]) -> Schema {
    let stream = |stream: &Stream| contract::Stream { name: stream.name.clone(), fields: fields(&stream.fields) };
    let map = |map: &PluginMap| contract::Map {
        name: map.name.clone(),
        content: content(map.content),
        keys: fields(&map.keys),
        values: values(map),
    };
    Schema { streams: streams.iter().map(stream).collect(), maps: maps.iter().map(map).collect() }
}

fn fields(fields: &[portcullis_ebpf::Field]) -> Vec<contract::Field> {
    let field = |field: &portcullis_ebpf::Field| contract::Field {
        name: field.name.clone(),
        kind: kind(field),
        ctype: field.ctype.clone(),
    };
    fields.iter().map(field).collect()
}

/// The kind of column that a field becomes.
pub(super) fn kind(field: &portcullis_ebpf::Field) -> Kind {
    match field.kind() {
        FieldKind::U64 => Kind::U64,
        FieldKind::S64 => Kind::S64,
        FieldKind::Text => Kind::Text,
        FieldKind::Bytes => Kind::Bytes,
        FieldKind::Stack => Kind::Stack,
    }
}

fn content(content: portcullis_ebpf::aggregate::Content) -> contract::Content {
    use portcullis_ebpf::aggregate::Content;
    match content {
        Content::Value => contract::Content::Value,
        Content::Count => contract::Content::Count,
        Content::Sum => contract::Content::Sum,
        Content::Avg => contract::Content::Avg,
        Content::Stats => contract::Content::Stats,
        Content::Min => contract::Content::Min,
        Content::Max => contract::Content::Max,
        Content::Hist { .. } => contract::Content::Hist,
        Content::LinearHist { .. } => contract::Content::Lhist,
        Content::TimeSeries { .. } => contract::Content::Tseries,
    }
}

/// What is aggregated has a sign.
pub(super) fn signed(map: &PluginMap) -> bool {
    matches!(map.value.slot, Slot::Int { signed: true, .. })
}

/// The columns of a map's values, as `types.content` in `wit/` says.
fn values(map: &PluginMap) -> Vec<contract::Field> {
    use portcullis_ebpf::aggregate::Content;
    let number = if signed(map) { Kind::S64 } else { Kind::U64 };
    let named = |name: &str, kind: Kind| {
        let ctype = if kind == Kind::S64 { "s64" } else { "u64" };
        contract::Field { name: name.to_owned(), kind, ctype: ctype.to_owned() }
    };
    let average = || vec![named("count", Kind::U64), named("average", number), named("total", number)];
    match map.content {
        Content::Value => {
            vec![contract::Field { name: "value".to_owned(), kind: kind(&map.value), ctype: map.value.ctype.clone() }]
        }
        Content::Count => vec![named("count", Kind::U64)],
        Content::Sum => vec![named("sum", number)],
        Content::Avg | Content::Stats => average(),
        Content::Min => vec![named("min", number)],
        Content::Max => vec![named("max", number)],
        Content::Hist { .. } | Content::LinearHist { .. } => {
            vec![named("from", Kind::S64), named("to", Kind::S64), named("count", Kind::U64)]
        }
        Content::TimeSeries { of, .. } => {
            let mut values = vec![named("start", Kind::U64)];
            match of {
                SeriesOf::Last => values.push(named("value", number)),
                SeriesOf::Sum => values.push(named("sum", number)),
                SeriesOf::Avg => values.extend(average()),
                SeriesOf::Min => values.push(named("min", number)),
                SeriesOf::Max => values.push(named("max", number)),
            }
            values
        }
    }
}
