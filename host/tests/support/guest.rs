//! Plugins for tests: a core module in WAT, made a component by the project's own WIT, so that tests follow the contract and need
//! no toolchain for WebAssembly.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code)]

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The bodies of a plugin's functions. Each default does the least that is right.
#[derive(Clone, Debug)]
pub struct Guest {
    /// `i32, i32 -> i32`: the address of the result.
    pub configure: String,
    /// `i32, i32, i32, i32 -> i32`
    pub prepare: String,
    /// `-> i32`
    pub start: String,
    /// `$rows $nrows $strings $nstrings $order $norder -> i32`
    pub handle: String,
    /// `$timer -> i32`
    pub tick: String,
    /// `$delivered $undelivered -> i32`, the two `i64`.
    pub finish: String,
    /// `-> i32`
    pub hand_over: String,
    /// `$old $size $align $new -> i32`: how it allocates.
    pub realloc: String,
    /// Anything else, as fields of the module.
    pub fields: String,
    /// Pages of memory at the start.
    pub pages: u32,
    /// It imports what [`SLEEP`] and [`PANIC`] need.
    pub wasi: bool,
}

/// The part of WASI that [`SLEEP`] and [`PANIC`] need.
const WASI: [(&str, &str); 4] = [
    (
        "io.wit",
        "package wasi:io@0.2.0;
         interface error { resource error; }
         interface poll { resource pollable { block: func(); } }
         interface streams {
             use error.{error};
             variant stream-error { last-operation-failed(error), closed }
             resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
         }",
    ),
    (
        "clocks.wit",
        "package wasi:clocks@0.2.0;
         interface monotonic-clock {
             use wasi:io/poll@0.2.0.{pollable};
             subscribe-duration: func(when: u64) -> pollable;
         }",
    ),
    (
        "cli.wit",
        "package wasi:cli@0.2.0;
         interface stderr {
             use wasi:io/streams@0.2.0.{output-stream};
             get-stderr: func() -> output-stream;
         }",
    ),
    (
        "world.wit",
        "package test:plugin;
         world with-wasi {
             include portcullis:plugin/plugin@0.1.0;
             import wasi:clocks/monotonic-clock@0.2.0;
             import wasi:cli/stderr@0.2.0;
         }",
    ),
];

const WASI_IMPORTS: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))"#;

/// Sleeps for this many nanoseconds.
pub fn sleep(time: u64) -> String {
    format!("(call $block (call $subscribe (i64.const {time})))")
}

/// Writes what the panic of a Rust plugin writes, and traps.
pub const PANIC: &str = "(call $write (call $stderr) (i32.const 1100) (i32.const 130) (i32.const 320)) (unreachable)";
const PANIC_TEXT: &str = r#"\0athread '<unnamed>' (1) panicked at src/lib.rs:42:9:\0aindex out of bounds\0anote: run with `RUST_BACKTRACE=1` environment variable\0a"#;

/// Where results are written: a result without error is all zeros.
pub const RESULT: &str = "(i32.const 64)";

/// Returns the tables of [`Guest::default`]: one, `t`, with the columns `n` (u64) and `s` (text).
const PREPARE: &str = r#"
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (i32.const 128)) (i32.store (i32.const 72) (i32.const 1))
    (i32.store (i32.const 128) (i32.const 1024)) (i32.store (i32.const 132) (i32.const 1))
    (i32.store (i32.const 136) (i32.const 160)) (i32.store (i32.const 140) (i32.const 2))
    (i32.store (i32.const 160) (i32.const 1025)) (i32.store (i32.const 164) (i32.const 1))
    (i32.store16 (i32.const 168) (i32.const 0))
    (i32.store (i32.const 172) (i32.const 1026)) (i32.store (i32.const 176) (i32.const 1))
    (i32.store16 (i32.const 180) (i32.const 4))
    (i32.const 64)"#;

/// Passes the time, the first column and the second column of the first stream on to the table.
pub const ECHO: &str = r#"
    (local $columns i32)
    (local.set $columns (i32.load offset=12 (local.get $rows)))
    (i32.store8 (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (i32.load offset=4 (local.get $columns)))
    (i32.store (i32.const 264) (i32.load offset=8 (local.get $columns)))
    (i32.store (i32.const 268) (i32.load offset=20 (local.get $columns)))
    (i32.store (i32.const 272) (i32.load offset=24 (local.get $columns)))
    (i32.store8 (i32.const 276) (i32.const 4))
    (i32.store (i32.const 280) (i32.load offset=40 (local.get $columns)))
    (i32.store (i32.const 284) (i32.load offset=44 (local.get $columns)))
    (i32.store (i32.const 288) (i32.load offset=56 (local.get $columns)))
    (i32.store (i32.const 292) (i32.load offset=60 (local.get $columns)))
    (call $append (i32.const 0)
        (i32.load offset=4 (local.get $rows)) (i32.load offset=8 (local.get $rows))
        (i32.const 256) (i32.const 2) (local.get $strings) (local.get $nstrings) (i32.const 320))
    (if (i32.load8_u (i32.const 320)) (then
        (call $print (i32.load (i32.const 324)) (i32.load (i32.const 328)))))
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.const 64)"#;

