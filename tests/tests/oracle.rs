//! Right answers: what programs compute in the kernel is what an interpreter says, which knows nothing of the compiler.
//!
//! Cases are generated. `PROPTEST_CASES=100000` makes more of them; what failed once is kept in `oracle.regressions` and tried first.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::ffi::CString;

use portcullis::kernel::RunningKernel;
use portcullis_tests::{
    kernel::probe,
    lock,
    oracle::{
        door::{self, Door, Field},
        generate,
        interpret::{Evaluation, Inputs},
        tree::{Expr, INTEGERS, TEXTS},
    },
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner},
};

/// How many expressions are tried by each test if the environment says nothing else.
const CASES: u32 = 5_000;
/// How many expressions a program has.
const BATCH: usize = 20;
/// With how many inputs it runs.
const RUNS: usize = 3;
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle.regressions");

/// A runner of so many programs that all have their cases.
fn runner(batch: usize) -> TestRunner {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    TestRunner::new(Config {
        cases: asked.div_ceil(batch as u32),
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..Config::default()
    })
}

fn run<S: Strategy>(mut runner: TestRunner, strategy: &S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    if let Err(error) = runner.run(strategy, check) {
        panic!("{error}");
    }
}

/// Statements that take the inputs from maps, of which the compiler knows the types alone.
fn head() -> String {
    let mut out = String::from("$nowhere = @nowhere; ");
    (0..INTEGERS).for_each(|n| out.push_str(&format!("$v{n} = @m{n}; ")));
    (0..TEXTS).for_each(|n| out.push_str(&format!("$t{n} = @t{n}; ")));
    out
}

/// The types of the maps with the inputs. Never runs.
fn types() -> String {
    let mut out = String::from("@nowhere = (uint64)0; @s[0] = (int64)0; @p[0, \"0123456789abcdef\"] = (uint64)0; ");
    (0..INTEGERS).for_each(|n| out.push_str(&format!("@m{n} = ({}int64)0; ", if n % 2 == 0 { "" } else { "u" })));
    (0..TEXTS).for_each(|n| out.push_str(&format!("@t{n} = \"0123456789abcdef\"; ")));
    out
}

fn give(door: &Door, inputs: &Inputs) {
    for (n, value) in inputs.integers.iter().enumerate() {
        door.set(&format!("m{n}"), &[0; 4], &value.to_ne_bytes());
    }
    for (n, text) in inputs.texts.iter().enumerate() {
        door.set(&format!("t{n}"), &[0; 4], text.as_bytes());
    }
    for map in ["s", "p"] {
        door.clear(map);
    }
    for ((number, text), value) in &inputs.elements {
        let mut key = number.to_ne_bytes().to_vec();
        key.extend(text.iter().flat_map(|text| text.bytes()));
        door.set(if text.is_none() { "s" } else { "p" }, &key, &value.to_ne_bytes());
    }
    let comm = CString::new(inputs.comm.as_str()).unwrap();
    // SAFETY: PR_SET_NAME reads the string that stands there.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) }, 0);
}

fn open(kernel: &RunningKernel, body: &str) -> Result<Door, TestCaseError> {
    let specs = [probe("types", "end", None, &types()), probe(door::PROBE, "begin", None, body)];
    Door::open(kernel, &specs).map_err(|error| TestCaseError::fail(format!("{body}\n{error}")))
}

/// Expressions give in the kernel what the reference says, whether the compiler knows their operands or not.
#[test]
fn expressions() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let strategy = (vec(generate::expr(), 1..=BATCH), vec(generate::inputs(), 1..=RUNS));
    run(runner(BATCH), &strategy, |(exprs, inputs)| {
        let written: Vec<Expr> = exprs.iter().map(|expr| generate::written(expr, &inputs[0])).collect();
        let emit = |stream: &str, exprs: &[Expr]| {
            let fields = exprs.iter().enumerate().map(|(n, expr)| format!("f{n}: {expr}"));
            format!("emit {stream} {{ {} }};\n", fields.collect::<Vec<_>>().join(",\n  "))
        };
        let body = format!("{}\n{}{}", head(), emit("given", &exprs), emit("written", &written));
        let mut door = open(&kernel, &body)?;
        for inputs in &inputs {
            let faults = door.counts().read_fault;
            give(&door, inputs);
            door.run();
            let rows = door.rows();
            prop_assert_eq!(rows.len(), 2);
            let mut evaluation = Evaluation::new(inputs);
            for ((stream, fields), exprs) in rows.iter().zip([&exprs, &written]) {
                for (expr, field) in exprs.iter().zip(fields) {
                    let expect = Field::Integer(evaluation.expr(expr).number());
                    prop_assert_eq!(field, &expect, "\n{}: {}\n{:?}", stream, expr, inputs);
                }
            }
            prop_assert_eq!(door.counts().read_fault - faults, evaluation.faults, "\n{}\n{:?}", body, inputs);
        }
        Ok(())
    });
}
