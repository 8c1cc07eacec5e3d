//! Who a caged process becomes where the host is root: a user of its own, whom nobody else on the machine is.
//!
//! Two workers of one user could signal each other, were it not for the other layers. The numbers are of a range that no system gives
//! to anybody (systemd's "Users, Groups, UIDs and GIDs on systemd Systems" lists 1879048192 to 2147483647 as unused): the host's
//! process id tells hosts apart, and a slot the processes of one host.

use std::{
    fmt, fs, io,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Layer, Missing};

/// A user and a group, as the host's user namespace numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// `nobody`, also outside of namespaces (`overflowuid`, kernel/sys.c).
pub const NOBODY: User = User { uid: 65534, gid: 65534 };

/// The first of the range.
const FIRST: u32 = 0x7000_0000;

/// Process ids are below this (`PID_MAX_LIMIT`, include/linux/threads.h), so the range ends at 0x7fff_ffff.
const PIDS: u32 = 1 << 22;

/// Caged processes of one host that have a user of their own at a time.
const SLOTS: u32 = u64::BITS;

/// The slots of this host that are taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

impl User {
    /// That of a slot of the host with this process id.
    fn of_slot(host: u32, slot: u32) -> User {
        let number = FIRST + host % PIDS * SLOTS + slot;
        User { uid: number, gid: number }
    }

    /// It is of the range, and so of one process alone.
    pub fn is_own(self) -> bool {
        self.uid >= FIRST && self.uid <= FIRST + (PIDS * SLOTS - 1)
    }
}

/// As on the command line of a worker: `UID:GID`.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for User {
    type Err = ();

    /// Root is none of them.
    fn from_str(text: &str) -> Result<User, ()> {
        let (uid, gid) = text.split_once(':').ok_or(())?;
        let number = |text: &str| text.parse().ok().filter(|number| *number != 0).ok_or(());
        Ok(User { uid: number(uid)?, gid: number(gid)? })
    }
}

/// A slot of this host; free again when this is dropped.
#[derive(Debug)]
struct Slot(u32);

impl Slot {
    /// The lowest that is free.
    fn take() -> Option<Slot> {
        let lowest = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        let before = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, lowest).ok()?;
        Some(Slot(before.trailing_ones()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
    }
}

/// The user that one process becomes. If it is one of its own, nobody else is it for as long as this lives.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None` where the host is not root: the process stays who the host is.
    pub(super) user: Option<User>,
    _slot: Option<Slot>,
}

impl Lease {
    /// Takes the user that was asked for, or else one of its own.
    pub(super) fn take(asked: Option<User>, missing: &mut Vec<Missing>) -> io::Result<Lease> {
        let root = rustix::process::geteuid().is_root();
        if let Some(user) = asked {
            check(user, root)?;
            return Ok(Lease { user: Some(user), _slot: None });
        }
        if !root {
            missing.push(Missing::new(Layer::User, &"the host is not root, and can become nobody else"));
            return Ok(Lease { user: None, _slot: None });
        }
        if !is_mapped(User::of_slot(std::process::id(), 0)) {
            missing.push(Missing::new(Layer::User, &"this user namespace does not have the users of the range"));
            return Ok(Lease { user: Some(NOBODY), _slot: None });
        }
        let Some(slot) = Slot::take() else {
            missing.push(Missing::new(Layer::User, &"this host has 64 processes with a user of their own"));
            return Ok(Lease { user: Some(NOBODY), _slot: None });
        };
        Ok(Lease { user: Some(User::of_slot(std::process::id(), slot.0)), _slot: Some(slot) })
    }
}

/// Whether a user that a person asked for can be had.
fn check(user: User, root: bool) -> io::Result<()> {
    if !root {
        let reason = format!("`sandbox.uid`: the host is not root, and can't become user {}; leave it out", user.uid);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    if !is_mapped(user) {
        let reason = format!(
            "`sandbox.uid`: user {} with group {} is not in this user namespace (/proc/self/uid_map, gid_map)",
            user.uid, user.gid
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}

/// The host's user namespace has this user and this group. Where that can't be read, it is taken to have: the cage says if it was not so.
fn is_mapped(user: User) -> bool {
    let has = |map: &str, id: u32| fs::read_to_string(map).map_or(true, |map| covers(&map, id));
    has("/proc/self/uid_map", user.uid) && has("/proc/self/gid_map", user.gid)
}

/// Lines of `first-inside first-outside count` (user_namespaces(7)).
fn covers(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => id.checked_sub(first).is_some_and(|at| at < count),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every host and slot has a number of its own within the range, and what is not of it is nobody's own.
    #[test]
    fn numbers() {
        assert_eq!(User::of_slot(0, 0).uid, 1_879_048_192);
        assert_eq!(User::of_slot(PIDS - 1, SLOTS - 1).uid, 2_147_483_647);
        assert_eq!(User::of_slot(7, 3).uid + SLOTS, User::of_slot(8, 3).uid);
        assert!(User::of_slot(0, 0).is_own() && User::of_slot(PIDS - 1, SLOTS - 1).is_own());
        let other = |uid| User { uid, gid: uid };
        assert!(!NOBODY.is_own() && !other(FIRST - 1).is_own() && !other(0x8000_0000).is_own());
    }

    /// A user goes to the command line and back; root and nonsense do not.
    #[test]
    fn text() {
        let user = User { uid: 4242, gid: 17 };
        assert_eq!(user.to_string().parse(), Ok(user));
        for text in ["0:1", "1:0", "1", "", "x:1", "1:x", "-1:1", "4294967296:1"] {
            assert_eq!(text.parse::<User>(), Err(()), "{text}");
        }
    }

    /// A namespace has the users of its map and no others.
    #[test]
    fn maps() {
        let all = "         0          0 4294967295\n";
        assert!(covers(all, 0) && covers(all, u32::MAX - 1) && !covers(all, u32::MAX));
        let some = "0 1000 1\n1 100000 65536\n";
        assert!(covers(some, 0) && covers(some, 65536) && !covers(some, 65537) && !covers(some, FIRST));
        assert!(!covers("", 0) && !covers("nonsense\n", 0));
    }

    /// No slot is given twice, the lowest goes first, and one that was given back is given again.
    #[test]
    fn slots() {
        // No other test of this process takes one.
        let mut all: Vec<Slot> = std::iter::from_fn(Slot::take).collect();
        assert_eq!(all.iter().map(|slot| slot.0).collect::<Vec<_>>(), (0..SLOTS).collect::<Vec<_>>());
        drop(all.remove(5));
        assert_eq!(Slot::take().unwrap().0, 5);
        drop(all);
        assert_eq!(TAKEN.load(Ordering::Relaxed), 0);
    }
}
