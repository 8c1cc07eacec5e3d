//! Write Portcullis tracing plugins in Rust.
//!
//! A plugin is a struct, the trait [`Plugin`] and one macro, [`plugin!`]. It is built for the target `wasm32-wasip2` as a
//! `cdylib`, and the `.wasm` file that comes out is what a bundle names as its `source`.
//!
//! ```
//! use portcullis_sdk::prelude::*;
//!
//! /// A row of the stream `opens`, and of the table of the same name.
//! #[derive(Row, TableRow)]
//! struct Open<'a> {
//!     #[time]
//!     time: u64,
//!     comm: &'a str,
//!     #[unit(nanoseconds)]
//!     duration: u64,
//!     path: Option<&'a str>,
//! }
//!
//! struct Opens {
//!     opens: Stream<Open<'static>>,
//!     table: Table<Open<'static>>,
//! }
//!
//! impl Plugin for Opens {
//!     type Config = NoConfig;
//!
//!     fn configure(_: NoConfig, program: &mut Program) -> Result<Self> {
//!         program.probe(
//!             Probe::new("open")
//!                 .attach("span:syscall:openat")
//!                 .body("emit opens { comm, duration, path: str(entry.args.filename) };"),
//!         );
//!         Ok(Opens { opens: program.stream("opens"), table: program.table("opens") })
//!     }
//!
//!     fn handle(&mut self, batch: &Batch) -> Result<()> {
//!         for open in batch.rows(&self.opens)? {
//!             self.table.push(open);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! portcullis_sdk::plugin!(Opens);
//! # fn main() {}
//! ```
//!
//! # How a plugin runs
//!
//! The host calls [`Plugin::configure`] with the plugin's `config` table of the bundle, compiles the probes that it registered,
//! and calls [`Plugin::prepare`] with the streams and maps as the compiler understood them. By then every [`Stream`] and [`Map`] has
//! been checked: a column that is not there, or of another kind than its field, ends the run before the gate opens. While the gate is open come
//! [`Plugin::handle`] with batches of events and [`Plugin::tick`] with timers; [`Plugin::finish`] comes last.
//!
//! What probes gather in maps of the kernel, `@counts[comm] = count()`, is read with [`Map::read`] or [`Map::take`], at any time from
//! [`Plugin::start`] to [`Plugin::finish`]; in `finish` nothing changes it any more.
//!
//! Rows that were pushed into a [`Table`] go to the host at the end of each call.
//!
//! Times are nanoseconds of CLOCK_MONOTONIC.

// The derive macros name this crate as its users do.
extern crate self as portcullis_sdk;

mod bindings_module;
mod config;
mod error;
mod field;
mod instance;
mod map;
mod output;
mod plugin;
mod process;
mod program;
mod row;
mod stack;
mod table;

pub mod errno;
pub mod maps;

#[doc(hidden)]
pub use bindings_module::bindings;
#[doc(hidden)]
pub use instance::Instance;

pub use bindings_module::bindings::{
    Batch, Closing, Opening, Schema,
    portcullis::plugin::{
        log::Level,
        output::{CellKind, Cells, TableColumn, TableRows, TableValues, Unit},
        process::Facts as ProcessFacts,
        stacks::Frame,
        types::{
            BytesValues, Column, Content, Field as SchemaField, Interval, Kind, Map as SchemaMap, Probe, ProbeCounts,
            Rows as RawRows, Stream as SchemaStream, StreamCounts, Values,
        },
    },
};
pub use config::{Nanoseconds, NoConfig};
pub use error::{Error, Result};
pub use field::{ColumnOf, Cut, Field};
pub use map::{Elements, Key, Map, Part, PartColumn};
pub use output::{append, debug, error as log_error, info, log, print, set_metric, stop, warn};
pub use plugin::Plugin;
pub use portcullis_sdk_macros::{Row, TableRow};
pub use process::lookup;
pub use program::{Program, TableNumber, Tables, TimerNumber};
pub use row::{FieldSpec, Order, Row, Rows, Source, Stream, Turn};
pub use stack::{Stack, resolve};
pub use table::{Cell, CellBuffer, NumberBuffer, Table, TableRow, TextBuffer, Texts};

/// The Rust code in the project's documents compiles.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/plugins.md")]
    struct Plugins;
}

/// What nearly every plugin uses.
pub mod prelude {
    pub use crate::{
        Batch, Closing, Error, Map, Nanoseconds, NoConfig, Opening, Plugin, Probe, Program, Result, Row, Schema, Stack, Stream,
        Table, TableRow, Tables,
    };
}
