//! Whom the processes of a cgroup may connect to: programs on it that let pass what is granted ([`portcullis_ebpf::connections`]).

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use portcullis_ebpf::connections::{Family, Range, TooMany, program};
use rustix::io::Errno;

use super::{
    map::raise_memlock,
    program::try_load,
    sys::{self, Load, SysError},
};

/// Where each kind of program goes.
const KINDS: [(Family, bpf_attach_type); 2] =
    [(Family::V4, bpf_attach_type::BPF_CGROUP_INET4_CONNECT), (Family::V6, bpf_attach_type::BPF_CGROUP_INET6_CONNECT)];

/// The programs of a cgroup. They are on it until this is dropped. Where this process is killed they stay until the cgroup is removed, so
/// that nobody in there outlives them.
#[derive(Debug)]
pub(crate) struct Connections {
    cgroup: File,
    attached: Vec<(OwnedFd, bpf_attach_type)>,
}

/// A cgroup whose connections can't be kept to what is granted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionsError {
    /// Its directory can't be opened.
    #[error("can't open {path}: {error}")]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// More is granted than a program can hold.
    #[error("{0}")]
    TooMany(#[from] TooMany),
    /// The kernel refused a program.
    #[error("{error}{}", if error.errno == Errno::PERM { "; this takes CAP_BPF and CAP_NET_ADMIN" } else { "" })]
    Load {
        /// The call and why.
        error: SysError,
    },
    /// The kernel refused to attach one.
    #[error("{error}{}", if error.errno == Errno::PERM { "; a cgroup above has a program that allows none below it: it would have to be attached with BPF_F_ALLOW_MULTI" } else { "" })]
    Attach {
        /// The call and why.
        error: SysError,
    },
    /// What somebody else wants of all connections would not hold any more.
    #[error(
        "a cgroup above has a program that one below replaces (BPF_F_ALLOW_OVERRIDE): it would have to be attached with BPF_F_ALLOW_MULTI"
    )]
    Replaces,
}

impl Connections {
    /// Keeps a cgroup of version 2, which nobody is in yet, to what is granted. Programs on cgroups above it hold as well.
    pub(crate) fn restrict(cgroup: &Path, granted: &[Range]) -> Result<Connections, ConnectionsError> {
        let open = File::open(cgroup).map_err(|error| ConnectionsError::Cgroup { path: cgroup.to_owned(), error })?;
        let mut made = Connections { cgroup: open, attached: Vec::new() };
        for (family, kind) in KINDS {
            let insns = program(family, granted)?;
            let load = Load {
                kind: bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
                attach: Some(kind as u32),
                btf_id: 0,
                btf_object: None,
                functions: None,
                name: "pc_connections",
                insns: &insns,
            };
            made.attach(loaded(&load)?, kind)?;
        }
        Ok(made)
    }

    fn attach(&mut self, program: OwnedFd, kind: bpf_attach_type) -> Result<(), ConnectionsError> {
        let refused = |error| ConnectionsError::Attach { error };
        let count = || sys::cgroup_programs(self.cgroup.as_fd(), kind).map_err(refused);
        let before = count()?;
        sys::cgroup_attach(self.cgroup.as_fd(), program.as_fd(), kind).map_err(refused)?;
        let after = count();
        self.attached.push((program, kind));
        if after? > before { Ok(()) } else { Err(ConnectionsError::Replaces) }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for (program, kind) in &self.attached {
            // What remains goes with the cgroup.
            let _ = sys::cgroup_detach(self.cgroup.as_fd(), program.as_fd(), *kind);
        }
    }
}

