//! How the host starts a process that is to be caged: from one thread that lives as long as the host.
//!
//! That thread is there for two reasons. A pid namespace begins with the next child of the thread that asks for it, so a thread that does
//! other things is not the place to ask; and what a child is sent at its parent's death (`PR_SET_PDEATHSIG`) it is sent at the death
//! of the *thread* that started it.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command},
    sync::{Mutex, PoisonError, mpsc},
};

use super::{Layer, Missing, Outside, returned};

/// A child, and its pid namespace if that could not be had.
type Started = (Child, Option<Missing>);

/// A command, and where the child goes.
type Order = (Command, mpsc::Sender<io::Result<Started>>);

/// The way to the thread.
static STARTER: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);

/// Starts a command as the first process of a pid namespace, and puts it in its cgroup.
pub fn spawn(command: Command, outside: &mut Outside) -> io::Result<Child> {
    let (child, missing) = order(command)?;
    outside.lacks(missing);
    outside.admit(child.id());
    Ok(child)
}

fn order(command: Command) -> io::Result<Started> {
    let (sender, child) = mpsc::channel();
    let mut order = (command, sender);
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = &*starter {
        match running.send(order) {
            Ok(()) => return receive(&child),
            // It takes no more.
            Err(mpsc::SendError(back)) => order = back,
        }
    }
    let (orders, inbox) = mpsc::channel();
    std::thread::Builder::new().name("starter".into()).spawn(move || serve(inbox))?;
    let _ = orders.send(order);
    *starter = Some(orders);
    receive(&child)
}

fn receive(child: &mpsc::Receiver<io::Result<Started>>) -> io::Result<Started> {
    child.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that starts processes is gone")))
}

fn serve(inbox: mpsc::Receiver<Order>) {
    for (command, reply) in &inbox {
        let (child, well) = start(command);
        let _ = reply.send(child);
        if !well {
            // The next child would go where this one is. Another thread takes over, and this one stays for its children.
            drop(inbox);
            loop {
                std::thread::park();
            }
        }
    }
}

/// Starts the child; false says that this thread could not return to its own pid namespace.
fn start(mut command: Command) -> (io::Result<Started>, bool) {
    match enter() {
        Ok(own) => {
            let child = command.spawn().map(|child| (child, None));
            // SAFETY: takes a descriptor of a namespace, and changes where this thread's children are.
            let back = returned(unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWPID) }.into());
            (child, back.is_ok())
        }
        Err(error) => (command.spawn().map(|child| (child, Some(Missing::new(Layer::PidNamespace, &error)))), true),
    }
}

/// The next child begins a pid namespace; the way back.
fn enter() -> io::Result<OwnedFd> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    // SAFETY: the flag changes where this thread's children are, and nothing else.
    returned(unsafe { libc::unshare(libc::CLONE_NEWPID) }.into())?;
    Ok(own.into())
}
