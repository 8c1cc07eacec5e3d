//! The report of a run, from what the kernel counted and what the pumps did.

use anyhow::Context as _;

use super::plugins::{Plugin, Plugins};
use crate::{
    cage::Account,
    grants,
    output::Printer,
    report::{self, Attach, Clocks, Command, Gate, InFlight, Missing, Probe, Report, Stream},
    session::{self, Closed},
};

/// What is known beside the plugins.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) clocks: Clocks,
    pub(super) appointment: Option<report::Appointment>,
    pub(super) symbolizers: Vec<Account>,
}

pub(super) fn report(
    closed: &Closed,
    gate: bool,
    plugins: &Plugins,
    opened: &Opened,
    command: Option<Command>,
) -> anyhow::Result<Report> {
    let quiesced = closed.quiesced().context("the kernel does not say when the last program had ended")?;
    let attached = closed.attached();
    let all = plugins.all.iter().enumerate();
    let plugins = all.map(|(number, one)| {
        let context = || format!("can't read the counts of plugin \"{}\"", one.spec.name);
        if let Some(entry) = &one.entry {
            return Ok(entry.clone());
        }
        let account = closed.account(number).with_context(context)?.with_context(context)?;
        Ok(plugin(&account, one, &plugins.printer))
    });
    Ok(Report {
        gate: Gate { enabled: gate, open: closed.opened(), close: closed.interval(), quiesced, appointment: opened.appointment },
        attach: Some(Attach { first: attached.earliest, last: attached.latest }),
        clocks: Some(opened.clocks),
        command,
        symbolizers: opened.symbolizers.clone(),
        plugins: plugins.collect::<anyhow::Result<_>>()?,
    })
}

/// One plugin.
pub(super) fn plugin(account: &session::Account, plugin: &Plugin, printer: &Printer) -> report::Plugin {
    let name = |probe: usize| plugin.compiled.probes.get(probe).map(|p| p.name.clone()).unwrap_or_default();
    let drained = plugin.drained;
    let probes = plugin.compiled.probes.iter().zip(&account.probes).zip(&account.before);
    let probes = probes.map(|((probe, counts), before)| Probe {
        attach: probe.attach.clone(),
        mechanism: probe.mechanism.clone(),
        before: *before,
        counts: counts.clone(),
    });
    let streams = plugin.compiled.streams.iter().zip(&account.streams);
    let in_flight = account.in_flight.iter().map(|span| InFlight { probe: name(span.probe), tid: span.tid, age: span.age });
    report::Plugin {
        name: plugin.spec.name.clone(),
        state: plugin.state.clone(),
        windows: account.windows.clone(),
        attach: Some(Attach { first: account.attached.earliest, last: account.attached.latest }),
        left: plugin.left.clone(),
        took_over: plugin.took_over,
        drained: drained.filter(|d| d.undelivered == 0).map(|d| d.at),
        delivered: drained.map_or(0, |d| d.delivered),
        undelivered: drained.map_or(0, |d| d.undelivered),
        dropped: plugin.dropped,
        rate: plugin.spec.limits.rate,
        worker: plugin.worker.clone(),
        doors: grants::doors_in_words(&plugin.spec.grants.doors()).into_iter().map(|sentence| sentence.text).collect(),
        probes: probes.collect(),
        streams: streams.map(|(s, counts)| Stream { name: s.name.clone(), counts: *counts }).collect(),
        kernel_misses: account.misses,
        missing: plugin.missing().iter().map(|m| Missing { probe: m.probe.clone(), reason: m.reason.clone() }).collect(),
        in_flight: in_flight.collect(),
        metrics: plugin.metrics.clone().unwrap_or_else(|| printer.metrics(&plugin.spec.name)),
    }
}
