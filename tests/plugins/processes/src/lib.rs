//! Shows what is known of the processes that call getppid(2), and of those that its config names:
//!
//! ```toml
//! [plugin.config]
//! others = [1]    # looked up in `start`
//! ```

use std::collections::BTreeSet;

use portcullis_sdk::{Opening, lookup, prelude::*};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    others: Vec<u32>,
}

#[derive(Row)]
struct Call {
    pid: u64,
}

#[derive(TableRow)]
struct Shown {
    #[time]
    started: u64,
    pid: u64,
    parent: Option<u64>,
    uid: Option<u64>,
    comm: Option<String>,
    executable: Option<String>,
    arguments: Option<String>,
}

struct Processes {
    others: Vec<u32>,
    seen: BTreeSet<u32>,
    calls: Stream<Call>,
    table: Table<Shown>,
}

impl Processes {
    fn show(&mut self, pids: &[u32]) -> Result<()> {
        for (pid, facts) in pids.iter().zip(lookup(pids)?) {
            let facts = facts.as_ref();
            self.table.push(Shown {
                started: facts.map_or(0, |facts| facts.started),
                pid: u64::from(*pid),
                parent: facts.map(|facts| facts.parent.into()),
                uid: facts.map(|facts| facts.uid.into()),
                comm: facts.map(|facts| facts.comm.clone()),
                executable: facts.and_then(|facts| facts.executable.clone()),
                arguments: facts.and_then(|facts| Some(facts.arguments.as_ref()?.join(" "))),
            });
        }
        Ok(())
    }
}

impl Plugin for Processes {
    type Config = Config;

    fn configure(config: Config, program: &mut Program) -> Result<Self> {
        program.probe(Probe::new("calls").attach("tracepoint:syscalls:sys_enter_getppid").body("emit calls { pid };"));
        Ok(Processes {
            others: config.others,
            seen: BTreeSet::new(),
            calls: program.stream("calls"),
            table: program.table("processes"),
        })
    }

    fn start(&mut self, _: &Opening) -> Result<()> {
        let others = std::mem::take(&mut self.others);
        self.show(&others)
    }

    fn handle(&mut self, batch: &Batch) -> Result<()> {
        let pids: BTreeSet<u32> = batch.rows(&self.calls)?.map(|call| call.pid as u32).collect();
        let new: Vec<u32> = pids.difference(&self.seen).copied().collect();
        self.seen.extend(&new);
        self.show(&new)
    }
}

portcullis_sdk::plugin!(Processes);
