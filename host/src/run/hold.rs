//! Attached, and the gate closed: waiting for what opens it.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::bail;
use rustix::event::{PollFd, PollFlags, poll};

use super::{control, plugins::Plugins, timespec};
use crate::{
    clock,
    control::{Answer, Asked, PluginState, Request, Server},
    kernel::tai::{self, Discipline},
    manifest::{Moment, Open, Start},
    ready::Ready,
    report::Appointment,
    session::Attached,
    signals::{Signals, interrupted},
};

/// How long before a moment the rest of the wait is one that nothing interrupts.
const NEAR: Duration = Duration::from_millis(20);

/// How long a wait for a moment goes without a look at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(1);

/// What opens the gate.
#[derive(Debug, Default)]
pub(super) struct Go {
    /// For whom; `None` for all.
    pub(super) plugins: Option<Vec<usize>>,
    /// Who waits for an answer.
    pub(super) asked: Option<Asked>,
    /// The moment that was waited for.
    pub(super) appointment: Option<Appointment>,
}

/// An appointment that has passed can't be kept.
pub(super) fn check(open: Open) -> anyhow::Result<()> {
    if let Open::At(moment) = open
        && moment.0 <= clock::realtime()
    {
        bail!("the gate is to open at {moment}, which has passed (it is {}); nothing was run", Moment(clock::realtime()));
    }
    Ok(())
}

/// Waits until the gate is to be opened.
///
/// # Errors
/// If the run is not to be: it was interrupted, or a plugin of it has failed.
pub(super) fn wait(
    attached: &Attached,
    start: &Start,
    plugins: &mut Plugins,
    server: Option<&Server>,
    signals: &Signals,
    ready: &Ready,
) -> anyhow::Result<Go> {
    let since = Instant::now();
    let settled = since + start.settle;
    if start.open != Open::Attached {
        ready.waiting();
    }
    // What was asked for while it settled.
    let mut go: Option<Go> = None;
    loop {
        signals.clear();
        if let Some(signal) = signals.received() {
            bail!(interrupted(signal));
        }
        if plugins.fail_early()? {
            // A plugin has asked for the end already. The run has one.
            return Ok(Go::default());
        }
        if signals.open_asked() {
            go.get_or_insert_default();
        }
        while go.is_none()
            && let Some(asked) = server.and_then(Server::try_recv)
        {
            go = heed(asked, attached, plugins)?;
        }
        let now = Instant::now();
        let left = match start.open {
            _ if go.is_some() => settled.checked_duration_since(now),
            Open::Attached => settled.checked_duration_since(now),
            Open::After(after) => (since + after).max(settled).checked_duration_since(now),
            Open::Manual => Some(Duration::MAX),
            Open::At(moment) => match approach(moment, attached)? {
                Some(left) => Some(left),
                None => return Ok(Go { appointment: Some(keep(moment)), ..Go::default() }),
            },
        };
        let Some(left) = left.filter(|left| !left.is_zero()) else { return Ok(go.unwrap_or_default()) };
        let mut fds = vec![PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(plugins.as_fd(), PollFlags::IN)];
        // One request opens; those behind it are heard afterwards.
        fds.extend(server.filter(|_| go.is_none()).map(|server| PollFd::new(server, PollFlags::IN)));
        // An interrupted wait is one that looks again.
        let _ = poll(&mut fds, Some(&timespec(left)));
    }
}

/// Answers a request, or takes it as the one that opens.
fn heed(asked: Asked, attached: &Attached, plugins: &Plugins) -> anyhow::Result<Option<Go>> {
    match asked.request.clone() {
        Request::Open { plugin: None } => return Ok(Some(Go { asked: Some(asked), ..Go::default() })),
        Request::Open { plugin: Some(name) } => match plugins.named(&name) {
            Some(number) => return Ok(Some(Go { plugins: Some(vec![number]), asked: Some(asked), appointment: None })),
            None => asked.answer(Err(control::no_plugin(&name))),
        },
        Request::Close { plugin: None } => {
            asked.answer(Ok(Answer::Ending));
            bail!("ended by `portcullis gate close` before the gate opened: nothing was recorded");
        }
        Request::Status => {
            let status = control::status(plugins, None, |_| PluginState::Attached, |number| attached.counts(number));
            asked.answer(Ok(Answer::Status(status)));
        }
        _ => asked.answer(Err("the gate has not been opened yet: `portcullis gate open` does".into())),
    }
    Ok(None)
}

/// How long to wait before the next look; `None` if the moment is near.
fn approach(moment: Moment, attached: &Attached) -> anyhow::Result<Option<Duration>> {
    let late = clock::realtime().saturating_sub(moment.0);
    let since_attached = clock::now().saturating_sub(attached.attached().latest);
    if late > 0 && late >= since_attached {
        bail!(
            "the gate was to open at {moment}, and the last probe was attached {:?} later: start the run earlier; nothing was recorded",
            Duration::from_nanos(late - since_attached)
        );
    }
    let left = Duration::from_nanos(moment.0.saturating_sub(clock::realtime()));
    Ok(left.checked_sub(NEAR).filter(|left| !left.is_zero()).map(|left| left.min(LOOK)))
}

/// Waits for the moment itself.
fn keep(moment: Moment) -> Appointment {
    let offset = Discipline::read().map_or(0, |discipline| u64::try_from(discipline.tai_offset).unwrap_or(0));
    let moment_tai = moment.0.saturating_add(offset * 1_000_000_000);
    let real_time = tai::wait_until(moment_tai);
    Appointment { moment, real_time, late: 0 }
}
