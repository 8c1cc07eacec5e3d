//! What host and worker say to each other, over a Unix stream socket.
//!
//! A frame is a length, `u32` in little-endian order, and that many bytes of postcard. The host calls, the worker returns; between
//! a call and its return the worker says what the plugin says, and may ask: then it waits for the answer, and says nothing until
//! it has it. Before all that it says that it is locked in. Host and worker are one executable, so there are no versions.
//!
//! The host believes none of it: frames are bounded here, their order and contents are checked by
//! [`super::conversation`].

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    cage::Missing,
    columns::Descriptor,
    contract::{Closing, Column, Elements, Frame, Level, Limits, Opening, ProcessFacts, Program, Schema, Table, TableRows},
};

/// A frame from the host is at most this long: a component of 512 MiB is no plugin.
pub const MAX_FROM_HOST: usize = 512 << 20;

/// A frame from a worker is at most this long. The rows of a batch of 4096 with thirty columns of numbers have 1.3 MB.
pub const MAX_FROM_WORKER: usize = 8 << 20;

/// A line, a message or a reason is at most this long, bytes; the worker cuts what is longer.
pub const MAX_LINE: usize = 16 << 10;

/// Stacks that are resolved at once. The worker asks more than once for more.
pub const MAX_RESOLVE: usize = 4096;

/// Processes that are looked up at once. The worker asks more than once for more.
pub const MAX_LOOKUP: usize = 256;

/// The calls there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CallKind {
    /// Compile and instantiate.
    Load,
    /// `configure`
    Configure,
    /// `prepare`
    Prepare,
    /// `start`
    Start,
    /// `handle`
    Handle,
    /// `tick`
    Tick,
    /// `finish`
    Finish,
    /// `hand-over`
    HandOver,
}

impl CallKind {
    /// As `wit/` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            CallKind::Load => "load",
            CallKind::Configure => "configure",
            CallKind::Prepare => "prepare",
            CallKind::Start => "start",
            CallKind::Handle => "handle",
            CallKind::Tick => "tick",
            CallKind::Finish => "finish",
            CallKind::HandOver => "hand-over",
        }
    }

    /// The plugin may ask the host for something meanwhile: its maps are there.
    pub fn may_ask(self) -> bool {
        match self {
            CallKind::Load | CallKind::Configure | CallKind::Prepare => false,
            CallKind::Start | CallKind::Handle | CallKind::Tick | CallKind::Finish | CallKind::HandOver => true,
        }
    }
}

/// From the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message: the component and its limits.
    Load {
        /// The file, unread.
        wasm: Bytes,
        /// What a worker made of it before.
        compiled: Option<Bytes>,
        /// The limits.
        limits: Limits,
    },
    /// Call `configure`.
    Configure {
        /// The plugin's configuration as JSON.
        config: String,
    },
    /// Call `prepare`.
    Prepare {
        /// The streams there will be.
        schema: Schema,
    },
    /// Call `start`.
    Start(Opening),
    /// Call `handle` with the batch in a slot; the slot is the worker's until this returns.
    Batch(Descriptor),
    /// Call `tick`.
    Tick {
        /// The timer's position.
        timer: u32,
    },
    /// Call `finish`.
    Finish(Closing),
    /// Call `hand-over`.
    HandOver,
    /// Not a call: batches that have not been begun are [`Returned::Discarded`] from now on.
    Discard,
    /// Not a call: what [`FromWorker::Ask`] asked for.
    Answer(Response),
}

impl ToWorker {
    /// The call it makes, if it is one.
    pub fn call(&self) -> Option<CallKind> {
        Some(match self {
            ToWorker::Load { .. } => CallKind::Load,
            ToWorker::Configure { .. } => CallKind::Configure,
            ToWorker::Prepare { .. } => CallKind::Prepare,
            ToWorker::Start(_) => CallKind::Start,
            ToWorker::Batch(_) => CallKind::Handle,
            ToWorker::Tick { .. } => CallKind::Tick,
            ToWorker::Finish(_) => CallKind::Finish,
            ToWorker::HandOver => CallKind::HandOver,
            ToWorker::Discard | ToWorker::Answer(_) => return None,
        })
    }
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message, before anything is read: it has locked itself in, but for these layers.
    Caged(Vec<Missing>),
    /// A call is over.
    Return(Returned),
    /// `output.append`
    Append {
        /// The table's position.
        table: u32,
        /// The rows.
        rows: TableRows,
    },
    /// `output.print`
    Print {
        /// The line.
        line: String,
    },
    /// `output.set-metric`
    Metric {
        /// Its name.
        name: String,
        /// Its value.
        value: f64,
    },
    /// `log.log`, and what the plugin wrote to its standard output and error.
    Log {
        /// How bad it is.
        level: Level,
        /// The message.
        message: String,
    },
    /// `session.stop`
    Stop {
        /// The reason.
        reason: String,
    },
    /// The worker waits for [`ToWorker::Answer`].
    Ask(Request),
    /// The last message: the plugin is at its end, and so is the worker.
    Fault(Fault),
}

