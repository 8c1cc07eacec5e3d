//! The elements of a plugin's maps, in words.

use std::sync::Arc;

use portcullis::{
    contract::{Column, Values},
    kernel::PluginMaps,
    names::Names,
    symbols::Symbols,
    worker::Maps as _,
};
use portcullis_ebpf::Compiled;

/// Every element, as (map, the map with its `@` and the columns of key and value). A call stack is the names of its functions.
pub fn read(maps: &mut PluginMaps, compiled: &Compiled, symbols: &Arc<Symbols>) -> Vec<(String, Vec<String>)> {
    let mut names = Names::new(Arc::<Symbols>::clone(symbols));
    let mut out = Vec::new();
    for (number, map) in compiled.plugin_maps.iter().enumerate() {
        let elements = maps.read(number as u32, &mut names).unwrap_or_else(|e| panic!("@{}: {e}", map.name));
        let columns: Vec<&Column> = elements.keys.iter().chain(&elements.values).collect();
        let rows = columns.first().map_or(0, |column| column.values.len());
        for row in 0..rows {
            let word = |column: &&Column| word(&column.values, row, &elements.strings, &names);
            let words = std::iter::once(format!("@{}", map.name)).chain(columns.iter().map(word));
            out.push((map.name.clone(), words.collect()));
        }
    }
    out
}

fn word(values: &Values, row: usize, strings: &[String], names: &Names) -> String {
    match values {
        Values::U64(values) => values[row].to_string(),
        Values::S64(values) => values[row].to_string(),
        Values::Text(values) => strings[values[row] as usize].clone(),
        Values::Bytes { ends, data } => {
            let from = row.checked_sub(1).map_or(0, |before| ends[before]);
            format!("{:02x?}", &data[from as usize..ends[row] as usize])
        }
        Values::Stack(values) => {
            let frames = names.resolve(&values[row..=row]).concat();
            let functions: Vec<String> = frames.into_iter().map(|frame| frame.function.unwrap_or_default()).collect();
            functions.join(";")
        }
    }
}
