//! Runs the probes of its config and shows every row of every stream, in a table named after the stream.
//!
//! Any spec can be tried without writing a plugin:
//!
//! ```toml
//! [plugin.config]
//! probes = [{ name = "p", attach = ["tracepoint:sched:sched_switch"], body = "emit s { cpu, next: args.next_comm };" }]
//! ```
//!
//! `portcullis trace` gives it a program besides: rows of some streams are actions then, which are done as they arrive.

mod actions;
mod cells;
mod lines;
mod maps;
mod tables;

use std::time::Duration;

use actions::{Bound, Operand};
use cells::Reader;
use lines::Lines;
use maps::{How, Maps};
use portcullis_adhoc_program::{Action, Cell, Clock, Program as Actions, What, printf};
use portcullis_sdk::{RawRows, TimerNumber, prelude::*};
use serde::Deserialize;
use tables::StreamTable;

/// The plugin's config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    probes: Vec<ProbeConfig>,
    #[serde(default)]
    program: Actions,
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
    program: Actions,
    /// What is done with the rows of each stream, by its number.
    streams: Vec<Use>,
    maps: Maps,
    reader: Reader,
    lines: Lines,
    /// The latest time that is known, for rows of maps.
    now: u64,
    clock: Clock,
    /// An `exit` was done: of what follows, only `END` counts.
    exited: bool,
}

/// What rows are for.
enum Use {
    /// They are shown.
    Table(StreamTable),
    /// The action is done for each.
    Action(Bound),
}

impl Plugin for Adhoc {
    type Config = Config;

    fn configure(config: Config, program: &mut Program) -> Result<Self> {
        for ProbeConfig { name, attach, when, body, optional } in config.probes {
            program.probe(Probe { name, attach, when, body, optional });
        }
        if let Some(interval) = config.program.display.interval {
            program.timer(Duration::from_nanos(interval));
        }
        let clock = Clock { realtime_offset: 0, utc_offset: config.program.display.utc_offset };
        let lines = Lines::new(config.program.display.json);
        Ok(Adhoc {
            program: config.program,
            streams: Vec::new(),
            maps: Maps::default(),
            reader: Reader::default(),
            lines,
            now: 0,
            clock,
            exited: false,
        })
    }

    fn prepare(&mut self, schema: &Schema, tables: &mut Tables) -> Result<()> {
        let streams = schema.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>();
        let declared = self.lines.declare(&self.program.actions, &streams, tables);
        let taken: Vec<&str> = streams.into_iter().chain(declared.iter().map(String::as_str)).collect();
        self.maps = Maps::new(schema, self.program.display.json, &taken, tables);
        for stream in &schema.streams {
            let action = self.program.actions.iter().find(|action| action.stream == stream.name);
            self.streams.push(match action {
                Some(action) => Use::Action(Bound::new(action.clone(), stream, &self.maps)?),
                None => {
                    let end = self.program.end_streams.contains(&stream.name);
                    Use::Table(StreamTable::new(stream, end, tables))
                }
            });
        }
        Ok(())
    }

