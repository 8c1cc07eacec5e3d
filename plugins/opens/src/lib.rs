//! Who opens which file: every call of open(2), openat(2) and openat2(2) when it returns, with its latency and result.
//!
//! Config: `min-latency`, a duration such as `"1ms"`; calls that took less are counted as filtered.

use portcullis_sdk::{Cut, errno, prelude::*};
use serde::Deserialize;

/// The plugin's config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    min_latency: Option<Nanoseconds>,
}

/// A row of the stream.
#[derive(Row)]
struct Open<'a> {
    #[time]
    time: u64,
    pid: u32,
    comm: &'a str,
    duration: u64,
    ret: i64,
    /// None where the name could not be read.
    path: Cut<Option<&'a str>>,
}

/// A row of the table.
#[derive(TableRow)]
struct Line<'a> {
    #[time]
    time: u64,
    pid: u32,
    comm: &'a str,
    #[unit(nanoseconds)]
    latency: u64,
    /// The new descriptor, or the error's name.
    result: &'a str,
    /// With `…` behind a name that is longer than what was kept.
    path: Option<&'a str>,
}

struct Opens {
    stream: Stream<Open<'static>>,
    table: Table<Line<'static>>,
}

/// All three calls have the path as their argument `filename`.
const BODY: &str = "emit opens { pid, comm, duration, ret: retval, path: str(entry.args.filename) };";

impl Plugin for Opens {
    type Config = Config;

    fn configure(config: Config, program: &mut Program) -> Result<Self> {
        let probe = |name| {
            let probe = Probe::new(name).body(BODY);
            match config.min_latency {
                Some(Nanoseconds(latency)) => probe.when(format!("duration >= {latency}")),
                None => probe,
            }
        };
        program.probe(probe("openat").attach("span:syscall:openat"));
        // Newer architectures have no open(2), and kernels before 5.6 no openat2(2).
        program.probe(probe("others").attach("span:syscall:open").attach("span:syscall:openat2").optional());
        Ok(Opens { stream: program.stream("opens"), table: program.table("opens") })
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        for Open { time, pid, comm, duration, ret, path } in batch.rows(&self.stream)? {
            let (number, begin);
            let result = match errno::name(ret) {
                Some(name) => name,
                None => {
                    number = ret.to_string();
                    &number
                }
            };
            let path = match path {
                Cut { value: Some(kept), cut: true } => {
                    begin = format!("{kept}…");
                    Some(begin.as_str())
                }
                Cut { value, .. } => value,
            };
            self.table.push(Line { time, pid, comm, latency: duration, result, path });
        }
        Ok(())
    }
}

portcullis_sdk::plugin!(Opens);