/// Reads map `map` by `$read` or `$take`, and appends to the table a row for each element: its value as the time and as `n`, its key
/// as `s`. Prints the error where there is one.
pub fn echo_map(call: &str, map: u32) -> String {
    format!(
        "(call {call} (i32.const {map}) (i32.const 400))
         (if (i32.load8_u (i32.const 400))
            (then (call $print (i32.load (i32.const 404)) (i32.load (i32.const 408))))
            (else
                (i32.store (i32.const 432) (i32.load (i32.const 404)))
                (i32.store (i32.const 436) (i32.load (i32.const 412)))
                (i32.store8 (i32.const 256) (i32.const 0))
                (i32.store (i32.const 260) (i32.load offset=4 (i32.load (i32.const 436))))
                (i32.store (i32.const 264) (i32.load offset=8 (i32.load (i32.const 436))))
                (i32.store (i32.const 268) (i32.const 0))
                (i32.store (i32.const 272) (i32.const 0))
                (i32.store8 (i32.const 276) (i32.const 4))
                (i32.store (i32.const 280) (i32.load offset=4 (i32.load (i32.const 432))))
                (i32.store (i32.const 284) (i32.load offset=8 (i32.load (i32.const 432))))
                (i32.store (i32.const 288) (i32.const 0))
                (i32.store (i32.const 292) (i32.const 0))
                (call $append (i32.const 0) (i32.load (i32.const 260)) (i32.load (i32.const 264)) (i32.const 256) (i32.const 2)
                    (i32.load (i32.const 420)) (i32.load (i32.const 424)) (i32.const 320))))"
    )
}

/// Writes back the elements that [`echo_map`] read, to map `map`, and prints the error if there is one.
pub fn write_back(map: u32) -> String {
    format!(
        "(call $write_map (i32.const {map}) (i32.load (i32.const 404)) (i32.load (i32.const 408)) (i32.load (i32.const 412))
            (i32.load (i32.const 416)) (i32.load (i32.const 420)) (i32.load (i32.const 424)) (i32.const 320))
         (if (i32.load8_u (i32.const 320)) (then (call $print (i32.load (i32.const 324)) (i32.load (i32.const 328)))))"
    )
}

/// Deletes the keys that [`echo_map`] read from map `map`, and prints the error if there is one.
pub fn delete(map: u32) -> String {
    format!(
        "(call $delete (i32.const {map}) (i32.load (i32.const 404)) (i32.load (i32.const 408))
            (i32.load (i32.const 420)) (i32.load (i32.const 424)) (i32.const 320))
         (if (i32.load8_u (i32.const 320)) (then (call $print (i32.load (i32.const 324)) (i32.load (i32.const 328)))))"
    )
}

/// Prints the function of the first frame of the stack in the third column of the first stream's first row.
pub const RESOLVE: &str = "
    (call $resolve (i32.load offset=76 (i32.load offset=12 (local.get $rows))) (i32.const 1) (i32.const 400))
    (call $print (i32.load offset=12 (i32.load (i32.load (i32.const 400)))) (i32.load offset=16 (i32.load (i32.load (i32.const 400)))))";

/// `the text`, as a result that is an error.
pub fn fails() -> String {
    "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (i32.const 1040))
     (i32.store (i32.const 72) (i32.const 8)) (i32.const 64)"
        .into()
}

/// Prints `the text`.
pub const PRINT: &str = "(call $print (i32.const 1040) (i32.const 8))";

/// Takes what lies behind what was taken before, and grows the memory for it.
const REALLOC: &str = "
    (local $at i32)
    (local.set $at (i32.and
        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))) (then
        (drop (memory.grow (i32.add (i32.div_u (local.get $new) (i32.const 65536)) (i32.const 1))))))
    (local.get $at)";

