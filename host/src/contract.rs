//! The plugin contract as data: what `wit/` says, in the form in which host and worker pass it on to each other.
//!
//! The worker translates between these and the component's own types; the host never sees the latter. Meanings are in `wit/`.

use portcullis_ebpf::Rate;
use serde::{Deserialize, Serialize};

/// `types.program`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The probes.
    pub probes: Vec<Probe>,
    /// The timers' periods in ns.
    pub timers: Vec<u64>,
}

/// `types.probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Attach points.
    pub attach: Vec<String>,
    /// The predicate.
    pub when: Option<String>,
    /// The statements.
    pub body: String,
    /// It may be missing.
    pub optional: bool,
}

/// `types.schema`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The streams, by number.
    pub streams: Vec<Stream>,
    /// The maps, by number.
    pub maps: Vec<Map>,
}

/// `types.stream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub fields: Vec<Field>,
}

/// `types.field`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The kind of column.
    pub kind: Kind,
    /// Its type as C has it.
    pub ctype: String,
}

/// `types.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Unsigned integers.
    U64,
    /// Signed integers.
    S64,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Call stacks.
    Stack,
}

/// `types.map`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub content: Content,
    /// The columns of its keys.
    pub keys: Vec<Field>,
    /// The columns of its values.
    pub values: Vec<Field>,
}

/// `types.content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A value that is assigned.
    Value,
    /// How often.
    Count,
    /// The sum.
    Sum,
    /// The average.
    Avg,
    /// Count, average and total.
    Stats,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// A histogram by powers of two.
    Hist,
    /// A linear histogram.
    Lhist,
    /// Intervals of time.
    Tseries,
}

/// `types.column`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The values.
    pub values: Values,
    /// A bitmap of those that are not there; no bytes at all: all are.
    pub absent: Vec<u8>,
    /// A bitmap of those that were cut short.
    pub cut: Vec<u8>,
}

/// `types.values`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Values {
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Signed integers.
    S64(Vec<i64>),
    /// Texts: for each row a position in the list of texts.
    Text(Vec<u32>),
    /// Bytes: for each row where its bytes end in `data`.
    Bytes {
        /// The ends.
        ends: Vec<u32>,
        /// The bytes of one row behind those of the other.
        data: Vec<u8>,
    },
    /// Call stacks, by the number that the host gave them.
    Stack(Vec<u64>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::U64(values) | Values::Stack(values) => values.len(),
            Values::S64(values) => values.len(),
            Values::Text(index) => index.len(),
            Values::Bytes { ends, .. } => ends.len(),
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their kind.
    pub fn kind(&self) -> Kind {
        match self {
            Values::U64(_) => Kind::U64,
            Values::S64(_) => Kind::S64,
            Values::Text(_) => Kind::Text,
            Values::Bytes { .. } => Kind::Bytes,
            Values::Stack(_) => Kind::Stack,
        }
    }
}

/// `maps.elements`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elements {
    /// The columns of their keys.
    pub keys: Vec<Column>,
    /// The columns of their values.
    pub values: Vec<Column>,
    /// The texts of all columns.
    pub strings: Vec<String>,
}

/// `stacks.frame`: one function that an address is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The address, as it was asked for.
    pub address: u64,
    /// The function, demangled; `None` where it isn't known.
    pub function: Option<String>,
    /// How far from the function's start, bytes; 0 for functions that are inlined. Without a function, how far from the start of the
    /// file that is mapped, if there is one.
    pub offset: u64,
    /// The file as the process names it, or `[vdso]` and such; of the kernel, the module as `[ext4]`, and `None` for the kernel
    /// itself.
    pub module: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The function is inlined into that of the next frame.
    pub inlined: bool,
}

/// `process.facts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Its number.
    pub pid: u32,
    /// The process that waits for its end.
    pub parent: u32,
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// When it was forked, CLOCK_MONOTONIC ns, to a tick of 10 ms.
    pub started: u64,
    /// The name of its first thread.
    pub comm: String,
    /// The path of its program.
    pub executable: Option<String>,
    /// Its command line; `None` where its memory did not answer.
    pub arguments: Option<Vec<String>>,
    /// Its control group.
    pub cgroup: Option<String>,
}

/// `output.table`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<TableColumn>,
}

/// `output.table-column`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// What its cells are.
    pub kind: CellKind,
    /// What they count.
    pub unit: Unit,
}

/// `output.cell-kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CellKind {
    /// Unsigned integers.
    U64,
    /// Signed integers.
    S64,
    /// Floating-point numbers.
    F64,
    /// Truth values.
    Bool,
    /// Text.
    Text,
}