fn loaded(load: &Load<'_>) -> Result<OwnedFd, ConnectionsError> {
    let program = match try_load(load, None) {
        // Before Linux 5.11 programs count against RLIMIT_MEMLOCK, as maps do.
        Err(SysError { errno: Errno::PERM, .. }) => {
            raise_memlock();
            try_load(load, None)
        }
        program => program,
    };
    program.map_err(|error| ConnectionsError::Load { error })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use aya_obj::generated::bpf_cmd;

    use super::*;
    use crate::kernel::sys::{Call, fake};

    /// What is asked of the kernel, where each cgroup has so many programs above it and attaching adds `each` to what runs.
    fn asked(each: u32, refuse: Option<(bpf_cmd, Errno)>) -> (Result<(), String>, Vec<(bpf_cmd, u32)>) {
        let calls: Rc<RefCell<Vec<(bpf_cmd, u32)>>> = Rc::default();
        let (seen, running) = (Rc::clone(&calls), RefCell::new(1));
        let fake = fake::install(move |call| {
            let Call::Bpf { cmd, attr } = call else { panic!("nothing else is called") };
            let kind = match cmd {
                // SAFETY: each command uses the member that is read, and all of them are plain numbers.
                bpf_cmd::BPF_PROG_LOAD => unsafe { attr.__bindgen_anon_3.expected_attach_type },
                // SAFETY: as above.
                bpf_cmd::BPF_PROG_QUERY => unsafe { attr.query.attach_type },
                // SAFETY: as above.
                _ => unsafe { attr.__bindgen_anon_5.attach_type },
            };
            seen.borrow_mut().push((*cmd, kind));
            if let Some((refused, errno)) = refuse
                && refused == *cmd
            {
                return Some(Err(errno));
            }
            Some(Ok(match cmd {
                bpf_cmd::BPF_PROG_LOAD => fake::descriptor(),
                bpf_cmd::BPF_PROG_QUERY => {
                    attr.query.__bindgen_anon_2.prog_cnt = *running.borrow();
                    0
                }
                bpf_cmd::BPF_PROG_ATTACH => {
                    // SAFETY: as above.
                    assert_eq!(unsafe { attr.__bindgen_anon_5.attach_flags }, 2, "BPF_F_ALLOW_MULTI");
                    *running.borrow_mut() += each;
                    0
                }
                _ => 0,
            }))
        });
        let directory = tempfile::tempdir().unwrap();
        let result = Connections::restrict(directory.path(), &[]).map(drop).map_err(|error| error.to_string());
        drop(fake);
        (result, calls.take())
    }

    const V4: u32 = bpf_attach_type::BPF_CGROUP_INET4_CONNECT as u32;
    const V6: u32 = bpf_attach_type::BPF_CGROUP_INET6_CONNECT as u32;

    /// Each family's program is loaded for its place, attached beside those above, and detached at the end.
    #[test]
    fn both_families() {
        use bpf_cmd::{BPF_PROG_ATTACH, BPF_PROG_DETACH, BPF_PROG_LOAD, BPF_PROG_QUERY};
        let (result, calls) = asked(1, None);
        assert_eq!(result, Ok(()));
        let each = |kind| [BPF_PROG_LOAD, BPF_PROG_QUERY, BPF_PROG_ATTACH, BPF_PROG_QUERY].map(|command| (command, kind));
        let expect: Vec<_> = each(V4).into_iter().chain(each(V6)).chain([(BPF_PROG_DETACH, V4), (BPF_PROG_DETACH, V6)]).collect();
        assert_eq!(calls, expect);
    }

    /// What would replace a program of somebody else's is taken back, and what is refused says what it takes.
    #[test]
    fn refusals() {
        let (result, calls) = asked(0, None);
        assert!(result.unwrap_err().contains("BPF_F_ALLOW_OVERRIDE"));
        assert_eq!(calls.last(), Some(&(bpf_cmd::BPF_PROG_DETACH, V4)));
        let error = |command, errno| asked(1, Some((command, errno))).0.unwrap_err();
        assert_eq!(
            error(bpf_cmd::BPF_PROG_LOAD, Errno::PERM),
            "bpf(BPF_PROG_LOAD): Operation not permitted (os error 1); this takes CAP_BPF and CAP_NET_ADMIN"
        );
        assert_eq!(error(bpf_cmd::BPF_PROG_LOAD, Errno::INVAL), "bpf(BPF_PROG_LOAD): Invalid argument (os error 22)");
        assert!(
            error(bpf_cmd::BPF_PROG_ATTACH, Errno::PERM).contains("; a cgroup above has a program that allows none below it: ")
        );
        let none = Connections::restrict(Path::new("/no/such/cgroup"), &[]).unwrap_err().to_string();
        assert_eq!(none, "can't open /no/such/cgroup: No such file or directory (os error 2)");
    }
}
