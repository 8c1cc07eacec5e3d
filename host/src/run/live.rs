//! The run while its gate is open, or can be opened: what happens, one thing after another, until something ends it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
    Ending, control,
    held::Held,
    joining::{Job, Joined, Joining, Purpose},
    pauses::Pauses,
    plugins::{Leaving, Plugins},
    timespec,
    watch::Watch,
};
use crate::{
    control::{Answer, Asked, PluginState, Request, Server, Status},
    manifest::{self, Manifest},
    output::describe,
    ready::Ready,
    report::{Left, State},
    session::{self, Open},
    signals::Signals,
};

/// A run that goes on.
pub(super) struct Live<'a> {
    pub(super) open: Open,
    pub(super) plugins: Plugins,
    pub(super) command: Held,
    /// The process that is traced, with which the run ends.
    pub(super) watched: Option<(u32, OwnedFd)>,
    /// When its time is over.
    pub(super) end: Option<Instant>,
    pub(super) signals: &'a Signals,
    pub(super) ready: &'a Ready,
    pub(super) server: Option<Server>,
    /// Without a gate nothing joins.
    pub(super) joining: Option<Joining>,
    pub(super) watch: Option<Watch>,
    /// Plugins that are to replace one which has not taken over itself yet.
    pub(super) postponed: Vec<(Job, Joined)>,
    pub(super) pauses: Pauses,
}

