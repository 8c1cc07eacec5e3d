//! Runs the probes of its config and shows what their maps hold:
//!
//! ```toml
//! [plugin.config]
//! probes = [{ name = "p", attach = ["tracepoint:sched:sched_switch"], body = "@counts[comm] = count();" }]
//! period = "10ms"    # take all maps that often
//! write = { limits = 5 }    # set the element of a map without keys, in `start`
//! ```
//!
//! The table `elements` has a row for each element and moment: `start` after the writing, `tick` for each take, `finish`. Stacks are
//! shown as the functions of their frames.

use std::collections::BTreeMap;

use portcullis_sdk::{
    Column, Elements, Error, Map, Stack, TimerNumber, Values,
    maps::{self, Elements as RawElements},
    prelude::*,
    resolve,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    probes: Vec<ProbeConfig>,
    period: Option<Nanoseconds>,
    #[serde(default)]
    write: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeConfig {
    name: String,
    attach: String,
    when: Option<String>,
    body: String,
}

/// An element that is written.
#[derive(Row)]
struct Single {
    value: i64,
}

#[derive(TableRow)]
struct Shown<'a> {
    #[time]
    time: u64,
    moment: &'static str,
    map: &'a str,
    key: String,
    value: String,
}

struct Maps {
    names: Vec<String>,
    written: Vec<(Map<Single>, i64)>,
    table: Table<Shown<'static>>,
}

impl Plugin for Maps {
    type Config = Config;

    fn configure(config: Config, program: &mut Program) -> Result<Self> {
        for ProbeConfig { name, attach, when, body } in config.probes {
            program.probe(Probe { name, attach: vec![attach], when, body, optional: false });
        }
        if let Some(Nanoseconds(period)) = config.period {
            program.timer(std::time::Duration::from_nanos(period));
        }
        let written = config.write.iter().map(|(name, value)| (program.map(name), *value)).collect();
        Ok(Maps { names: Vec::new(), written, table: program.table("elements") })
    }

    fn prepare(&mut self, schema: &Schema, _: &mut Tables) -> Result<()> {
        self.names = schema.maps.iter().map(|map| map.name.clone()).collect();
        Ok(())
    }

    fn start(&mut self, _: &Opening) -> Result<()> {
        for (map, value) in &self.written {
            map.write([((), *value)])?;
            let elements: Elements<Single> = map.read()?;
            for Single { value } in elements.rows()? {
                self.table.push(Shown {
                    time: 0,
                    moment: "start",
                    map: map.name(),
                    key: String::new(),
                    value: value.to_string(),
                });
            }
        }
        Ok(())
    }

    fn handle(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    fn tick(&mut self, _: TimerNumber) -> Result<()> {
        self.show("tick", maps::take)
    }

    fn finish(&mut self, _: &Closing) -> Result<()> {
        self.show("finish", maps::read)
    }
}

impl Maps {
    fn show(&self, moment: &'static str, get: fn(u32) -> Result<RawElements, String>) -> Result<()> {
        for (number, map) in (0..).zip(&self.names) {
            let elements = get(number).map_err(Error::new)?;
            let rows = elements.values.first().map_or(0, |column| column.values.len());
            for row in 0..rows {
                let part = |column: &Column| cell(column, row, &elements.strings);
                let all = |columns: &[Column]| columns.iter().map(part).collect::<Vec<_>>().join(",");
                let (key, value) = (all(&elements.keys), all(&elements.values));
                self.table.push(Shown { time: 0, moment, map, key, value });
            }
        }
        Ok(())
    }
}

fn cell(column: &Column, row: usize, strings: &[String]) -> String {
    let shown = match &column.values {
        Values::U64(values) => values.get(row).map(ToString::to_string),
        Values::S64(values) => values.get(row).map(ToString::to_string),
        Values::Text(index) => index.get(row).and_then(|at| strings.get(*at as usize)).cloned(),
        Values::Bytes(bytes) => {
            let end = bytes.ends.get(row).copied().unwrap_or(0) as usize;
            let start = row.checked_sub(1).and_then(|before| bytes.ends.get(before)).map_or(0, |end| *end as usize);
            bytes.data.get(start..end).map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        Values::Stack(stacks) => stacks.get(row).map(|stack| {
            let frames = resolve(&[Stack(*stack)]).pop().unwrap_or_default();
            let name = |frame: &portcullis_sdk::Frame| frame.function.clone().unwrap_or_else(|| format!("{:#x}", frame.address));
            frames.iter().map(name).collect::<Vec<_>>().join(";")
        }),
    };
    shown.unwrap_or_default()
}

portcullis_sdk::plugin!(Maps);