/// `output.unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Just a number.
    None,
    /// Durations.
    Nanoseconds,
    /// Sizes.
    Bytes,
    /// Shown in hexadecimal.
    Address,
}

/// `output.table-rows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRows {
    /// When what each row tells of happened.
    pub time: Vec<u64>,
    /// The columns.
    pub columns: Vec<TableValues>,
    /// The texts of all columns.
    pub strings: Vec<String>,
}

/// `output.table-values`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableValues {
    /// The values.
    pub cells: Cells,
    /// A bitmap of those that are empty; no bytes at all: none is.
    pub absent: Vec<u8>,
}

/// `output.cells`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cells {
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Signed integers.
    S64(Vec<i64>),
    /// Floating-point numbers.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts: for each row a position in [`TableRows::strings`].
    Text(Vec<u32>),
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Something may be wrong.
    Warn,
    /// Something is wrong.
    Error,
}

/// `types.interval`: `[earliest, latest]` around a store to the gate word, CLOCK_MONOTONIC ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Read before the store.
    pub earliest: u64,
    /// Read after it.
    pub latest: u64,
}

/// `types.opening`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// When the gate opened.
    pub gate: Option<Interval>,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, ns.
    pub realtime_offset: i64,
    /// As `uname -r`.
    pub kernel: String,
    /// Possible CPUs.
    pub cpus: u32,
    /// From the instance before.
    pub handed_over: Option<Vec<u8>>,
}

/// `types.closing`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When the gate closed.
    pub gate: Option<Interval>,
    /// The end of the grace period, CLOCK_MONOTONIC ns.
    pub quiesced: u64,
    /// Per probe.
    pub probes: Vec<ProbeCounts>,
    /// Per stream.
    pub streams: Vec<StreamCounts>,
    /// Events handed over.
    pub delivered: u64,
    /// Events written and not handed over.
    pub undelivered: u64,
}

/// `types.probe-counts`, and what the report has beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCounts {
    /// The probe's name.
    pub name: String,
    /// It is a span: the counts that begin with `entry` and `entered` to `lost` mean something.
    pub span: bool,
    /// Fired for its target, in scope, gate open. For a span: its exits.
    pub hits: u64,
    /// The same with the gate closed.
    pub hits_closed: u64,
    /// Exits without an entry; `None` where the kernel skips them uncounted.
    pub unpaired: Option<u64>,
    /// `when` was false.
    pub filtered: u64,
    /// Dropped by a rate limit.
    pub shed: u64,
    /// The body ran.
    pub completed: u64,
    /// A span's entries.
    pub entry_hits: u64,
    /// A span's entries with the gate closed.
    pub entry_hits_closed: u64,
    /// Entries past scope and gate.
    pub entered: u64,
    /// Exits that found their entry.
    pub matched: u64,
    /// Entries that had no exit when the gate closed.
    pub in_flight: u64,
    /// Entries that can never be matched.
    pub lost: u64,
    /// No room in a map.
    pub map_full: u64,
    /// Memory that was not there.
    pub read_fault: u64,
    /// Texts cut short.
    pub truncated: u64,
}

/// `types.stream-counts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCounts {
    /// `emit` was reached.
    pub attempted: u64,
    /// The record was written.
    pub emitted: u64,
    /// There was no room.
    pub ring_full: u64,
}

/// What one plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory of the component, bytes.
    pub memory: u64,
    /// Elements of all its tables together.
    pub table_elements: u64,
    /// Its call stack, bytes.
    pub stack: u32,
    /// The time one call into the plugin may take, ns.
    pub call: u64,
    /// The size of its ring, bytes, a power of two and a multiple of the page size.
    pub ring: u32,
    /// The memory of the kernel that its maps may take, bytes.
    pub maps: u64,
    /// How many attach points each of its probes may have.
    pub attach_points: u32,
    /// How many probes it may have.
    pub probes: u32,
    /// How many instructions each of its programs may have.
    pub instructions: u32,
    /// Rows, and lines of text, that are shown of it in a second.
    pub output_rows: u64,
    /// Bytes of them.
    pub output_bytes: u64,
    /// Messages of its log in a second.
    pub log_messages: u64,
    /// How long the host may take in all for what it is asked in one call, ns.
    pub host_calls: u64,
    /// How often each of its probes may run its body.
    pub rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 64 << 20,
            table_elements: 1_000_000,
            stack: 512 << 10,
            call: 1_000_000_000,
            ring: 8 << 20,
            maps: 256 << 20,
            attach_points: 1000,
            probes: 1024,
            instructions: 1_000_000,
            output_rows: 10_000_000,
            output_bytes: 256 << 20,
            log_messages: 1000,
            host_calls: 60_000_000_000,
            rate: None,
        }
    }
}
