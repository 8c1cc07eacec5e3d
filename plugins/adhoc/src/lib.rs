//! Runs the probes of its config and shows every row of every stream, in a table named after the stream.
//!
//! Any spec can be tried without writing a plugin:
//!
//! ```toml
//! [plugin.config]
//! probes = [{ name = "p", attach = ["tracepoint:sched:sched_switch"], body = "emit s { cpu, next: args.next_comm };" }]
//! ```

use portcullis_sdk::{
    CellKind, Cells, Column, Error, Kind, SchemaField, SchemaStream, TableColumn, TableNumber, TableRows, TableValues, Unit,
    Values, append, prelude::*,
};
use serde::Deserialize;

/// The plugin's config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    probes: Vec<ProbeConfig>,
}

/// A probe as the bundle has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeConfig {
    name: String,
    attach: Vec<String>,
    when: Option<String>,
    body: String,
    #[serde(default)]
    optional: bool,
}

struct Adhoc {
    /// The name and table of each stream, by its number.
    streams: Vec<(String, TableNumber)>,
}

impl Plugin for Adhoc {
    type Config = Config;

    fn configure(config: Config, program: &mut Program) -> Result<Self> {
        for ProbeConfig { name, attach, when, body, optional } in config.probes {
            program.probe(Probe { name, attach, when, body, optional });
        }
        Ok(Adhoc { streams: Vec::new() })
    }

    fn prepare(&mut self, schema: &Schema, tables: &mut Tables) -> Result<()> {
        for stream in &schema.streams {
            let columns = stream.fields.iter().map(|field| declaration(stream, field)).collect::<Result<_>>()?;
            self.streams.push((stream.name.clone(), tables.declare(&stream.name, columns)));
        }
        Ok(())
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        let strings: Vec<&str> = batch.strings.iter().map(String::as_str).collect();
        for rows in &batch.rows {
            let Some((stream, table)) = self.streams.get(rows.stream as usize) else {
                return Err(Error::new(format!(
                    "a batch has rows of stream number {}, and the schema has no such stream",
                    rows.stream
                )));
            };
            let columns = rows.columns.iter().map(|column| values(stream, column)).collect::<Result<Vec<_>>>()?;
            append(*table, TableRows { time: &rows.time, columns: &columns, strings: &strings })?;
        }
        Ok(())
    }
}

/// The table's column for a stream's.
fn declaration(stream: &SchemaStream, field: &SchemaField) -> Result<TableColumn> {
    let kind = match field.kind {
        Kind::U64 => CellKind::U64,
        Kind::S64 => CellKind::S64,
        Kind::Text => CellKind::Text,
        Kind::Bytes | Kind::Stack => {
            let (stream, column, kind) = (&stream.name, &field.name, field.kind.name());
            return Err(Error::new(format!(
                "stream `{stream}`, column `{column}`: a table shows numbers and text, and this is of kind {kind}; leave it out of the `emit`"
            )));
        }
    };
    Ok(TableColumn { name: column_name(&field.name), kind, unit: Unit::None })
}

/// A batch's column as one of the table, uncopied.
fn values<'b>(stream: &str, column: &'b Column) -> Result<TableValues<'b>> {
    let cells = match &column.values {
        Values::U64(values) => Cells::U64(values),
        Values::S64(values) => Cells::S64(values),
        Values::Text(numbers) => Cells::Text(numbers),
        Values::Bytes(_) | Values::Stack(_) => {
            return Err(Error::new(format!("stream `{stream}`: a batch has a column of another kind than the schema says")));
        }
    };
    Ok(TableValues { cells, absent: &column.absent })
}

/// A column's name in the table: as in the stream, but for those that every row has from the host.
fn column_name(field: &str) -> String {
    match field {
        "plugin" | "table" | "time" => format!("{field}_"),
        _ => field.to_owned(),
    }
}

portcullis_sdk::plugin!(Adhoc);
