//! Right answers: what programs compute in the kernel is what an interpreter says, which knows nothing of the compiler.
//!
//! Cases are generated. `PROPTEST_CASES=100000` makes more of them; what failed once is kept in `oracle.regressions` and tried first.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{collections::BTreeMap, ffi::CString};

use portcullis::kernel::RunningKernel;
use portcullis_ebpf::{
    Kernel as _, Slot,
    aggregate::{Content, decode_max, decode_min},
};
use portcullis_tests::{
    kernel::probe,
    lock,
    oracle::{
        door::{self, Door, Field},
        generate,
        interpret::{self, Evaluation, Flow, Inputs, Key},
        tree::{Block, Expr, INTEGERS, TEXTS},
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
        max_shrink_iters: 1_000,
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
    let mut out = String::from(
        "let @s = hash(1024); let @p = hash(1024); @nowhere = (uint64)0; @s[0] = (int64)0; @p[0, \"0123456789abcdef\"] = (uint64)0; ",
    );
    (0..INTEGERS).for_each(|n| out.push_str(&format!("@m{n} = ({}int64)0; ", if n.is_multiple_of(2) { "" } else { "u" })));
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
    Door::open(kernel, &specs).map_err(|error| match error.contains("BPF program is too large") {
        // The verifier followed a million instructions through loops and branches, which says nothing of what they compute.
        true => TestCaseError::reject("too many ways through the program"),
        false => TestCaseError::fail(format!("{body}\n{error}")),
    })
}

/// Expressions give in the kernel what the reference says, whether the compiler knows their operands or not.
#[test]
fn expressions() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let strategy = (vec(generate::expr(kernel.features().for_each_map), 1..=BATCH), vec(generate::inputs(), 1..=RUNS));
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

fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().unwrap())
}

/// The elements of `@s` and `@p`.
fn elements(door: &Door) -> BTreeMap<Key, u64> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|b| *b == 0).unwrap();
        assert!(bytes[end..].iter().all(|b| *b == 0), "{bytes:?}");
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let signed = door.elements("s").into_iter().map(|(key, value)| ((word(&key), None), word(&value)));
    let texts = door.elements("p").into_iter().map(|(key, value)| ((word(&key), Some(text(&key[8..]))), word(&value)));
    signed.chain(texts).collect()
}

/// Statements leave in variables, maps and records what the reference says.
#[test]
fn statements() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let strategy = (generate::statements(kernel.features().for_each_map), vec(generate::inputs(), 1..=RUNS));
    run(runner(10), &strategy, |(statements, inputs)| {
        let mut fields: Vec<String> = (0..INTEGERS).map(|n| format!("v{n}: $v{n}, m{n}: @m{n}")).collect();
        fields.extend((0..TEXTS).map(|n| format!("t{n}: $t{n}, u{n}: @t{n}")));
        let body = format!("{}\n{}emit end {{ {} }}", head(), Block(&statements, 0), fields.join(", "));
        let mut door = open(&kernel, &body)?;
        for inputs in &inputs {
            let before = door.counts();
            give(&door, inputs);
            door.run();
            let mut evaluation = Evaluation::new(inputs);
            let flow = evaluation.statements(&statements);
            let mut expect: Vec<Vec<Field>> = evaluation.emitted.iter().map(|value| vec![Field::Integer(*value)]).collect();
            if flow != Flow::Return {
                let number = |n: usize, bits: u64| if n.is_multiple_of(2) { bits.cast_signed().into() } else { bits.into() };
                let pairs = evaluation.variables.iter().zip(evaluation.inputs).enumerate();
                let integers = pairs.flat_map(|(n, (v, m))| [number(n, *v), number(n, m)].map(Field::Integer));
                let texts = evaluation
                    .texts
                    .iter()
                    .zip(&evaluation.text_inputs)
                    .flat_map(|(t, u)| [t, u].map(|t| Field::Text(t.clone())));
                expect.push(integers.chain(texts).collect());
            }
            let rows: Vec<Vec<Field>> = door.rows().into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(rows, expect, "\n{}\n{:?}", body, inputs);
            prop_assert_eq!(elements(&door), evaluation.elements, "\n{}\n{:?}", body, inputs);
            let counts = door.counts();
            let counted = (counts.read_fault - before.read_fault, counts.truncated - before.truncated);
            prop_assert_eq!(counted, (evaluation.faults, evaluation.truncated), "\n{}\n{:?}", body, inputs);
        }
        Ok(())
    });
}

