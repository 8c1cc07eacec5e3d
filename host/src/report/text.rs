//! The report in words, for whoever sat before the run.

use std::fmt::Write;

use super::{Left, Plugin, Report, State};
use crate::{
    cage::Account,
    contract::{Interval, ProbeCounts},
    output::{
        clean,
        units::{bytes, count, nanoseconds},
    },
};

/// How many spans in flight are listed.
const LISTED: usize = 5;

impl Report {
    /// The report in words. It ends with a line end.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write_text(&mut text);
        text
    }

    /// What was lost, in words, or that nothing was; and whether the counts add up. It ends with a line end.
    pub fn to_brief_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.outcome(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        self.gate(text)?;
        if let Some(command) = &self.command {
            let name = command.argv.first().map(String::as_str).unwrap_or_default();
            let status = command.status.as_deref().unwrap_or("still runs");
            writeln!(text, "The command {} {status}.", clean::line(name))?;
        }
        for plugin in &self.plugins {
            writeln!(text)?;
            plugin_text(text, plugin, self.common_pauses().is_none())?;
        }
        if !self.symbolizers.is_empty() {
            writeln!(text)?;
        }
        for symbolizer in &self.symbolizers {
            process_text(text, "", "the symbolizer", symbolizer)?;
        }
        writeln!(text)?;
        self.outcome(text)
    }

    fn outcome(&self, text: &mut String) -> std::fmt::Result {
        let violations = self.check();
        self.losses(text, violations.is_empty())?;
        if !violations.is_empty() {
            writeln!(text, "The counts do not add up. This is a bug in portcullis; please report it with these lines:")?;
            for violation in violations {
                writeln!(text, "  {violation}")?;
            }
        }
        Ok(())
    }

    fn gate(&self, text: &mut String) -> std::fmt::Result {
        let probes: usize = self.plugins.iter().map(|plugin| plugin.probes.len()).sum();
        let who = format!("{} of {}", number(probes as u64, "probe"), number(self.plugins.len() as u64, "plugin"));
        let skew = self.attach.map(|attach| nanoseconds(attach.last.saturating_sub(attach.first)));
        if !self.gate.enabled {
            writeln!(text, "There was no gate: {who} began one by one, as each was attached.")?;
            if let Some(skew) = skew {
                writeln!(text, "From the first to the last that took {skew}.")?;
            }
            return Ok(());
        }
        let Some(open) = self.gate.open else {
            return writeln!(text, "The gate never opened, and nothing was recorded.");
        };
        let width = nanoseconds(open.latest.saturating_sub(open.earliest));
        writeln!(text, "The gate opened once for all: {who} began at one instant, known to within {width}.")?;
        if let Some(skew) = skew {
            writeln!(text, "Attaching them took {skew} from the first to the last; nothing of that time was recorded.")?;
        }
        let probes = self.plugins.iter().flat_map(|plugin| &plugin.probes);
        let closed: u64 = probes.map(|probe| probe.counts.hits_closed + probe.counts.entry_hits_closed).sum();
        let before: u64 = self.plugins.iter().flat_map(|plugin| &plugin.probes).map(|probe| probe.before).sum();
        match closed {
            0 => writeln!(text, "The probes did not fire while the gate was closed.")?,
            _ => {
                let (closed, before) = (times(closed), times(before));
                writeln!(
                    text,
                    "While the gate was closed the probes fired {closed}, {before} before the opening; the gate kept that out."
                )?;
            }
        }
        self.appointment(text)?;
        self.pauses(text)?;
        if let Some(close) = self.gate.close {
            let ran = nanoseconds(close.earliest.saturating_sub(open.latest));
            let quiet = nanoseconds(self.gate.quiesced.saturating_sub(close.latest));
            writeln!(text, "The gate closed after {ran}; {quiet} later the last program in flight had ended.")?;
        }
        Ok(())
    }

    /// Whether a moment was met that was said before, and how well this machine knows the time.
    fn appointment(&self, text: &mut String) -> std::fmt::Result {
        let Some(at) = self.gate.appointment else { return Ok(()) };
        let clock = match self.clocks.and_then(|clocks| clocks.discipline) {
            Some(clock) if clock.synchronised => {
                let (likely, most) = (nanoseconds(clock.estimated_error), nanoseconds(clock.max_error));
                format!("which is kept in step with others to within {likely} by its own estimate, {most} at most")
            }
            Some(_) => "which nobody keeps in step with others".to_owned(),
            None => "of which the kernel does not say how well it is kept".to_owned(),
        };
        let priority = if at.real_time { "" } else { ", without real-time priority" };
        writeln!(
            text,
            "It was to open at {}: it had {} later{priority}, by this machine's clock, {clock}.",
            at.moment,
            nanoseconds(at.late)
        )
    }

    /// How often the gate was closed for all in between.
    fn pauses(&self, text: &mut String) -> std::fmt::Result {
        let Some(pauses) = self.common_pauses().filter(|pauses| !pauses.is_empty()) else { return Ok(()) };
        let long = pauses.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        writeln!(text, "In between it was paused {}, for {} in all.", times(pauses.len() as u64), nanoseconds(long))
    }

    /// The pauses, if all plugins had the same.
    fn common_pauses(&self) -> Option<Vec<(u64, u64)>> {
        let mut all = self.plugins.iter().map(pauses);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// What was lost and where, or, if the counts can be trusted, that nothing was.
    fn losses(&self, text: &mut String, trusted: bool) -> std::fmt::Result {
        let mut nothing = true;
        let mut say = |text: &mut String, plugin: &str, lost: u64, what: &str, how: &str| {
            if lost == 0 {
                return Ok(());
            }
            nothing = false;
            writeln!(text, "Lost by plugin {plugin}: {} {how}", number(lost, what))
        };
        for plugin in &self.plugins {
            let sum = |of: fn(&ProbeCounts) -> u64| plugin.probes.iter().map(|probe| of(&probe.counts)).sum();
            let ring_full = plugin.streams.iter().map(|stream| stream.counts.ring_full).sum();
            let name = &plugin.name;
            say(text, name, ring_full, "event", "for want of room in the ring (a larger `limits.ring` holds more)")?;
            let why = match plugin.state {
                State::Ok => "that it did not take in time (`stop.drain` gives it longer)",
                State::Failed(_) => "that it had not taken when it failed",
            };
            say(text, name, plugin.undelivered, "event", why)?;
            say(text, name, sum(|c| c.lost), "span", "for want of room for their begin")?;
            say(text, name, plugin.kernel_misses, "hit", "for which the kernel did not run the program")?;
        }
        let mut shed = false;
        for plugin in &self.plugins {
            let hits: u64 = plugin.probes.iter().map(|probe| probe.counts.shed).sum();
            if hits > 0 {
                shed = true;
                writeln!(
                    text,
                    "Shed by plugin {}: {} over {}, as was asked for",
                    plugin.name,
                    number(hits, "hit"),
                    limit(plugin)
                )?;
            }
        }
        if nothing && trusted {
            let emitted: u64 = self.plugins.iter().map(Plugin::emitted).sum();
            let nothing = if shed { "Nothing else was lost" } else { "Nothing was lost" };
            writeln!(text, "{nothing}: {} recorded, and as many delivered.", number(emitted, "event"))?;
        }
        Ok(())
    }
}

