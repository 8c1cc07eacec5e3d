//! Variables of programs that the tests compile, as their linker places them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{fs, process::Command};

use portcullis_tests::{
    kernel::{self, Workloads, probe},
    lock,
};

/// Its variables are in two segments, of which one is not in the file, and the function is in a third.
const PROGRAM: &str = "
unsigned counter = 1000;
static volatile unsigned char last;
long table[8];
__attribute__((noinline)) void step(unsigned n) { counter += 1; last = n; table[n % 8] = n; __asm__ volatile(\"\" ::: \"memory\"); }
int main(void) { for (unsigned n = 0; n < 20; n++) step(n); }
";

/// Programs that are loaded anywhere, and such as are always at the same place.
#[test]
fn everywhere() {
    let Some(_lock) = lock() else { return };
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("program.c");
    fs::write(&source, PROGRAM).unwrap();
    for flags in [&["-fPIE", "-pie"][..], &["-fno-pie", "-no-pie"], &["-static"], &["-static-pie", "-fPIE"]] {
        let program = directory.path().join("program");
        let compiled = Command::new("gcc").args(["-O1", "-w"]).args(flags).arg(&source).arg("-o").arg(&program).status().unwrap();
        assert!(compiled.success(), "{flags:?}");
        let path = program.to_str().unwrap();
        let check = |kind: &str, body: &str, expect: &dyn Fn(u64) -> String| {
            let spec = probe("probe", &format!("{kind}:{path}:step"), None, body);
            let traced = kernel::trace(&[spec], &kernel::options(), Workloads { before: &[], open: &[&["runs", path]] });
            assert_eq!(traced.report.check(), [], "{flags:?}");
            let found: Vec<String> = traced.rows.iter().map(|(_, fields)| fields.join(" ")).collect();
            let expect: Vec<String> = (0..20).map(expect).collect();
            assert_eq!(found, expect, "{flags:?}");
        };
        let last = |n: u64| n.saturating_sub(1);
        let body = "emit s { counter: *uaddr(\"counter\"), last: *uaddr(\"last\"), size: sizeof(*uaddr(\"last\")) }";
        check("uprobe", body, &|n| format!("counter={} last={} size=1", 1000 + n, last(n)));
        let body =
            "$t = (uint64 *)uaddr(\"table\"); emit s { counter: *uaddr(\"counter\"), same: $t[entry.arg0 % 8] == entry.arg0 }";
        check("span:uprobe", body, &|n| format!("counter={} same=1", 1001 + n));
        fs::remove_file(&program).unwrap();
    }
}