/// What a plugin asks for. Maps are numbered as in the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `maps.read`. Answered by [`Response::Elements`].
    Read {
        /// The map.
        map: u32,
    },
    /// `maps.take`. Answered by [`Response::Elements`].
    Take {
        /// The map.
        map: u32,
    },
    /// `maps.write`. Answered by [`Response::Done`].
    Write {
        /// The map.
        map: u32,
        /// What to write.
        elements: Elements,
    },
    /// `maps.delete`. Answered by [`Response::Done`].
    Delete {
        /// The map.
        map: u32,
        /// The keys.
        keys: Vec<Column>,
        /// Their texts.
        strings: Vec<String>,
    },
    /// `maps.clear`. Answered by [`Response::Done`].
    Clear {
        /// The map.
        map: u32,
    },
    /// `stacks.resolve`, of at most [`MAX_RESOLVE`] stacks. Answered by [`Response::Frames`].
    Resolve {
        /// The stacks' numbers.
        stacks: Vec<u64>,
    },
    /// `process.lookup`, of at most [`MAX_LOOKUP`] processes. Answered by [`Response::Processes`].
    Lookup {
        /// Their numbers.
        pids: Vec<u32>,
    },
}

impl Request {
    /// The map it is about.
    pub fn map(&self) -> Option<u32> {
        match self {
            Request::Read { map }
            | Request::Take { map }
            | Request::Write { map, .. }
            | Request::Delete { map, .. }
            | Request::Clear { map } => Some(*map),
            Request::Resolve { .. } | Request::Lookup { .. } => None,
        }
    }
}

/// What the host answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The elements of a map, or why they can't be had.
    Elements(Result<Elements, String>),
    /// It is done, or why it can't be.
    Done(Result<(), String>),
    /// For each stack its frames.
    Frames(Vec<Vec<Frame>>),
    /// For each process what is known of it, or why there are no facts at all.
    Processes(Result<Vec<Option<ProcessFacts>>, String>),
}

/// The package of `wit/`.
pub const PACKAGE: &str = "portcullis:plugin";

/// The interface of [`PACKAGE`] that an import names, and its version.
pub fn of_contract(import: &str) -> Option<(&str, Option<&str>)> {
    let name = import.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(name.split_once('@').map_or((name, None), |(interface, version)| (interface, Some(version))))
}

/// What a component asks of its host and offers it, by name, as its worker says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// `portcullis:plugin/output@0.1.0`, `wasi:clocks/monotonic-clock@0.2.6`.
    pub imports: Vec<String>,
    /// `configure`, `handle`.
    pub exports: Vec<String>,
}

impl Interface {
    /// That it imports this interface of the contract.
    pub fn imports(&self, interface: &str) -> Option<&str> {
        let is = |name: &&String| of_contract(name).is_some_and(|(found, _)| found == interface);
        self.imports.iter().find(is).map(String::as_str)
    }

    /// The version of the contract that the component was made for; `None` if it imports nothing of it.
    pub fn version(&self) -> Option<&str> {
        self.imports.iter().find_map(|name| of_contract(name))?.1
    }
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Returned {
    /// The component is compiled and instantiated.
    Loaded {
        /// What it was compiled to, if it was just now.
        compiled: Option<Bytes>,
        /// What it imports and exports.
        interface: Interface,
    },
    /// What `configure` returned.
    Configured(Result<Program, String>),
    /// What `prepare` returned.
    Prepared(Result<Vec<Table>, String>),
    /// What `start` returned.
    Started(Result<(), String>),
    /// What `handle` returned.
    Handled(Result<(), String>),
    /// `handle` was not called.
    Discarded,
    /// What `tick` returned.
    Ticked(Result<(), String>),
    /// What `finish` returned.
    Finished(Result<(), String>),
    /// What `hand-over` returned.
    HandedOver(Option<Bytes>),
}

impl Returned {
    /// The call that returns this.
    pub fn call(&self) -> CallKind {
        match self {
            Returned::Loaded { .. } => CallKind::Load,
            Returned::Configured(_) => CallKind::Configure,
            Returned::Prepared(_) => CallKind::Prepare,
            Returned::Started(_) => CallKind::Start,
            Returned::Handled(_) | Returned::Discarded => CallKind::Handle,
            Returned::Ticked(_) => CallKind::Tick,
            Returned::Finished(_) => CallKind::Finish,
            Returned::HandedOver(_) => CallKind::HandOver,
        }
    }

