//! Programs that the tests compile and run.

use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Prints the stack that a signal handler would see: the address of the innermost function, and that behind its call.
pub(super) const PROGRAM: &str = r#"
#include <stdio.h>
#include <unistd.h>
static volatile int sink;
static inline __attribute__((always_inline)) void inner(void **at) {
    __asm__ volatile("lea 0(%%rip), %0" : "=r"(*at)); sink++;
}
__attribute__((noinline)) void leaf(void **at, void **back) {
    *back = __builtin_return_address(0);
    inner(at);
    sink++;
}
__attribute__((noinline)) int caller(void **at, void **back) { leaf(at, back); return sink; }
int main(void) {
    void *at, *back;
    caller(&at, &back);
    printf("%lx %lx\n", (unsigned long)at, (unsigned long)back);
    fflush(stdout);
    pause();
}
"#;

pub(super) const CPP: &str = r#"
#include <stdio.h>
#include <unistd.h>
namespace app { struct Store { int put(int, const char *); }; }
__attribute__((noinline)) int app::Store::put(int a, const char *b) { return a + *b + (int)(long)__builtin_return_address(0); }
int main() {
    app::Store store;
    store.put(1, "");
    printf("%lx 0\n", (unsigned long)(void *)&app::Store::put);
    fflush(stdout);
    pause();
}
"#;

/// A USDT probe as <sys/sdt.h> makes it, with a semaphore, and one without.
pub(super) const USDT: &str = r#"
__asm__(
  ".section .probes,\"aw\",\"progbits\"\n test_semaphore: .zero 2\n .previous\n"
  ".section .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n _.stapsdt.base: .space 1\n .size _.stapsdt.base,1\n .previous\n");
#define NOTE(name, semaphore, arguments) __asm__ volatile( \
  "990: nop\n .pushsection .note.stapsdt,\"\",\"note\"\n .balign 4\n .4byte 992f-991f, 994f-993f, 3\n" \
  "991: .asciz \"stapsdt\"\n 992: .balign 4\n 993: .8byte 990b\n .8byte _.stapsdt.base\n .8byte " semaphore "\n" \
  " .asciz \"shop\"\n .asciz \"" name "\"\n .asciz \"" arguments "\"\n 994: .balign 4\n .popsection\n")
__attribute__((noinline)) void sell(void) { NOTE("sell", "test_semaphore", "-4@%edi 8@%rsi"); NOTE("sold", "0", ""); }
int main(void) { sell(); }
"#;

/// Compiles a program into a directory.
pub(super) fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let cpp = source == CPP;
    let file = directory.join(name).with_extension(if cpp { "cc" } else { "c" });
    fs::write(&file, source).unwrap();
    let program = directory.join(name);
    let compiler = if cpp { "g++" } else { "gcc" };
    let quiet = if cpp { "-Wno-pmf-conversions" } else { "-Wall" };
    let status = Command::new(compiler).arg(quiet).args(flags).arg(&file).arg("-o").arg(&program).status().unwrap();
    assert!(status.success());
    program
}

pub(super) fn run(command: &str, arguments: &[&Path]) {
    assert!(Command::new("sh").arg("-c").arg(command).arg("sh").args(arguments).status().unwrap().success(), "{command}");
}

/// A program that runs, and the two addresses that it told; it is killed at the end.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) addresses: [u64; 2],
}

impl Running {
    pub(super) fn new(program: &Path) -> Running {
        Running::of(Command::new(program).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub(super) fn of(mut child: Child) -> Running {
        let out = BufReader::new(child.stdout.take().unwrap());
        Running::from(child, out)
    }

    pub(super) fn from(child: Child, mut out: impl std::io::BufRead) -> Running {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|number| u64::from_str_radix(number, 16).unwrap());
        Running { child, addresses: [numbers.next().unwrap(), numbers.next().unwrap()] }
    }

    pub(super) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
