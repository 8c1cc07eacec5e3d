//! The report of a run, from what the kernel counted and what the pumps did.

use anyhow::Context as _;

use super::plugins::{Plugin, Plugins};
use crate::{
    report::{Attach, Command, Gate, InFlight, Missing, Probe, Report, Stream},
    session::{Closed, Misses},
};

pub(super) fn report(closed: &Closed, gate: bool, plugins: &Plugins, command: Option<Command>) -> anyhow::Result<Report> {
    let quiesced = closed.quiesced().context("the kernel does not say when the last program had ended")?;
    let misses = closed.misses().context("can't read how often the kernel skipped a program")?;
    let attached = closed.attached();
    let all = plugins.all.iter().enumerate();
    Ok(Report {
        gate: Gate { enabled: gate, open: closed.opened(), close: closed.interval(), quiesced },
        attach: Some(Attach { first: attached.earliest, last: attached.latest }),
        command,
        plugins: all.map(|(number, p)| plugin(closed, number, p, plugins, &misses)).collect::<anyhow::Result<_>>()?,
    })
}

fn plugin(
    closed: &Closed,
    number: usize,
    plugin: &Plugin,
    plugins: &Plugins,
    misses: &[Misses],
) -> anyhow::Result<crate::report::Plugin> {
    let context = || format!("can't read the counts of plugin \"{}\"", plugin.name);
    let (probes, streams) = closed.counts(number).with_context(context)?;
    let in_flight = closed.in_flight(number).with_context(context)?;
    let name = |probe: usize| plugin.compiled.probes.get(probe).map(|p| p.name.clone()).unwrap_or_default();
    let drained = plugin.drained;
    let probes = plugin.compiled.probes.iter().zip(probes);
    let streams = plugin.compiled.streams.iter().zip(streams);
    Ok(crate::report::Plugin {
        name: plugin.name.clone(),
        state: plugin.state.clone(),
        drained: drained.filter(|d| d.undelivered == 0).map(|d| d.at),
        delivered: drained.map_or(0, |d| d.delivered),
        undelivered: drained.map_or(0, |d| d.undelivered),
        probes: probes.map(|(p, counts)| Probe { attach: p.attach.clone(), mechanism: p.mechanism.clone(), counts }).collect(),
        streams: streams.map(|(s, counts)| Stream { name: s.name.clone(), counts }).collect(),
        kernel_misses: misses.iter().filter(|m| m.plugin == number).map(|m| m.count).sum(),
        missing: plugin.missing().iter().map(|m| Missing { probe: m.probe.clone(), reason: m.reason.clone() }).collect(),
        in_flight: in_flight.into_iter().map(|span| InFlight { probe: name(span.probe), tid: span.tid, age: span.age }).collect(),
        metrics: plugins.printer.metrics(&plugin.name),
    })
}