    /// The same with an error that is no longer than [`MAX_LINE`]: it becomes one of the host's messages.
    #[must_use]
    pub fn with_short_error(self) -> Returned {
        match self {
            Returned::Configured(outcome) => Returned::Configured(outcome.map_err(cut_line)),
            Returned::Prepared(outcome) => Returned::Prepared(outcome.map_err(cut_line)),
            Returned::Started(outcome) => Returned::Started(outcome.map_err(cut_line)),
            Returned::Handled(outcome) => Returned::Handled(outcome.map_err(cut_line)),
            Returned::Ticked(outcome) => Returned::Ticked(outcome.map_err(cut_line)),
            Returned::Finished(outcome) => Returned::Finished(outcome.map_err(cut_line)),
            returned @ (Returned::Loaded { .. } | Returned::Discarded | Returned::HandedOver(_)) => returned,
        }
    }
}

/// Why a plugin is at its end, as its worker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// A sentence without a full stop, whose subject is the plugin or its call.
    pub message: String,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// The file is no plugin of this host.
    NotAPlugin,
    /// The component trapped or panicked.
    Trap,
    /// A call took too long.
    TooLong,
    /// The component wanted more memory than it may have.
    Memory,
    /// The component waited inside a host call.
    Blocked,
    /// The worker could not lock itself in.
    Cage,
    /// The worker itself failed.
    Internal,
}

/// Bytes that are copied as they are, not one by one.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// A frame that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its length is past the limit.
    #[error("a message of {length} bytes, where {limit} are allowed")]
    TooLong {
        /// What it says.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// It is not what postcard writes.
    #[error("a message that can't be read ({0})")]
    Malformed(postcard::Error),
}

/// Appends `message` to `out` as a frame of at most `limit` bytes; leaves `out` as it was if there is an error.
pub fn encode(message: &impl Serialize, limit: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    let encoded = encode_at(message, limit, start, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn encode_at(message: &impl Serialize, limit: usize, start: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    struct Appender<'a>(&'a mut Vec<u8>);
    impl Extend<u8> for Appender<'_> {
        fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
            self.0.extend(bytes);
        }
    }
    out.extend([0; 4]);
    postcard::to_extend(message, Appender(out)).map_err(FrameError::Malformed)?;
    let length = out.len() - start - 4;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// The length of the frame that begins `bytes`, without its four bytes of length; `None` while those are not there.
pub fn frame_length(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(&header) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(header) as usize;
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok(Some(length)) }
}

/// The message in a frame's body.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(FrameError::Malformed(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(FrameError::Malformed(error)),
    }
}

/// `text` with at most [`MAX_LINE`] bytes.
pub fn cut_line(mut text: String) -> String {
    if text.len() > MAX_LINE {
        let mark = "…";
        let mut end = MAX_LINE - mark.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A message comes back as it was, and what follows it stays.
    #[test]
    fn round_trip() {
        let message = ToWorker::Load { wasm: Bytes(vec![0, 255, 7]), compiled: None, limits: Limits::default() };
        let mut out = vec![9];
        encode(&message, 100, &mut out).unwrap();
        let length = frame_length(&out[1..], 100).unwrap().unwrap();
        assert_eq!(out.len(), 1 + 4 + length);
        assert_eq!(decode::<ToWorker>(&out[5..]).unwrap(), message);
        assert_eq!(frame_length(&out[1..4], 100).unwrap(), None);
    }

    /// A frame past the limit is neither written nor read.
    #[test]
    fn long_frames_are_refused() {
        let mut out = vec![1, 2];
        let message = FromWorker::Print { line: "x".repeat(100) };
        assert!(matches!(encode(&message, 50, &mut out), Err(FrameError::TooLong { limit: 50, .. })));
        assert_eq!(out, [1, 2]);
        assert_eq!(frame_length(&[0, 0, 0, 255], 50), Err(FrameError::TooLong { length: 255 << 24, limit: 50 }));
    }

    /// Whatever bytes come, decoding ends with a message or an error.
    #[test]
    fn malformed_frames_are_refused() {
        let mut good = Vec::new();
        let rows = TableRows { time: vec![1, 2], columns: vec![], strings: vec![] };
        encode(&FromWorker::Append { table: 1, rows }, 1000, &mut good).unwrap();
        let body = &good[4..];
        for end in 0..body.len() {
            assert!(decode::<FromWorker>(&body[..end]).is_err());
        }
        let mut longer = body.to_vec();
        longer.push(0);
        assert!(decode::<FromWorker>(&longer).is_err());
        for at in 0..body.len() {
            for byte in [0, 1, 7, 0x7f, 0x80, 0xff] {
                let mut bytes = body.to_vec();
                bytes[at] = byte;
                let _ = decode::<FromWorker>(&bytes);
            }
        }
    }

    /// A line that is too long is cut at a character.
    #[test]
    fn lines_are_cut() {
        assert_eq!(cut_line("short".into()), "short");
        let cut = cut_line("ü".repeat(MAX_LINE));
        assert!(cut.len() <= MAX_LINE && cut.ends_with("ü…"));
    }
}