impl Default for Guest {
    fn default() -> Guest {
        let well = format!("(i32.store8 {RESULT} (i32.const 0)) {RESULT}");
        Guest {
            configure: format!("(memory.fill {RESULT} (i32.const 0) (i32.const 32)) {RESULT}"),
            prepare: PREPARE.into(),
            start: well.clone(),
            handle: well.clone(),
            tick: well.clone(),
            finish: well.clone(),
            hand_over: well,
            realloc: REALLOC.into(),
            fields: String::new(),
            pages: 1,
            wasi: false,
        }
    }
}

impl Guest {
    /// A program without probes and with timers of these periods, at most eight, as `configure`'s result.
    pub fn with_timers(mut self, periods: &[u64]) -> Guest {
        let mut body = format!("(memory.fill {RESULT} (i32.const 0) (i32.const 32))");
        for (at, period) in periods.iter().enumerate() {
            body += &format!("(i64.store (i32.const {}) (i64.const {period}))", 512 + 8 * at);
        }
        let count = periods.len();
        self.configure =
            format!("{body} (i32.store (i32.const 76) (i32.const 512)) (i32.store (i32.const 80) (i32.const {count})) {RESULT}");
        self
    }

    fn module(&self) -> Vec<u8> {
        let Guest { configure, prepare, start, handle, tick, finish, hand_over, realloc, fields, pages, wasi } = self;
        let wasi = if *wasi { WASI_IMPORTS } else { "" };
        let text = format!(
            r#"(module
            (import "portcullis:plugin/output@0.1.0" "append" (func $append (param i32 i32 i32 i32 i32 i32 i32 i32)))
            (import "portcullis:plugin/output@0.1.0" "print" (func $print (param i32 i32)))
            (import "portcullis:plugin/output@0.1.0" "set-metric" (func $metric (param i32 i32 f64 i32)))
            (import "portcullis:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32)))
            (import "portcullis:plugin/session@0.1.0" "stop" (func $stop (param i32 i32)))
            (import "portcullis:plugin/maps@0.1.0" "read" (func $read (param i32 i32)))
            (import "portcullis:plugin/maps@0.1.0" "take" (func $take (param i32 i32)))
            (import "portcullis:plugin/maps@0.1.0" "write" (func $write_map (param i32 i32 i32 i32 i32 i32 i32 i32)))
            (import "portcullis:plugin/maps@0.1.0" "delete" (func $delete (param i32 i32 i32 i32 i32 i32)))
            (import "portcullis:plugin/maps@0.1.0" "clear" (func $clear (param i32 i32)))
            (import "portcullis:plugin/stacks@0.1.0" "resolve" (func $resolve (param i32 i32 i32)))
            {wasi}
            (memory (export "memory") {pages})
            (data (i32.const 1024) "tns")
            (data (i32.const 1040) "the text")
            (data (i32.const 1100) "{PANIC_TEXT}")
            (global $top (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32) {realloc})
            (func (export "configure") (param i32 i32) (result i32) {configure})
            (func (export "prepare") (param i32 i32 i32 i32) (result i32) {prepare})
            (func (export "start") (param i32 i64 i64 i64 i32 i32 i32 i32 i32 i32) (result i32) {start})
            (func $handle (export "handle") (param $rows i32) (param $nrows i32) (param $strings i32) (param $nstrings i32)
                (param $order i32) (param $norder i32) (result i32) {handle})
            (func (export "cabi_post_handle") (param i32) (global.set $top (i32.const 4096)))
            (func (export "tick") (param $timer i32) (result i32) {tick})
            (func (export "finish") (param i32 i64 i64 i64 i32 i32 i32 i32) (param $delivered i64) (param $undelivered i64)
                (result i32) {finish})
            (func (export "hand-over") (result i32) {hand_over})
            {fields}
        )"#
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit");
        let (package, _) = resolve.push_path(wit).unwrap();
        let world = if self.wasi {
            let packages = WASI.map(|(name, text)| resolve.push_str(name, text).unwrap());
            resolve.select_world(&packages[3..], None).unwrap()
        } else {
            resolve.select_world(&[package], Some("plugin")).unwrap()
        };
        let mut module = self.module();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }

    /// The module that is no component.
    pub fn core_module(&self) -> Vec<u8> {
        self.module()
    }
}

/// A component of another world: with these imports, and functions without parameters of these names.
pub fn foreign(imports: &str, exports: &[&str]) -> Vec<u8> {
    let exports: String =
        exports.iter().map(|name| format!("(func (export {name:?}) (canon lift (core func $instance \"f\")))")).collect();
    let text = format!(
        "(component {imports} (core module $module (func (export \"f\"))) (core instance $instance (instantiate $module)) {exports})"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}