    fn start(&mut self, opening: &Opening) -> Result<()> {
        self.clock.realtime_offset = opening.realtime_offset;
        self.now = opening.gate.map_or(0, |gate| gate.latest);
        Ok(())
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        let strings: Vec<&str> = batch.strings.iter().map(String::as_str).collect();
        self.reader.learn(batch.rows.iter().flat_map(|rows| &rows.columns));
        let mut turns = Turns::new(batch, &self.streams)?;
        // Rows are shown together, up to the next action: what is printed stands where it happened.
        while let Some((rows, row)) = turns.next_action() {
            turns.show(&self.streams, &mut self.lines, &strings, self.exited, &self.reader)?;
            let Some(Use::Action(bound)) = self.streams.get(rows.stream as usize) else { continue };
            if self.exited && !bound.action.end {
                continue;
            }
            let time = rows.time.get(row).copied().unwrap_or_default();
            self.now = self.now.max(time);
            let cells = bound.operands.iter().map(|operand| match operand {
                Operand::Column(column) => {
                    rows.columns.get(*column).map_or(Cell::Absent, |column| self.reader.cell(column, row, &strings))
                }
                Operand::Fixed(text) => Cell::Text(text.clone()),
            });
            let Action { what, .. } = &bound.action;
            let mut text = String::new();
            match what {
                What::Printf { pieces } => printf(&mut text, pieces, cells, self.clock),
                What::Value { map, keys, tuple } => {
                    text = portcullis_adhoc_program::value(map.as_deref(), *keys, *tuple, &cells.collect::<Vec<_>>());
                }
                What::Time { format } => text = portcullis_adhoc_program::time(format, time, self.clock),
                What::Join { delimiter } => text = portcullis_adhoc_program::join(delimiter, cells),
                What::Exit { code } => {
                    self.exited = true;
                    portcullis_sdk::stop(if *code == 0 { "exit()".to_owned() } else { format!("exit({code})") });
                    continue;
                }
                What::Print { keys, take, top, div, .. } => {
                    let how = How { time, top: top.or(self.program.display.top), div: *div, take: *take, asked: true };
                    let element: Vec<Cell> = cells.take(*keys).collect();
                    self.maps.print(bound.map, how, &element, &mut self.reader, &mut self.lines)?;
                    continue;
                }
                What::Clear { .. } => {
                    self.maps.clear(bound.map)?;
                    continue;
                }
                What::Zero { .. } => {
                    self.maps.zero(bound.map)?;
                    continue;
                }
            }
            self.lines.push(what.name(), time, text)?;
        }
        turns.show(&self.streams, &mut self.lines, &strings, self.exited, &self.reader)?;
        self.lines.flush()
    }

    fn tick(&mut self, _: TimerNumber) -> Result<()> {
        self.now = self.now.saturating_add(self.program.display.interval.unwrap_or_default());
        self.print_all(self.program.display.clear)
    }

    fn finish(&mut self, closing: &Closing) -> Result<()> {
        self.now = closing.quiesced;
        self.print_all(false)?;
        self.lines.finish()
    }
}

impl Adhoc {
    /// Prints all maps in which there is something.
    fn print_all(&mut self, take: bool) -> Result<()> {
        let how = How { time: self.now, top: self.program.display.top, div: None, take, asked: false };
        for number in self.maps.numbers() {
            self.maps.print(number, how, &[], &mut self.reader, &mut self.lines)?;
        }
        self.lines.flush()
    }
}

/// Goes through a batch in the order of its events.
struct Turns<'b> {
    batch: &'b Batch,
    order: std::slice::Iter<'b, u32>,
    /// For each list of rows: whether they are actions, the next row, and the first one that was not shown.
    places: Vec<(bool, usize, usize)>,
}

impl<'b> Turns<'b> {
    fn new(batch: &'b Batch, streams: &[Use]) -> Result<Turns<'b>> {
        let places = batch.rows.iter().map(|rows| match streams.get(rows.stream as usize) {
            Some(what) => Ok((matches!(what, Use::Action(_)), 0, 0)),
            None => {
                Err(Error::new(format!("a batch has rows of stream number {}, and the schema has no such stream", rows.stream)))
            }
        });
        Ok(Turns { batch, order: batch.order.iter(), places: places.collect::<Result<_>>()? })
    }

    /// The next row of an action.
    fn next_action(&mut self) -> Option<(&'b RawRows, usize)> {
        loop {
            // The only list of a batch has no order: its turn is always.
            let position = match self.batch.rows.as_slice() {
                [_] => 0,
                _ => *self.order.next()? as usize,
            };
            let rows = self.batch.rows.get(position)?;
            let (action, next, _) = self.places.get_mut(position)?;
            if *next >= rows.time.len() {
                return None;
            }
            let row = *next;
            *next += 1;
            if *action {
                return Some((rows, row));
            }
        }
    }

    /// Shows the rows that were passed and not shown.
    fn show(&mut self, streams: &[Use], lines: &mut Lines, strings: &[&str], exited: bool, reader: &Reader) -> Result<()> {
        for (rows, (_, next, shown)) in self.batch.rows.iter().zip(&mut self.places) {
            if let Some(Use::Table(table)) = streams.get(rows.stream as usize)
                && shown < next
            {
                let range = std::mem::replace(shown, *next)..*next;
                if exited && !table.end {
                    continue;
                }
                lines.flush()?;
                table.append(rows, range, strings, reader)?;
            }
        }
        Ok(())
    }
}

portcullis_sdk::plugin!(Adhoc);
