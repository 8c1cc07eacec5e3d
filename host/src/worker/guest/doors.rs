//! The doors that are open, as WASI has them.
//!
//! A door that is shut is what WASI says of it: no variable is set, there is no directory, and a connection is refused.

use std::{fs::File, io, net::SocketAddr, sync::Arc};

use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    FsPerms, OpenMode, WasiCtxBuilder,
    filesystem::{Descriptor, Dir},
    p2::bindings::filesystem::preopens,
    sockets::SocketAddrUse,
};

use super::imports::State;
use crate::doors::{OpenDirectory, Opened};

/// How many threads read and write files where the plugin does not wait for them at once.
const FILE_THREADS: usize = 4;

/// A directory that the component finds open, and what it calls it.
pub(super) type Preopen = (Dir, String);

/// The runtime: what wasmtime-wasi wants to find on this thread. Without connections it has no input and output, so it holds no
/// descriptor; with them a thread looks after them.
pub(super) fn runtime(doors: &Opened) -> io::Result<Runtime> {
    if doors.network.is_empty() {
        return Builder::new_current_thread().enable_time().max_blocking_threads(FILE_THREADS).build();
    }
    Builder::new_multi_thread().worker_threads(1).enable_io().enable_time().max_blocking_threads(FILE_THREADS).build()
}

/// Opens the environment and the network in a context.
pub(super) fn open(builder: &mut WasiCtxBuilder, doors: &Opened) {
    // The plugin has one thread, and waits for its files on it.
    builder.envs(&doors.environment).allow_blocking_current_thread(!doors.directories.is_empty());
    if doors.network.is_empty() {
        return;
    }
    let doors = Arc::new(Opened { network: doors.network.clone(), ..Opened::default() });
    builder.allow_tcp(true).socket_addr_check(move |address, usage| {
        let may = may(&doors, address, usage);
        Box::pin(async move { may })
    });
}

fn may(doors: &Opened, address: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        SocketAddrUse::TcpConnect => doors.may_connect(address),
        // What connects takes any address of its own; it can't choose one, since there is no bind(2) in a worker.
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    }
}

/// Takes the directories.
pub(super) fn directories(doors: Opened) -> io::Result<Vec<Preopen>> {
    let open = |OpenDirectory { fd, name, write, .. }| {
        let fd = Arc::try_unwrap(fd).or_else(|shared| shared.try_clone())?;
        let (perms, mode) = match write {
            true => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            false => (FsPerms::ReadOnly, OpenMode::READ),
        };
        Ok((Dir::new(File::from(fd), perms, mode, true), name))
    };
    doors.directories.into_iter().map(open).collect()
}

/// `wasi:filesystem/preopens` with directories that were opened by others: wasmtime-wasi opens them itself, by paths, of which there are
/// none in a worker.
struct Preopens<'a> {
    table: &'a mut ResourceTable,
    directories: &'a [Preopen],
}

impl HasData for Preopens<'static> {
    type Data<'a> = Preopens<'a>;
}

/// Links the directories in place of none.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<State, Preopens<'static>>(linker, |state| Preopens {
        table: &mut state.resources,
        directories: &state.directories,
    })
}

impl preopens::Host for Preopens<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut all = Vec::with_capacity(self.directories.len());
        for (directory, name) in self.directories {
            all.push((self.table.push(Descriptor::Dir(directory.clone()))?, name.clone()));
        }
        Ok(all)
    }
}