/// What sheds hits, as its manifest has it.
fn limit(plugin: &Plugin) -> String {
    plugin.rate.map_or("its rate".to_owned(), |rate| match rate.burst == rate.a_second {
        true => format!("`limits.rate = {}`", rate.a_second),
        false => format!("`limits.rate = {}` (`burst = {}`)", rate.a_second, rate.burst),
    })
}

/// From the close of a window to the opening of the next.
fn pauses(plugin: &Plugin) -> Vec<(u64, u64)> {
    let pairs = plugin.windows.iter().zip(plugin.windows.iter().skip(1));
    pairs.filter_map(|(one, next)| Some((one.close?.latest, next.open.earliest))).collect()
}

/// What of a plugin's time in the run was its own.
fn course(text: &mut String, plugin: &Plugin) -> std::fmt::Result {
    let width = |overlap: Interval| nanoseconds(overlap.latest.saturating_sub(overlap.earliest));
    if let Some(overlap) = plugin.took_over {
        writeln!(text, "  took over from the version before it; for {} both were open", width(overlap))?;
    }
    match plugin.left {
        Some(Left::Asked) => writeln!(text, "  left before the end, as it was asked to"),
        Some(Left::Replaced { overlap: Some(overlap) }) => {
            writeln!(text, "  a new version took over; for {} both were open", width(overlap))
        }
        Some(Left::Replaced { overlap: None }) => writeln!(text, "  a new version took over while it was paused"),
        None => Ok(()),
    }
}

