//! The end of a run, in the midst of numbered calls: what each of two probes has counted last.

use anyhow::Result;

use super::{Experiment, Load, ROUNDS, Session, Tool, session::TICKS};
use crate::place::Place;

pub(super) const EXPERIMENTS: [Experiment; 2] = [
    Experiment {
        name: "stop by Ctrl-C",
        measures: &["calls after the last of one probe that the other still counted"],
        rounds: ROUNDS,
        run: interrupt,
    },
    Experiment {
        name: "stop by exit()",
        measures: &[
            "calls after exit() counted by the probe that stopped first",
            "calls after exit() counted by the probe that stopped last",
        ],
        rounds: ROUNDS,
        run: exit,
    },
];

fn interrupt(tool: &Tool, place: &Place) -> Result<Vec<u64>> {
    let load = Load::seeks(place)?;
    let pid = load.pid();
    let program = format!(
        "tracepoint:syscalls:sys_enter_lseek /pid == {pid}/ {{ @enter = max(args.offset); }}
        tracepoint:syscalls:sys_exit_lseek /pid == {pid}/ {{ @exit = max(args.ret); }}
        {TICKS}"
    );
    let mut session = tool.trace(place, &program)?;
    session.settle()?;
    Session::interrupt(&[&session])?;
    Ok(vec![session.finish()?.apart("@enter", "@exit")?])
}

fn exit(tool: &Tool, place: &Place) -> Result<Vec<u64>> {
    let load = Load::seeks(place)?;
    let pid = load.pid();
    // Both probes have begun long before the call that ends the run.
    let program = format!(
        "tracepoint:syscalls:sys_enter_lseek /pid == {pid}/ {{
            @enter = max(args.offset);
            @calls++;
            if (@calls == 200000) {{ @at = args.offset; exit(); }}
        }}
        tracepoint:syscalls:sys_exit_lseek /pid == {pid}/ {{ @exit = max(args.ret); }}"
    );
    let output = tool.trace(place, &program)?.finish()?;
    let at = output.value("@at")?;
    // Of the call that called exit() itself the exit may be the one that was not counted.
    let mut after = [output.value("@enter")?.saturating_sub(at), output.value("@exit")?.saturating_sub(at)];
    after.sort_unstable();
    Ok(after.to_vec())
}
