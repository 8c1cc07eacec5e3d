//! Sessions on the running kernel, with programs made by hand.
#![allow(clippy::unwrap_used)]

mod attach_points;
mod close;
mod gate;
mod host_run;
mod members;
mod refused;
mod without_a_gate;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use portcullis_ebpf::{Hook, Scope, output::Program};

use super::{Compiled, Config, Error, Open, Plugin};
use crate::{
    contract::{ProbeCounts, StreamCounts},
    kernel::{
        RunningKernel,
        testing::{bare, compiled, kernel_objects},
    },
};

const RING: u32 = 1 << 20;

fn plugin(name: &str, programs: Vec<Program>) -> Plugin {
    Plugin { name: name.to_owned(), compiled: compiled(programs), ring: RING }
}

fn config(gate: bool) -> Config {
    Config { gate, scope: Scope::System, tracker: None }
}

fn session(plugins: Vec<Plugin>, gate: bool) -> Compiled {
    Compiled::new(plugins, config(gate)).unwrap()
}

fn hits(counts: &(Vec<ProbeCounts>, Vec<StreamCounts>)) -> (u64, u64) {
    (counts.0[0].hits, counts.0[0].hits_closed)
}

/// Until the thread that makes the calls has come to run.
fn wait_for_hits(open: &Open) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while hits(&open.counts(0)).0 < 3 && Instant::now() < deadline {
        sleep(Duration::from_millis(1));
    }
}

/// What one program alone counts, as (hits, hits with the gate closed), with the same work done before the opening, while it is open,
/// and after the close. A kernel that has no such attach point gives none.
fn counted(hook: &Hook, gate: bool, work: impl Fn()) -> Option<(u64, u64)> {
    let kernel = RunningKernel::open().unwrap();
    let program = bare(hook.clone(), gate.then_some(0));
    let attached = match session(vec![plugin("one", vec![program])], gate).load(&kernel).unwrap().attach() {
        Ok(attached) => attached,
        Err(Error::Attach { source: crate::kernel::attach::AttachError::NoTarget(_), .. }) => return None,
        Err(error) => unreachable!("{error}"),
    };
    if gate {
        work();
    }
    let mut open = attached.open();
    assert!(open.take_failure().is_none());
    work();
    let closed = open.close();
    work();
    assert_eq!(closed.misses().unwrap(), []);
    let counts = hits(&closed.counts(0).unwrap());
    closed.detach();
    assert_eq!(kernel_objects(), Vec::<String>::new());
    Some(counts)
}