impl Live<'_> {
    /// Goes on until something ends the run.
    pub(super) fn until_the_end(&mut self) -> Ending {
        loop {
            if let Some(ending) = self.look() {
                return ending;
            }
            let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ending::Time;
            }
            let quiet = self.watch.as_ref().and_then(Watch::next);
            let timeout = left.into_iter().chain(quiet).chain(self.plugins.next_due()).min().map(timespec);
            // It can't fail with good descriptors. If it does, the run ends in order.
            if let Err(error) = self.sleep(timeout) {
                return Ending::Output(error);
            }
        }
    }

    /// Waits until there may be something.
    fn sleep(&self, timeout: Option<Timespec>) -> io::Result<()> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.plugins.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.watched.as_ref().map(|(_, process)| PollFd::new(process, PollFlags::IN)));
        fds.extend(self.command.running.as_ref().map(|running| PollFd::new(running, PollFlags::IN)));
        fds.extend(self.server.as_ref().map(|server| PollFd::new(server, PollFlags::IN)));
        fds.extend(self.joining.as_ref().map(|joining| PollFd::new(joining, PollFlags::IN)));
        fds.extend(self.watch.as_ref().map(|watch| PollFd::new(watch, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does all there is to do.
    fn look(&mut self) -> Option<Ending> {
        self.signals.clear();
        if let Some(ending) = self.plugins.listen(&mut self.open) {
            return Some(ending);
        }
        if let Some(signal) = self.signals.received() {
            return Some(Ending::Signal(signal));
        }
        if self.command.ended() {
            return Some(Ending::Command);
        }
        if let Some((pid, process)) = &self.watched
            && poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timespec(Duration::ZERO))) == Ok(1)
        {
            return Some(Ending::Process(*pid));
        }
        if self.signals.pause_asked() {
            let paused = self.pause(None);
            self.say(paused);
        }
        if self.signals.open_asked() {
            let opened = self.open(None, |_, _| true);
            self.say(opened);
        }
        while let Some(asked) = self.server.as_ref().and_then(Server::try_recv) {
            if let Some(ending) = self.heed(asked) {
                return Some(ending);
            }
        }
        for file in self.watch.as_mut().map(Watch::changed).unwrap_or_default() {
            self.built_anew(&file);
        }
        for plugin in self.plugins.due(Instant::now()) {
            self.submit(Job { plugins: vec![plugin], purpose: Purpose::Restart, asked: None });
        }
        while let Some((job, result)) = self.joining.as_mut().and_then(|joining| joining.advance(&self.open)) {
            self.arrived(job, result);
        }
        for (job, joined) in std::mem::take(&mut self.postponed) {
            self.arrived(job, Ok(joined));
        }
        None
    }

    /// What a signal did is said to whoever watches, if it did nothing.
    fn say(&self, outcome: Result<Answer, String>) {
        if let Err(error) = outcome {
            self.plugins.printer.message(&format!("portcullis: {error}"));
        }
    }

    /// Does what is asked, and answers; what takes long is answered when it is done.
    fn heed(&mut self, asked: Asked) -> Option<Ending> {
        let answer = match asked.request.clone() {
            Request::Open { plugin } => self.open(plugin.as_deref(), |_, _| true),
            Request::Resume { plugin } => self.open(plugin.as_deref(), Live::was_open),
            Request::Pause { plugin } => self.pause(plugin.as_deref()),
            Request::Close { plugin: None } => {
                asked.answer(Ok(Answer::Ending));
                return Some(Ending::Asked);
            }
            Request::Close { plugin: Some(name) } => self.leave(&name),
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Join { bundle } => {
                self.join(&bundle, asked);
                return None;
            }
            Request::Replace { plugin: name, file } => {
                self.replace(&name, file, Some(asked));
                return None;
            }
        };
        asked.answer(answer);
        None
    }

    /// The plugins that are meant: the one of this name, or all.
    fn which(&self, name: Option<&str>) -> Result<Vec<usize>, String> {
        match name {
            None => Ok(self.plugins.numbers()),
            Some(name) => self.plugins.named(name).map(|number| vec![number]).ok_or_else(|| control::no_plugin(name)),
        }
    }

    /// It was open before, or is there in place of one that was.
    fn was_open(&self, number: usize) -> bool {
        self.open.was_open(number) || self.pauses.has_returned(number)
    }

    /// Opens the plugin of this name, or all, as far as it is closed and `may`.
    fn open(&mut self, plugin: Option<&str>, may: fn(&Self, usize) -> bool) -> Result<Answer, String> {
        let mut opening = self.which(plugin)?;
        opening.retain(|number| !self.open.is_open(*number) && may(self, *number));
        let Some(at) = self.open.open(&opening).map_err(|error| error.to_string())? else {
            return Err("nothing was opened: what was meant is open already, or was never paused".into());
        };
        self.pauses.say(plugin, false);
        self.fail_to_begin(&opening);
        for number in &opening {
            self.plugins.start(*number, Some(at));
        }
        self.ready.resumed();
        Ok(Answer::Opened { plugins: self.plugins.names(&opening), at })
    }

    /// Pauses the plugin of this name, or all.
    fn pause(&mut self, plugin: Option<&str>) -> Result<Answer, String> {
        let mut closing = self.which(plugin)?;
        closing.retain(|number| self.open.is_open(*number));
        let Some(at) = self.open.pause(&closing).map_err(|error| error.to_string())? else {
            return Err("nothing was paused: what was meant is not open".into());
        };
        self.pauses.say(plugin, true);
        if !self.plugins.numbers().iter().any(|number| self.open.is_open(*number)) {
            self.ready.paused();
        }
        Ok(Answer::Paused { plugins: self.plugins.names(&closing), at })
    }

    fn leave(&mut self, name: &str) -> Result<Answer, String> {
        let number = self.plugins.named(name).ok_or_else(|| control::no_plugin(name))?;
        if self.plugins.is_taking_over(name) {
            return Err(format!("\"{name}\" is still taking over from the version before it; ask again in a moment"));
        }
        let at = self.open.close_plugin(number);
        if let Some(plugin) = self.plugins.all.get_mut(number) {
            plugin.left = Some(Left::Asked);
        }
        self.plugins.leave(number, Leaving::Finish);
        Ok(Answer::Leaving { plugin: name.into(), at })
    }

    fn status(&self) -> Status {
        let state = |number| match (self.open.is_open(number), self.was_open(number)) {
            (true, _) => PluginState::Open,
            (false, true) => PluginState::Paused,
            (false, false) => PluginState::Attached,
        };
        control::status(&self.plugins, self.open.interval(), state, |number| self.open.counts(number))
    }

    /// Takes the plugins of a bundle on their way.
    fn join(&mut self, bundle: &Path, asked: Asked) {
        let read = Manifest::read(bundle).map_err(|error| error.to_string());
        let checked = read.and_then(|manifest| {
            let taken = manifest.plugins.iter().find(|plugin| self.plugins.named(&plugin.name).is_some());
            match taken {
                Some(plugin) => Err(format!(
                    "this run has a plugin \"{}\" already; `portcullis gate replace` puts another in its place",
                    plugin.name
                )),
                None => Ok(manifest),
            }
        });
        match checked {
            Ok(mut manifest) => {
                let layers = manifest.sandbox.layers.max(self.plugins.layers);
                manifest.require(layers);
                self.submit(Job { plugins: manifest.plugins, purpose: Purpose::Join, asked: Some(asked) });
            }
            Err(error) => asked.answer(Err(error)),
        }
    }

    /// Takes another version of a plugin on its way.
    fn replace(&mut self, name: &str, file: PathBuf, asked: Option<Asked>) {
        let there = self.plugins.named(name).and_then(|number| self.plugins.all.get(number));
        match (there, asked) {
            (Some(plugin), asked) => {
                let plugin = manifest::Plugin { source: file, shipped: None, ..plugin.spec.clone() };
                self.submit(Job { plugins: vec![plugin], purpose: Purpose::Replace, asked });
            }
            (None, Some(asked)) => asked.answer(Err(control::no_plugin(name))),
            // It has failed, or was asked to leave.
            (None, None) => {}
        }
    }

    fn built_anew(&mut self, file: &Path) {
        let plugins = self.plugins.numbers().into_iter().filter_map(|number| self.plugins.all.get(number));
        let names: Vec<String> =
            plugins.filter(|plugin| plugin.spec.source == file).map(|plugin| plugin.spec.name.clone()).collect();
        for name in names {
            self.replace(&name, file.to_owned(), None);
        }
    }

    fn submit(&mut self, job: Job) {
        match (&mut self.joining, job.asked) {
            (Some(joining), asked) => joining.submit(Job { asked, ..job }),
            (None, Some(asked)) => asked.answer(Err(session::Error::NoGate.to_string())),
            (None, None) => {}
        }
    }

    /// A job is done, or was not to be.
    fn arrived(&mut self, job: Job, result: anyhow::Result<Joined>) {
        let waits = job.purpose == Purpose::Replace && job.plugins.iter().any(|plugin| self.plugins.is_taking_over(&plugin.name));
        let joined = match result {
            // What is told of the one before it leads here again.
            Ok(joined) if waits => return self.postponed.push((job, joined)),
            result => result.map_err(|error| describe(&error)),
        };
        let Job { plugins, purpose, asked } = job;
        let outcome = joined.and_then(|joined| match purpose {
            Purpose::Join => self.joined(joined),
            Purpose::Replace => self.replaced(joined),
            Purpose::Restart => self.restarted(joined),
        });
        if purpose == Purpose::Restart {
            self.say_of_restart(&plugins, &outcome);
            return;
        }
        match (asked, outcome) {
            (Some(asked), outcome) => asked.answer(outcome),
            (None, Ok(Answer::Replaced { plugin, .. })) => {
                self.plugins.printer.message(&format!("portcullis: the new version of \"{plugin}\" has taken over"));
            }
            (None, Ok(_)) => {}
            (None, Err(error)) => {
                let names: Vec<&str> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
                self.plugins
                    .printer
                    .message(&format!("{error}\nportcullis: the version of {} that runs goes on", names.join(", ")));
            }
        }
    }

    fn joined(&mut self, Joined { attached, plugins }: Joined) -> Result<Answer, String> {
        let numbers = self.open.join(attached);
        plugins.into_iter().for_each(|plugin| self.plugins.add(plugin));
        let at = self.open.open(&numbers).map_err(|error| error.to_string())?;
        let names = self.plugins.names(&numbers);
        if let Some(error) = self.fail_to_begin(&numbers) {
            return Err(error);
        }
        for number in &numbers {
            self.plugins.start(*number, at);
        }
        self.watch_also(&numbers);
        Ok(Answer::Joined { plugins: names, at })
    }

    /// A plugin that had failed is there again. Where it would be paused had it not failed, it waits with the others.
    fn restarted(&mut self, joined: Joined) -> Result<Answer, String> {
        if let Some(plugin) = joined.plugins.iter().find(|plugin| self.plugins.named(&plugin.spec.name).is_some()) {
            return Err(format!("portcullis: error: another plugin is named \"{}\" by now", plugin.spec.name));
        }
        if !joined.plugins.iter().any(|plugin| self.pauses.holds(&plugin.spec.name)) {
            return self.joined(joined);
        }
        let Joined { attached, plugins } = joined;
        let numbers = self.open.join(attached);
        plugins.into_iter().for_each(|plugin| self.plugins.add(plugin));
        self.pauses.came_back(&numbers);
        self.watch_also(&numbers);
        Ok(Answer::Joined { plugins: self.plugins.names(&numbers), at: None })
    }

    fn say_of_restart(&mut self, plugins: &[manifest::Plugin], outcome: &Result<Answer, String>) {
        for plugin in plugins {
            let left = plugin.restart.map_or(0, |restart| restart.times);
            let message = match outcome {
                Ok(_) => format!("portcullis: plugin \"{}\" was started again; {left} more times are allowed", plugin.name),
                Err(error) => format!("{error}\nportcullis: plugin \"{}\" could not be started again", plugin.name),
            };
            self.plugins.printer.message(&message);
            self.plugins.returned(plugin, outcome.is_err());
        }
    }

    fn replaced(&mut self, Joined { attached, plugins }: Joined) -> Result<Answer, String> {
        let name = plugins.first().map(|plugin| plugin.spec.name.clone()).unwrap_or_default();
        // It may have failed meanwhile; then the new one is dropped as it is.
        let old = self.plugins.named(&name).ok_or_else(|| control::no_plugin(&name))?;
        let numbers = self.open.join(attached);
        plugins.into_iter().for_each(|plugin| self.plugins.add(plugin));
        let Some(new) = numbers.first().copied() else { return Err(control::no_plugin(&name)) };
        let replaced = self.open.replace(old, new).map_err(|error| error.to_string())?;
        self.watch_also(&[new]);
        if let Some(plugin) = self.plugins.all.get_mut(old) {
            plugin.left = Some(Left::Replaced { overlap: replaced.overlap });
        }
        if let Some(plugin) = self.plugins.all.get_mut(new) {
            plugin.took_over = replaced.overlap;
        }
        self.plugins.leave(old, Leaving::HandOver(new));
        match self.fail_to_begin(&[new]) {
            Some(error) => Err(error),
            None => Ok(Answer::Replaced { plugin: name, overlap: replaced.overlap }),
        }
    }

    /// With `--watch`, files of plugins that have come are watched like those of the bundle.
    fn watch_also(&mut self, numbers: &[usize]) {
        for number in numbers {
            let (Some(watch), Some(plugin)) = (&mut self.watch, self.plugins.all.get(*number)) else { return };
            if let Err(error) = watch.add(&plugin.spec.source) {
                self.plugins.printer.message(&format!("portcullis: {error:#}"));
            }
        }
    }

    /// Plugins for which something did not begin with the opening are at their end.
    fn fail_to_begin(&mut self, numbers: &[usize]) -> Option<String> {
        let error = self.open.take_failure()?.to_string();
        self.plugins.printer.message(&format!("portcullis: error: {error}"));
        for number in numbers {
            self.open.close_plugin(*number);
            if let Some(plugin) = self.plugins.all.get_mut(*number) {
                plugin.state = State::Failed(error.clone());
            }
            self.plugins.leave(*number, Leaving::Finish);
        }
        Some(error)
    }
}
