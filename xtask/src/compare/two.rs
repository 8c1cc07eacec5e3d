//! Two programs that watch the same numbered calls: with which each began, and with which it ended.

use std::fs;

use anyhow::{Context, Result};

use super::{Experiment, Load, ROUNDS, Session, Tool, output::Output, session::TICKS, tool::Kind};
use crate::place::Place;

const MEASURES: &[&str] = &["calls that only one has seen, at the start", "calls that only one has seen, at the end"];
/// What each of the two watches, and what it does.
const ATTACH: &str = "tracepoint:syscalls:sys_enter_lseek";
const BODY: &str = "@first = min(args.offset); @last = max(args.offset);";

pub(super) const EXPERIMENTS: [Experiment; 2] = [
    Experiment { name: "two scripts, started and stopped together", measures: MEASURES, rounds: ROUNDS, run: apart },
    Experiment {
        name: "two clauses of one script (bpftrace), two plugins of one bundle (Portcullis)",
        measures: MEASURES,
        rounds: ROUNDS,
        run: together,
    },
];

/// Each in a run of its own.
fn apart(tool: &Tool, place: &Place) -> Result<Vec<u64>> {
    let load = Load::seeks(place)?;
    let program = format!("{ATTACH} /pid == {}/ {{ {BODY} }}\n{TICKS}", load.pid());
    let (mut one, mut two) = (tool.trace(place, &program)?, tool.trace(place, &program)?);
    one.settle()?;
    two.settle()?;
    Session::interrupt(&[&one, &two])?;
    let (one, two) = (one.finish()?, two.finish()?);
    let distance = |map: &str| -> Result<u64> { Ok(one.value(map)?.abs_diff(two.value(map)?)) };
    Ok(vec![distance("@first")?, distance("@last")?])
}

/// Both in one run.
fn together(tool: &Tool, place: &Place) -> Result<Vec<u64>> {
    let load = Load::seeks(place)?;
    let finish = |mut session: Session| -> Result<Output> {
        session.settle()?;
        Session::interrupt(&[&session])?;
        session.finish()
    };
    match tool.kind {
        Kind::Bpftrace => {
            let clause =
                |name: &str| format!("{ATTACH} /pid == {}/ {{ {} }}", load.pid(), BODY.replace('@', &format!("@{name}_")));
            let program = format!("{}\n{}\n{TICKS}", clause("one"), clause("two"));
            let output = finish(tool.trace(place, &program)?)?;
            Ok(vec![output.apart("@one_first", "@two_first")?, output.apart("@one_last", "@two_last")?])
        }
        Kind::Portcullis => {
            let component = place.target.join("plugins/adhoc.wasm");
            let path = place.target.join("compare.toml");
            let manifest = manifest(&component.to_string_lossy(), load.pid());
            fs::write(&path, manifest).with_context(|| format!("can't write {}", path.display()))?;
            let output = finish(tool.bundle(place, &path)?)?;
            Ok(vec![output.apart("one: @first", "two: @first")?, output.apart("one: @last", "two: @last")?])
        }
    }
}

/// A bundle of two plugins with the same probe, of which the second ticks as well.
fn manifest(component: &str, pid: u32) -> String {
    let plugin = |name: &str, more: &str| {
        format!(
            r#"
[[plugin]]
name = "{name}"
source = {component:?}
grants = {{ probes = ["*"], read = ["arguments"] }}
config.probes = [
    {{ name = "seeks", attach = ["{ATTACH}"], when = "pid == {pid}", body = "{BODY}" }},
{more}]
"#
        )
    };
    let ticks = r#"    { name = "ticks", attach = ["interval:ms:100"], body = "emit tick { cpu }" },
"#;
    format!("schema = 1\nname = \"compare\"\n{}{}", plugin("one", ""), plugin("two", ticks))
}
