//! What the host itself gives a process that is to be caged: the user that it becomes, and the cgroups that it is put in.

use std::io;

use super::{
    Account, Layer, Missing, Usage, User,
    cgroup::{Cgroup, Limits},
    connections::Filter,
    most_threads,
    user::{Lease, NOBODY},
};
use crate::doors::Peers;

/// They are the process's own until this is dropped, which is when it has ended.
#[derive(Debug)]
pub struct Outside {
    lease: Lease,
    // It is taken off its cgroup before that is removed.
    filter: Option<Filter>,
    cgroup: Option<Cgroup>,
    missing: Vec<Missing>,
}

impl Outside {
    /// For a process that may have so many bytes of memory; `user` is one that a person asked for.
    ///
    /// # Errors
    /// If that user can't be had. What else can't be is missing.
    pub fn new(memory: u64, user: Option<User>) -> io::Result<Outside> {
        let mut missing = Vec::new();
        let lease = Lease::take(user, &mut missing)?;
        let cgroup = Cgroup::new(Limits { memory, threads: most_threads(true) });
        let cgroup = cgroup.map_err(|reason| missing.push(Missing::new(Layer::MemoryCgroup, &reason))).ok();
        Ok(Outside { lease, filter: None, cgroup, missing })
    }

    /// Lets the process connect to these and nobody else, if it is to connect at all; before it is started.
    pub fn connect_to(&mut self, peers: &[Peers]) {
        if !peers.is_empty() {
            let filter = Filter::new(peers, self.cgroup.as_ref());
            self.filter = filter.map_err(|reason| self.missing.push(Missing::new(Layer::Connections, &reason))).ok();
        }
    }

    /// The user, as the process is told on its command line.
    pub fn argument(&self) -> String {
        self.lease.user.unwrap_or(NOBODY).to_string()
    }

    /// Puts the process in its cgroups. It was started and sent nothing yet.
    pub(super) fn admit(&mut self, pid: u32) {
        if let Some(cgroup) = &self.cgroup
            && let Err(reason) = cgroup.admit(pid)
        {
            self.missing.push(Missing::new(Layer::MemoryCgroup, &reason));
        }
        if let Some(filter) = &self.filter
            && let Err(reason) = filter.admit(pid)
        {
            self.missing.push(Missing::new(Layer::Connections, &reason));
        }
    }

    /// Notes a layer that could not be had where the process was started.
    pub(super) fn lacks(&mut self, layer: Option<Missing>) {
        self.missing.extend(layer);
    }

    /// The layers that the host could not give it.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What is said of the process, whose cage lacks these layers in all.
    pub fn account(&self, missing: Vec<Missing>) -> Account {
        Account { missing, uid: self.lease.user.map(|user| user.uid), usage: Usage::default() }
    }
}
