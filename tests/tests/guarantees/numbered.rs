//! Plugins that tell which calls they have seen, of threads that number theirs.

use std::collections::BTreeMap;

use portcullis::session::Closed;
use portcullis_ebpf::ProbeSpec;
use portcullis_tests::{gate::Traced, kernel::probe};

/// The calls of a thread that one plugin has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) count: i64,
}

impl Calls {
    /// Between the first and the last there is one that was not seen.
    pub(crate) fn have_gaps(&self) -> bool {
        self.count != self.high - self.low + 1
    }
}

/// A plugin that watches calls at a place whose number is `number` there.
pub(crate) fn watcher(attach: &str, number: &str) -> Vec<ProbeSpec> {
    let body = format!(
        "let @calls = percpuhash(64); let @low = percpuhash(64); let @high = percpuhash(64); \
         @calls[tid] = count(); @low[tid] = min({number}); @high[tid] = max({number})"
    );
    vec![probe("call", attach, None, &body)]
}

/// The same for the system calls of `workload numbers`.
pub(crate) fn system_calls() -> Vec<ProbeSpec> {
    watcher("tracepoint:syscalls:sys_enter_lseek", "args.offset")
}

/// The calls that a plugin has seen, by thread.
pub(crate) fn calls(traced: &mut Traced<'_, Closed>, plugin: usize) -> BTreeMap<u64, Calls> {
    let mut map = |name| traced.numbers(plugin, name);
    let (counts, lows, highs) = (map("calls"), map("low"), map("high"));
    counts.iter().map(|(tid, count)| (*tid, Calls { low: lows[tid], high: highs[tid], count: *count })).collect()
}

/// The workload's function that `workload calls` numbers.
pub(crate) fn function() -> String {
    format!("uprobe:{}:workload_double", portcullis_tests::workload().display())
}
