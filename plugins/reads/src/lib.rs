//! read(2), its enters and its exits as separate events, in the order in which the kernel wrote them.
//!
//! Two independent probes are what it is about: with a gate they begin at the same instant, so that enters and exits of a thread
//! alternate from the first event on. `count` is what an enter asks for, `ret` what an exit brings.
//!
//! Config: `which`, one of `"enter"`, `"exit"`, `"both"` (the default).

use portcullis_sdk::prelude::*;
use serde::Deserialize;

/// The plugin's config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    which: Which,
}

/// Which half of the call to watch.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Enter,
    Exit,
    #[default]
    Both,
}

/// A row of the stream `enter`.
#[derive(Row)]
struct Enter<'a> {
    #[time]
    time: u64,
    pid: u32,
    tid: u32,
    comm: &'a str,
    fd: u64,
    count: u64,
}

/// A row of the stream `exit`.
#[derive(Row)]
struct Exit<'a> {
    #[time]
    time: u64,
    pid: u32,
    tid: u32,
    comm: &'a str,
    ret: i64,
}

/// A row of the table.
#[derive(TableRow)]
struct Line<'a> {
    #[time]
    time: u64,
    pid: u32,
    tid: u32,
    comm: &'a str,
    what: &'static str,
    fd: Option<u64>,
    #[unit(bytes)]
    count: Option<u64>,
    ret: Option<i64>,
}

struct Reads {
    enters: Option<Stream<Enter<'static>>>,
    exits: Option<Stream<Exit<'static>>>,
    table: Table<Line<'static>>,
}

impl Plugin for Reads {
    type Config = Config;

    fn configure(Config { which }: Config, program: &mut Program) -> Result<Self> {
        let enters = (which != Which::Exit).then(|| {
            let probe = Probe::new("enter").attach("tracepoint:syscalls:sys_enter_read");
            program.probe(probe.body("emit enter { pid, tid, comm, fd: args.fd, count: args.count };"));
            program.stream("enter")
        });
        let exits = (which != Which::Enter).then(|| {
            let probe = Probe::new("exit").attach("tracepoint:syscalls:sys_exit_read");
            program.probe(probe.body("emit exit { pid, tid, comm, ret: args.ret };"));
            program.stream("exit")
        });
        Ok(Reads { enters, exits, table: program.table("reads") })
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        let mut enters = self.enters.as_ref().map(|stream| batch.rows(stream)).transpose()?;
        let mut exits = self.exits.as_ref().map(|stream| batch.rows(stream)).transpose()?;
        for turn in batch.order() {
            if let Some(Enter { time, pid, tid, comm, fd, count }) = enters.as_mut().and_then(|rows| rows.next_if(turn)) {
                self.table.push(Line { time, pid, tid, comm, what: "enter", fd: Some(fd), count: Some(count), ret: None });
            } else if let Some(Exit { time, pid, tid, comm, ret }) = exits.as_mut().and_then(|rows| rows.next_if(turn)) {
                self.table.push(Line { time, pid, tid, comm, what: "exit", fd: None, count: None, ret: Some(ret) });
            }
        }
        Ok(())
    }
}

portcullis_sdk::plugin!(Reads);
