//! Whom a worker with a network door may connect to. Landlock knows ports alone; programs on the worker's own cgroup know addresses.

use std::{io, net::SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Layer, Missing, cgroup::Cgroup};
use crate::{doors::Peers, kernel::connections::Connections};

/// What the host gives a worker: its cgroup of version 2 lets it connect to what is granted.
#[derive(Debug)]
pub(super) struct Filter {
    // They are detached before the cgroup is removed.
    _programs: Connections,
    /// A cgroup for that alone, where memory is counted in another tree or in none.
    cgroup: Option<Cgroup>,
}

impl Filter {
    /// On the cgroup that counts memory, if that is one of version 2, or on a further one.
    pub(super) fn new(peers: &[Peers], memory: Option<&Cgroup>) -> Result<Filter, String> {
        let ranges: Vec<_> = peers.iter().map(Peers::range).collect();
        let restrict = |cgroup| Connections::restrict(cgroup, &ranges).map_err(|error| error.to_string());
        if let Some(directory) = memory.and_then(Cgroup::unified) {
            return Ok(Filter { _programs: restrict(directory)?, cgroup: None });
        }
        let cgroup = Cgroup::plain()?;
        let programs = restrict(cgroup.unified().ok_or("it is not of version 2")?)?;
        Ok(Filter { _programs: programs, cgroup: Some(cgroup) })
    }

    /// Puts the process in the further cgroup, if there is one.
    pub(super) fn admit(&self, pid: u32) -> Result<(), String> {
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.admit(pid))
    }
}

/// Where nobody may connect to: TCP knows no groups, and a door no port 0. Without a program in the way, that is what the kernel says
/// (`ENETUNREACH`) before it sends anything.
const NOWHERE: [&str; 2] = ["224.0.0.1:0", "[ff02::1]:0"];

/// The worker tries whether it holds: on kernels before 5.15 a socket has no cgroup of version 2 where those of version 1 mark networks
/// (net_cls, net_prio), and nobody tells.
pub(super) fn check(missing: &mut Vec<Missing>) {
    for nowhere in NOWHERE {
        if let Err(reason) = refused(nowhere) {
            missing.push(Missing::new(Layer::Connections, &reason));
            return;
        }
    }
}

fn refused(nowhere: &str) -> Result<(), String> {
    let address: SocketAddr = nowhere.parse().map_err(|error| format!("{nowhere}: {error}"))?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
        Ok(socket) => socket,
        // Whom it can't speak to at all it can't connect to.
        Err(rustix::io::Errno::AFNOSUPPORT) => return Ok(()),
        Err(error) => return Err(format!("it could not be tried: {}", io::Error::from(error))),
    };
    match rustix::net::connect(&socket, &address) {
        Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(format!("a connection to {nowhere} was not refused by it: {}", io::Error::from(error))),
        Ok(()) => Err(format!("a connection to {nowhere} was not refused")),
    }
}
