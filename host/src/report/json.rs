//! The report as JSON. Its keys are an interface: programs read them.

use serde_json::{Map, Value, json};

use super::{Attach, Clocks, Left, Plugin, Probe, Report, State, Window};
use crate::{cage::Account, contract::Interval};

impl Report {
    /// The report as JSON. Times are ns of CLOCK_MONOTONIC.
    pub fn to_json(&self) -> Value {
        json!({
            "gate": {
                "enabled": self.gate.enabled,
                "open": self.gate.open.map(interval),
                "close": self.gate.close.map(interval),
                "quiesced": self.gate.quiesced,
                "at": self.gate.appointment.map(|appointment| json!({
                    "moment": appointment.moment.to_string(),
                    "late": appointment.late,
                    "real_time": appointment.real_time,
                })),
            },
            "attach": self.attach.map(attach),
            "clocks": self.clocks.map(clocks),
            "command": self.command.as_ref().map(|command| json!({"argv": command.argv, "status": command.status})),
            "symbolizers": self.symbolizers.iter().map(process).collect::<Vec<_>>(),
            "plugins": self.plugins.iter().map(plugin).collect::<Vec<_>>(),
            "violations": self.check().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

fn interval(interval: Interval) -> Value {
    json!([interval.earliest, interval.latest])
}

/// `skew` is what lay between the first and the last, which the gate made none of.
fn attach(attach: Attach) -> Value {
    json!({"first": attach.first, "last": attach.last, "skew": attach.last.saturating_sub(attach.first)})
}

fn clocks(clocks: Clocks) -> Value {
    json!({
        "monotonic_to_realtime": {"offset": clocks.realtime.offset, "error": clocks.realtime.error},
        "realtime": clocks.discipline.map(|discipline| json!({
            "synchronised": discipline.synchronised,
            "max_error": discipline.max_error,
            "estimated_error": discipline.estimated_error,
            "tai_offset": discipline.tai_offset,
        })),
    })
}

fn window(window: &Window) -> Value {
    json!({"open": interval(window.open), "close": window.close.map(interval), "quiesced": window.quiesced})
}

fn left(left: &Left) -> Value {
    match left {
        Left::Asked => json!({"why": "asked"}),
        Left::Replaced { overlap } => json!({"why": "replaced", "overlap": overlap.map(interval)}),
    }
}

fn plugin(plugin: &Plugin) -> Value {
    let state = match &plugin.state {
        State::Ok => "ok".to_owned(),
        State::Failed(cause) => format!("failed: {cause}"),
    };
    json!({
        "name": plugin.name,
        "state": state,
        "windows": plugin.windows.iter().map(window).collect::<Vec<_>>(),
        "attach": plugin.attach.map(attach),
        "left": plugin.left.as_ref().map(left),
        "took_over": plugin.took_over.map(interval),
        "drained": plugin.drained,
        "emitted": plugin.emitted(),
        "delivered": plugin.delivered,
        "undelivered": plugin.undelivered,
        "dropped": {"rows": plugin.dropped.rows, "lines": plugin.dropped.lines, "messages": plugin.dropped.messages},
        "limits": {"rate": plugin.rate.map(|rate| rate.a_second), "burst": plugin.rate.map(|rate| rate.burst)},
        "worker": process(&plugin.worker),
        "doors": plugin.doors,
        "kernel_misses": plugin.kernel_misses,
        "probes": plugin.probes.iter().map(probe).collect::<Vec<_>>(),
        "streams": plugin.streams.iter().map(|stream| json!({
            "name": stream.name,
            "attempted": stream.counts.attempted,
            "emitted": stream.counts.emitted,
            "ring_full": stream.counts.ring_full,
        })).collect::<Vec<_>>(),
        "missing": plugin.missing.iter().map(|missing| json!({
            "probe": missing.probe,
            "reason": missing.reason,
        })).collect::<Vec<_>>(),
        "in_flight_spans": plugin.in_flight.iter().map(|span| json!({
            "probe": span.probe,
            "tid": span.tid,
            "age": span.age,
        })).collect::<Vec<_>>(),
        // A number that JSON does not have becomes null.
        "metrics": plugin.metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
    })
}

/// A caged process.
fn process(account: &Account) -> Value {
    let missing = account.missing.iter().map(|missing| json!({"layer": missing.layer.as_str(), "reason": missing.reason}));
    json!({
        "uid": account.uid,
        "missing": missing.collect::<Vec<_>>(),
        "resident": account.usage.resident,
        "peak": account.usage.peak,
    })
}

fn probe(probe: &Probe) -> Value {
    let counts = &probe.counts;
    let mut value = json!({
        "name": counts.name,
        "attach": probe.attach,
        "mechanism": probe.mechanism,
        "hits": counts.hits,
        "hits_closed": counts.hits_closed,
        "hits_before": probe.before,
        "unpaired": counts.unpaired,
        "filtered": counts.filtered,
        "shed": counts.shed,
        "completed": counts.completed,
        "entered": counts.entered,
        "matched": counts.matched,
        "in_flight": counts.in_flight,
        "lost": counts.lost,
        "map_full": counts.map_full,
        "read_fault": counts.read_fault,
        "truncated": counts.truncated,
    });
    if counts.span {
        value["entry"] = json!({"hits": counts.entry_hits, "hits_closed": counts.entry_hits_closed, "entered": counts.entered});
    }
    value
}
