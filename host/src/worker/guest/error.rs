//! What went wrong with a component, in a sentence.

use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{
    contract::Limits,
    worker::protocol::{CallKind, Fault, FaultKind, MAX_FROM_WORKER},
};

/// Why the worker itself stopped a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    #[error("the time is over")]
    TooLong,
    #[error("the memory is used up")]
    Memory,
    #[error("there are too many elements in tables")]
    Table,
    #[error("waiting is not allowed")]
    Blocked,
}

/// Why `call`, which was given `time`, did not return. `wrote` is what the component wrote meanwhile to its standard output and error.
pub(super) fn explain(call: CallKind, time: Duration, limits: &Limits, error: &wasmtime::Error, wrote: &str) -> Fault {
    let name = match call {
        CallKind::Load => "its instantiation".to_owned(),
        call => format!("`{}`", call.as_str()),
    };
    let (kind, message) = if let Some(stopped) = error.downcast_ref::<Stopped>() {
        match stopped {
            Stopped::TooLong => (FaultKind::TooLong, format!("{name} took longer than {time:?}")),
            Stopped::Memory => (FaultKind::Memory, format!("{name} needed more than {} of memory", size(limits.memory))),
            Stopped::Table => {
                (FaultKind::Memory, format!("{name} needed more than {} elements in its tables", limits.table_elements))
            }
            Stopped::Blocked => (FaultKind::Blocked, format!("{name} blocked in a host call; a plugin must not sleep or wait")),
        }
    } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
        (FaultKind::Trap, format!("{name} ended the component with exit status {}", exit.0))
    } else if let Some(exception) = exception(wrote) {
        (FaultKind::Trap, format!("{name} raised {exception}"))
    } else if let Some(panic) = panic(wrote) {
        (FaultKind::Trap, format!("{name} panicked{panic}"))
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        let trap = trap.to_string();
        let trap = trap.strip_prefix("wasm trap: ").unwrap_or(&trap);
        let function = error.downcast_ref::<WasmBacktrace>().and_then(|trace| trace.frames().first()?.func_name());
        let function = function.map(|name| format!(" in `{name}`")).unwrap_or_default();
        let last = wrote.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let last = last.map(|line| format!("; it wrote: {line}")).unwrap_or_default();
        (FaultKind::Trap, format!("{name} trapped{function}: {trap}{last}"))
    } else {
        let root = error.root_cause().to_string();
        // The text of wasmtime 48 (component/func/options.rs), which has no type.
        if root.contains("fuel allocated for hostcalls") {
            let limit = size(MAX_FROM_WORKER as u64);
            (FaultKind::Memory, format!("{name} handed the host more than {limit} at once"))
        } else {
            (FaultKind::Trap, format!("{name} failed: {}", first_line(&root)))
        }
    };
    Fault { kind, message }
}

/// What a Rust or Go panic wrote: ` at PLACE: TEXT` or `: TEXT`.
fn panic(wrote: &str) -> Option<String> {
    if let Some(at) = wrote.rfind("panicked at ") {
        let text = &wrote[at + "panicked".len()..];
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("note: run with"));
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        return Some(format!(" {}", lines.join(" ")));
    }
    let text = wrote.lines().find_map(|line| line.strip_prefix("panic: "))?;
    Some(format!(": {}", text.trim()))
}

/// What an exception wrote that left a Python plugin: `EXCEPTION: TEXT (FILE, line N)`. Only an exception of the plugin's own
/// error type becomes an error that is returned; the runtime panics for any other.
fn exception(wrote: &str) -> Option<String> {
    let (_, trace) = wrote.rsplit_once("Traceback (most recent call last):\n")?;
    let (mut place, mut text) = (None, None);
    for line in trace.lines() {
        if let Some(frame) = line.strip_prefix("  File \"") {
            // `  File "/0/plugin.py", line 51, in handle`
            let file = frame.split_once('"').map(|(path, rest)| (path.rsplit('/').next().unwrap_or(path), rest));
            place = file.and_then(|(file, rest)| Some((file, rest.strip_prefix(", line ")?.split(',').next()?)));
        } else if !line.starts_with(' ') {
            text = Some(line.trim_end());
            break;
        }
    }
    let text = text.filter(|text| !text.is_empty())?;
    Some(match place {
        Some((file, line)) => format!("{text} ({file}, line {line})"),
        None => text.to_owned(),
    })
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `64 MiB`, `100000 bytes`.
fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one line of a panic that matters, in the words of each language.
    #[test]
    fn panics() {
        let check = |wrote: &str, expect: Option<&str>| assert_eq!(panic(wrote).as_deref(), expect);
        check("", None);
        check("all is well\n", None);
        check(
            "\nthread '<unnamed>' (1) panicked at src/lib.rs:7:9:\nindex out of bounds\nnote: run with `RUST_BACKTRACE=1`\n",
            Some(" at src/lib.rs:7:9: index out of bounds"),
        );
        check("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n", Some(": boom"));
    }

    /// The last exception, and the innermost place that it went through.
    #[test]
    fn exceptions() {
        let check = |wrote: &str, expect: Option<&str>| assert_eq!(exception(wrote).as_deref(), expect);
        let panicked =
            "\nthread '<unnamed>' (1) panicked at runtime/src/lib.rs:1293:29:\nPython function threw an unexpected exception\n";
        check(panicked, None);
        check("Traceback (most recent call last):\n", None);
        let frames = "Traceback (most recent call last):\n  File \"/0/a.py\", line 7, in handle\n    f(x)\n    ~^^^\n  File \"/0/b.py\", line 51, in f\n";
        check(
            &format!("{frames}IndexError: list index out of range\n{panicked}"),
            Some("IndexError: list index out of range (b.py, line 51)"),
        );
        let first = "Traceback (most recent call last):\n  File \"/0/c.py\", line 1, in g\nKeyError: 'k'\n\nDuring handling of the above exception, another exception occurred:\n\n";
        check(&format!("{first}{frames}KeyboardInterrupt\n"), Some("KeyboardInterrupt (b.py, line 51)"));
        check("Traceback (most recent call last):\nMemoryError\n", Some("MemoryError"));
    }

    /// Sizes as people write them.
    #[test]
    fn sizes() {
        let check = |bytes, expect: &str| assert_eq!(size(bytes), expect);
        check(64 << 20, "64 MiB");
        check(1 << 10, "1 KiB");
        check(3 << 30, "3 GiB");
        check(1000, "1000 bytes");
        check(0, "0 bytes");
    }
}
