//! Waiting, for a plugin that has a door open: for a connection, for what is in a file, for some time.
//!
//! It ends with the time of the call at the latest, and so does the call then. A file system that does not answer is another thing: there
//! the thread waits in the kernel, and the host ends the worker when it has heard nothing for longer than the call may take.

use std::future::Future;

use tokio::runtime::Runtime;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult,
    bindings::{
        io::{
            poll as polling,
            streams::{HostInputStream as Input, HostOutputStream as Output},
        },
        sync::io::{poll, streams},
    },
};

use super::{deadline::Deadline, error::Stopped, imports::State};

/// What waiting takes: the running call, and the runtime that notices what comes.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    deadline: &'a Deadline,
    runtime: &'static Runtime,
}

impl Wait<'_> {
    /// The outcome of a future, if it is there before the call is due.
    fn of<F: Future>(&self, future: F) -> Result<F::Output, Stopped> {
        let left = self.deadline.left();
        let within = async { tokio::time::timeout(left, future).await };
        self.runtime.block_on(within).map_err(|_| Stopped::TooLong)
    }

    /// The same, as part of a stream's outcome.
    fn of_stream<T>(&self, future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
        self.of(future).map_err(|stopped| StreamError::Trap(stopped.into()))?
    }
}

/// `wasi:io` for those who may wait.
struct Patient<'a> {
    table: &'a mut ResourceTable,
    wait: Wait<'a>,
}

struct Patience;

impl HasData for Patience {
    type Data<'a> = Patient<'a>;
}

/// Links what waits, in place of what does so without an end.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn patient(state: &mut State) -> Patient<'_> {
        Patient { table: &mut state.resources, wait: Wait { deadline: &state.deadline, runtime: state.runtime } }
    }
    poll::add_to_linker::<State, Patience>(linker, patient)?;
    streams::add_to_linker::<State, Patience>(linker, patient)
}

impl poll::Host for Patient<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait.of(polling::Host::poll(self.table, pollables))?
    }
}

impl poll::HostPollable for Patient<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.wait.of(polling::HostPollable::ready(self.table, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait.of(polling::HostPollable::block(self.table, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        polling::HostPollable::drop(self.table, pollable)
    }
}

impl streams::Host for Patient<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.table, error)
    }
}

impl streams::HostInputStream for Patient<'_> {
    fn read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        Input::read(self.table, stream, length)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        self.wait.of_stream(Input::blocking_read(self.table, stream, length))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        Input::skip(self.table, stream, length)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        self.wait.of_stream(Input::blocking_skip(self.table, stream, length))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        Input::subscribe(self.table, stream)
    }

    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.wait.of(Input::drop(self.table, stream))?
    }
}

impl streams::HostOutputStream for Patient<'_> {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        Output::check_write(self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        Output::write(self.table, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.wait.of_stream(Output::blocking_write_and_flush(self.table, stream, bytes))
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        Output::flush(self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.wait.of_stream(Output::blocking_flush(self.table, stream))
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        Output::subscribe(self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        Output::write_zeroes(self.table, stream, length)
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        self.wait.of_stream(Output::blocking_write_zeroes_and_flush(self.table, stream, length))
    }

    fn splice(&mut self, stream: Resource<DynOutputStream>, from: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        Output::splice(self.table, stream, from, length)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        self.wait.of_stream(Output::blocking_splice(self.table, stream, from, length))
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.wait.of(Output::drop(self.table, stream))?
    }
}