/// The words of a map's elements, those of all CPUs together, by its key: numbers, the bucket last. Elements that are all zero are left
/// out.
fn aggregated(door: &Door, name: &str) -> BTreeMap<Vec<u64>, Vec<u64>> {
    let (map, _) = door.map(name);
    let mut out = BTreeMap::new();
    for (key, value) in door.elements(name) {
        let number = |bytes: &[u8]| match *bytes {
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
            _ => word(bytes),
        };
        let mut words = vec![0; map.content.words() as usize];
        for cpu in value.chunks(map.value_size as usize) {
            map.content.merge(&mut words, &cpu.chunks(8).map(word).collect::<Vec<_>>());
        }
        if words.iter().any(|word| *word != 0) {
            out.insert(key.chunks(8).map(number).collect(), words);
        }
    }
    out
}

/// Aggregations gather what the reference says, and histograms have the buckets that it says.
#[test]
fn aggregations() {
    let Some(_lock) = lock() else { return };
    let kernel = RunningKernel::open().unwrap();
    let strategy =
        (generate::small_expr(kernel.features().for_each_map), 0_u8..=5, generate::linear(), vec(generate::inputs(), 1..=4));
    run(runner(9), &strategy, |(expr, bits, linear, inputs)| {
        let (from, to, step) = linear;
        let body = format!(
            "let @keyed = hash(64); let @lhist = hash(64); {}\n@count = count(); @sum = sum({expr}); @avg = avg({expr}); @stats = stats({expr}); @min = min({expr}); @max = max({expr});\n\
             @hist = hist({expr}, {bits}); @keyed[$v3] = hist({expr}); @lhist[$v3, $v2] = lhist({expr}, {from}, {to}, {step});",
            head()
        );
        let door = open(&kernel, &body)?;
        let mut expect: BTreeMap<&str, BTreeMap<Vec<u64>, Vec<u64>>> = BTreeMap::new();
        let mut add = |map, key: Vec<u64>, words: &[u64]| {
            let all = expect.entry(map).or_default().entry(key).or_insert_with(|| vec![0; words.len()]);
            all.iter_mut().zip(words).for_each(|(all, word)| *all = all.wrapping_add(*word));
        };
        let mut values = Vec::new();
        for inputs in &inputs {
            give(&door, inputs);
            door.run();
            let value = Evaluation::new(inputs).expr(&expr);
            values.push(value);
            let n = value.bits;
            add("count", vec![0], &[1]);
            add("sum", vec![0], &[n]);
            add("avg", vec![0], &[1, n]);
            add("stats", vec![0], &[1, n]);
            let number = n.cast_signed();
            add("hist", vec![interpret::log2_bucket(number, bits)], &[1]);
            let [.., v2, v3] = inputs.integers;
            add("keyed", vec![v3, interpret::log2_bucket(number, 0)], &[1]);
            add("lhist", vec![v3, v2, interpret::linear_bucket(number, linear)], &[1]);
        }
        for (map, expect) in expect {
            // What is all zero is as if it were not there.
            let expect = expect.into_iter().filter(|(_, words)| words.iter().any(|word| *word != 0)).collect();
            prop_assert_eq!(aggregated(&door, map), expect, "\n@{}\n{}\n{:?}", map, body, inputs);
        }
        // A positive constant does not make a map signed.
        let signed = values[0].signed && interpret::constant(&expr).is_none_or(|n| n.cast_signed() < 0);
        let numbers = || values.iter().map(|value| if signed { value.number() } else { value.bits.into() });
        for (map, expect) in [("min", numbers().min()), ("max", numbers().max())] {
            let (of, _) = door.map(map);
            let Slot::Int { signed: has_sign, .. } = of.value.slot else { panic!("{of:?}") };
            prop_assert_eq!(has_sign, signed, "\n@{}\n{}", map, body);
            let word = aggregated(&door, map).into_values().next().map_or(0, |words| words[0]);
            let bits = if of.content == Content::Min { decode_min(word, signed) } else { decode_max(word, signed) };
            let found = if signed { bits.cast_signed().into() } else { bits.into() };
            prop_assert_eq!(Some(found), expect, "\n@{}\n{}\n{:?}", map, body, inputs);
        }
        Ok(())
    });
}
