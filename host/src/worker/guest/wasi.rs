//! WASI with nothing granted: what any language's runtime needs to start, and nothing that waits or opens.
//!
//! A component may ask for the time, for random numbers, and write to its standard output and error, which is kept for error
//! messages and the log. It has no arguments, and of environment, files and network what its bundle opens ([`super::doors`]). Where
//! there is nothing to wait for, waiting (`wasi:io/poll`) fails at once, since the clock of [`super::deadline`] does not reach into
//! host calls; else it is bounded ([`super::waiting`]).

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiView,
    cli::{IsTerminal, StdoutStream},
    p2::{
        DynPollable, OutputStream, Pollable, StreamResult,
        bindings::{io::poll as polling, sync::io::poll},
    },
};

use super::{doors, error::Stopped, imports::State, waiting};
use crate::doors::Opened;

/// How much of what a component writes during a call is kept.
const TRANSCRIPT: usize = 8 << 10;

/// The end of what the component wrote since it was last taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript(Arc<Mutex<Vec<u8>>>);

impl Transcript {
    pub(super) fn take(&self) -> String {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&std::mem::take(&mut *text)).into_owned()
    }

    fn append(&self, bytes: &[u8]) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(&bytes[bytes.len().saturating_sub(TRANSCRIPT)..]);
        if let Some(excess) = text.len().checked_sub(TRANSCRIPT) {
            text.drain(..excess);
        }
    }
}

impl OutputStream for Transcript {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Transcript {
    async fn ready(&mut self) {}
}

impl IsTerminal for Transcript {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Transcript {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // For the later WASI, which is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// A context with nothing in it but what these doors let in.
pub(super) fn context(transcript: &Transcript, open: &Opened) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder.stdout(transcript.clone()).stderr(transcript.clone()).allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    doors::open(&mut builder, open);
    builder.build()
}

/// Links WASI, with the waiting replaced.
pub(super) fn link(linker: &mut Linker<State>, open: &Opened) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    if open.has_waits() {
        waiting::link(linker)?;
        doors::link(linker)?;
    } else {
        poll::add_to_linker::<State, Impatience>(linker, |state| Impatient(state.ctx().table))?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// `wasi:io/poll` for those who do not wait: what is ready is ready, and everything else is an error.
struct Impatient<'a>(&'a mut ResourceTable);

struct Impatience;

impl HasData for Impatience {
    type Data<'a> = Impatient<'a>;
}

/// The outcome of a future that must be ready. A zero timeout of `wasi:clocks` yields once before it is, so it is asked twice.
fn at_once<T>(future: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return outcome;
        }
    }
    Err(Stopped::Blocked.into())
}

impl poll::Host for Impatient<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        at_once(polling::Host::poll(self.0, pollables))
    }
}

impl poll::HostPollable for Impatient<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        at_once(polling::HostPollable::ready(self.0, pollable))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        at_once(polling::HostPollable::block(self.0, pollable))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        polling::HostPollable::drop(self.0, pollable)
    }
}
