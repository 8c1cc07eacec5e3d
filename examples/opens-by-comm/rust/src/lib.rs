//! Counts openat(2) by comm, with the total and the longest latency: the example in Rust, with the SDK.
//!
//! Build it with `cargo build -p portcullis-example-opens-by-comm --profile plugin --target wasm32-wasip2`.

use std::collections::BTreeMap;

use portcullis_sdk::prelude::*;

#[derive(Row)]
struct Open<'a> {
    comm: &'a str,
    duration: u64,
}

#[derive(TableRow)]
struct Line<'a> {
    #[time]
    time: u64,
    comm: &'a str,
    count: u64,
    #[unit(nanoseconds)]
    total: u64,
    #[unit(nanoseconds)]
    longest: u64,
}

#[derive(Default)]
struct Sum {
    count: u64,
    total: u64,
    longest: u64,
}

struct OpensByComm {
    stream: Stream<Open<'static>>,
    table: Table<Line<'static>>,
    sums: BTreeMap<String, Sum>,
}

impl Plugin for OpensByComm {
    type Config = NoConfig;

    fn configure(_: NoConfig, program: &mut Program) -> Result<Self> {
        program.probe(Probe::new("openat").attach("span:syscall:openat").body("emit opens { comm, duration };"));
        Ok(OpensByComm { stream: program.stream("opens"), table: program.table("opens_by_comm"), sums: BTreeMap::new() })
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        for Open { comm, duration } in batch.rows(&self.stream)? {
            let sum = match self.sums.get_mut(comm) {
                Some(sum) => sum,
                None => self.sums.entry(comm.to_owned()).or_default(),
            };
            sum.count += 1;
            sum.total += duration;
            sum.longest = sum.longest.max(duration);
        }
        Ok(())
    }

    fn finish(&mut self, closing: &Closing) -> Result<()> {
        for (comm, Sum { count, total, longest }) in &self.sums {
            self.table.push(Line { time: closing.quiesced, comm, count: *count, total: *total, longest: *longest });
        }
        Ok(())
    }
}

portcullis_sdk::plugin!(OpensByComm);
