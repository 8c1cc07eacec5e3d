//! What goes wrong before the opening: files that are no plugins, and plugins that fail while they are made or configured.

use std::sync::Arc;

use portcullis::columns;

use crate::{
    guest::{self, Guest, RESULT, foreign},
    looping,
    run::{Said, alive, spawn, streams},
};

#[track_caller]
fn check_load(wasm: Vec<u8>, expect: &str) {
    let mut worker = spawn(wasm, &Arc::default());
    let pid = worker.pid();
    assert_eq!(worker.loaded().unwrap_err().to_string(), expect);
    assert!(!alive(pid));
}

/// Files that are no plugins: one sentence each.
#[test]
fn files_that_are_no_plugins() {
    check_load(vec![], "plugin \"test\": its file is empty");
    check_load(b"#!/bin/sh\n".to_vec(), "plugin \"test\": its file is not WebAssembly");
    check_load(
        Guest::default().core_module(),
        "plugin \"test\": it is a core WebAssembly module, not a component; `wasm-tools component new` makes one of it",
    );
    let mut broken = Guest::default().component();
    broken.truncate(100);
    check_load(broken, "plugin \"test\": it is not a valid component: unexpected end-of-file");
    check_load(
        foreign("", &["run"]),
        "plugin \"test\": it does not export `configure`, so it is not a plugin of portcullis:plugin@0.1.0",
    );
    let exports = ["configure", "prepare", "start", "handle", "tick", "finish", "hand-over"];
    check_load(
        foreign(r#"(import "other:thing/door" (instance (export "open" (func))))"#, &exports),
        "plugin \"test\": it imports `other:thing/door`, which this host does not offer in that form",
    );
    check_load(
        foreign(r#"(import "portcullis:plugin/log@0.2.0" (instance (export "log" (func))))"#, &["run"]),
        "plugin \"test\": it is made for portcullis:plugin@0.2.0, and this host offers portcullis:plugin@0.1.0",
    );
    check_load(
        foreign("", &exports),
        "plugin \"test\": its exports are not those of portcullis:plugin@0.1.0: \
         type-checking export func `configure`: expected 1-tuple, found 0-tuple",
    );
}

/// Components that fail while they are instantiated.
#[test]
fn instantiation_fails() {
    check_load(
        Guest { pages: 1000, ..Guest::default() }.component(),
        "plugin \"test\": its instantiation needed more than 16 MiB of memory",
    );
    check_load(
        Guest { fields: "(func $boom (unreachable)) (start $boom)".into(), ..Guest::default() }.component(),
        "plugin \"test\": its instantiation trapped in `boom`: wasm `unreachable` instruction executed",
    );
}

#[track_caller]
fn check_configure(guest: &Guest, expect: &str) {
    let mut worker = spawn(guest.component(), &Arc::default());
    let pid = worker.pid();
    assert_eq!(worker.configure("{}").unwrap_err().to_string(), expect);
    assert!(!alive(pid));
    // Whoever goes on nevertheless gets an error, not a hang.
    assert!(worker.prepare(&columns::schema(&streams(), &[])).is_err());
}

/// What `configure` can do wrong.
#[test]
fn configure_fails() {
    let configure = |body: &str| Guest { configure: body.into(), ..Guest::default() };
    check_configure(&configure(&guest::fails()), "plugin \"test\": `configure` returned an error: the text");
    check_configure(&configure("(unreachable)"), "plugin \"test\": `configure` trapped: wasm `unreachable` instruction executed");
    check_configure(&configure(&looping()), "plugin \"test\": `configure` took longer than 300ms");
    check_configure(
        &Guest::default().with_timers(&[10]),
        "plugin \"test\": `configure` returned what can't be used: timer 0 has a period of 10 ns; the shortest is 1000000 ns (1 ms)",
    );
}

/// A plugin hears that it appended to a table that there is not yet.
#[test]
fn append_before_prepare() {
    let append = format!(
        "(call $append (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 320))
         (call $print (i32.load (i32.const 324)) (i32.load (i32.const 328)))
         (memory.fill {RESULT} (i32.const 0) (i32.const 32)) {RESULT}"
    );
    let said = Arc::new(Said::default());
    let mut worker = spawn(Guest { configure: append, ..Guest::default() }.component(), &said);
    worker.configure("{}").unwrap();
    assert_eq!(*said.lines.lock().unwrap(), ["there is no table 0; there are 0"]);
}