/// `own_pauses`: not all plugins had the same.
fn plugin_text(text: &mut String, plugin: &Plugin, own_pauses: bool) -> std::fmt::Result {
    match &plugin.state {
        State::Ok => writeln!(text, "plugin {}: ok", plugin.name)?,
        State::Failed(cause) => {
            writeln!(text, "plugin {}: FAILED: {}", plugin.name, clean::lines(cause).trim_end().replace('\n', "\n    "))?;
        }
    }
    course(text, plugin)?;
    let pauses = if own_pauses { pauses(plugin) } else { Vec::new() };
    if !pauses.is_empty() {
        let long = pauses.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        writeln!(text, "  paused {}, for {} in all", times(pauses.len() as u64), nanoseconds(long))?;
    }
    process_text(text, "  ", "its worker", &plugin.worker)?;
    for door in &plugin.doors {
        writeln!(text, "  it {}", clean::line(door))?;
    }
    for missing in &plugin.missing {
        let reason = missing.reason.lines().next().unwrap_or_default();
        writeln!(text, "  not on this kernel: probe {}: {}", missing.probe, clean::line(reason))?;
    }
    let mut grid = Grid::new(&["probe", "by", "before", "hits", "unpaired", "filtered", "completed", "in flight"]);
    for probe in &plugin.probes {
        let c = &probe.counts;
        let unpaired = if c.span { c.unpaired.map_or("skipped".into(), count) } else { String::new() };
        let in_flight = if c.span { count(c.in_flight) } else { String::new() };
        grid.row([
            c.name.clone(),
            probe.mechanism.clone(),
            count(probe.before),
            count(c.hits),
            unpaired,
            count(c.filtered),
            count(c.completed),
            in_flight,
        ]);
    }
    grid.write(text, 2)?;
    for counts in plugin.probes.iter().map(|probe| &probe.counts).filter(|counts| counts.shed > 0) {
        writeln!(text, "  hits of {} that {} shed: {}", counts.name, limit(plugin), count(counts.shed))?;
    }
    let mut grid = Grid::new(&["stream", "events", "no room"]);
    for stream in &plugin.streams {
        grid.row([stream.name.clone(), count(stream.counts.emitted), count(stream.counts.ring_full)]);
    }
    grid.write(text, 1)?;
    if plugin.undelivered > 0 {
        writeln!(text, "  delivered {} of {}", count(plugin.delivered), count(plugin.emitted()))?;
    }
    let sum = |of: fn(&ProbeCounts) -> u64| plugin.probes.iter().map(|probe| of(&probe.counts)).sum::<u64>();
    for (what, value) in [
        ("reads of memory that was not there", sum(|c| c.read_fault)),
        ("texts cut short", sum(|c| c.truncated)),
        ("map elements without room", sum(|c| c.map_full)),
        ("rows that its limits kept from being shown", plugin.dropped.rows),
        ("lines that its limits kept from being shown", plugin.dropped.lines),
        ("messages that its limits kept from the log", plugin.dropped.messages),
    ] {
        if value > 0 {
            writeln!(text, "  {what}: {}", count(value))?;
        }
    }
    for (name, value) in &plugin.metrics {
        writeln!(text, "  {} = {value}", clean::line(name))?;
    }
    let mut spans: Vec<_> = plugin.in_flight.iter().collect();
    spans.sort_by_key(|span| std::cmp::Reverse(span.age));
    for span in spans.iter().take(LISTED) {
        writeln!(text, "  in flight at a close: {} of thread {}, for {}", span.probe, span.tid, nanoseconds(span.age))?;
    }
    if spans.len() > LISTED {
        writeln!(text, "  and {} younger", count((spans.len() - LISTED) as u64))?;
    }
    Ok(())
}

/// What memory a caged process took, as whom; and which layers its cage lacks, if any.
fn process_text(text: &mut String, indent: &str, name: &str, account: &Account) -> std::fmt::Result {
    let Account { missing, uid, usage } = account;
    if let Some(peak) = usage.peak {
        let resident = usage.resident.map_or(String::new(), |resident| format!("{} resident, ", bytes(resident)));
        let user = uid.map_or(String::new(), |uid| format!(", as user {uid}"));
        writeln!(text, "{indent}{name}: {resident}{} at the most{user}", bytes(peak))?;
    }
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        writeln!(text, "{indent}the cage of {name} lacks: {}", clean::line(&missing.join(", ")))?;
    }
    Ok(())
}

/// A small table whose rows are all known.
struct Grid<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Grid<N> {
    fn new(titles: &[&str; N]) -> Grid<N> {
        Grid { rows: vec![titles.map(str::to_owned)] }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| clean::line(&cell).into_owned()));
    }

    /// The first `left` columns to the left, the others, numbers, to the right; nothing if there is only the title.
    fn write(&self, text: &mut String, left: usize) -> std::fmt::Result {
        if self.rows.len() < 2 {
            return Ok(());
        }
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let cells =
                row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                    if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                });
            writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn number(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

fn times(number: u64) -> String {
    match number {
        0 => "not once".into(),
        1 => "once".into(),
        _ => format!("{} times", count(number)),
    }
}
