//! The symbolizer as a real process: programs that are compiled here, damaged files, and what the cage holds.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portcullis::{
    cage::User,
    symbols::{Frame, Options, Started, Symbols, SymbolsError, UserSymbol},
};

/// Prints the stack that a signal handler would see: the address of the innermost function, and that behind its call.
const PROGRAM: &str = r#"
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

const CPP: &str = r#"
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
const USDT: &str = r#"
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

fn options() -> Options {
    Options { executable: Some(env!("CARGO_BIN_EXE_portcullis").into()), ..Options::default() }
}

fn symbols() -> Symbols {
    Symbols::new(&options())
}

/// The C library that this process uses.
fn libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    path.expect("the tests are linked with the system's C library").into()
}

/// Compiles a program into a directory.
fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
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

fn run(command: &str, arguments: &[&Path]) {
    assert!(Command::new("sh").arg("-c").arg(command).arg("sh").args(arguments).status().unwrap().success(), "{command}");
}

/// A program that runs, and the two addresses that it told; it is killed at the end.
struct Running {
    child: Child,
    addresses: [u64; 2],
}

impl Running {
    fn new(program: &Path) -> Running {
        Running::of(Command::new(program).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn of(mut child: Child) -> Running {
        let out = BufReader::new(child.stdout.take().unwrap());
        Running::from(child, out)
    }

    fn from(child: Child, mut out: impl std::io::BufRead) -> Running {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|number| u64::from_str_radix(number, 16).unwrap());
        Running { child, addresses: [numbers.next().unwrap(), numbers.next().unwrap()] }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Functions of a stack, each with its line and whether it is inlined.
fn names(frames: &[Vec<Frame>]) -> Vec<(&str, Option<u32>, bool)> {
    frames.iter().flatten().map(|frame| (frame.function.as_deref().unwrap_or("?"), frame.line, frame.inlined)).collect()
}

/// A stack has its inlined functions, source lines, offsets and file; also when the process has ended since it was noted.
#[test]
fn stacks() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", PROGRAM, &["-g", "-O2"]);
    let mut running = Running::new(&program);
    let pid = running.child.id();
    let symbols = symbols();
    assert_eq!(symbols.pid(), None);
    symbols.note_process(pid);
    assert_eq!(symbols.pid(), None, "nothing was asked yet");
    let check = || {
        let frames = symbols.user(pid, &running.addresses);
        assert_eq!(names(&frames), [("inner", Some(6), true), ("leaf", Some(10), false), ("caller", Some(13), false)]);
        for frame in frames.iter().flatten() {
            assert_eq!(frame.module.as_deref(), Some(program.to_str().unwrap()));
            assert!(frame.file.as_deref().unwrap().ends_with("program.c"));
            assert!(frame.inlined || (1..100).contains(&frame.offset), "{frame:?}");
        }
    };
    check();
    running.child.kill().unwrap();
    // It has ended and is not waited for: it is there, without mappings, and keeps those that it had.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(250));
    symbols.note_process(pid);
    assert_eq!(symbols.user(pid, &[1])[0][0].function, None);
    check();
    running.child.wait().unwrap();
    fs::remove_file(&program).unwrap();
    check();
    // What was never seen stays an address.
    assert_eq!(symbols.user(pid, &[1]), [[Frame { address: 1, ..Frame::default() }]]);
    assert_eq!(symbols.user(u32::MAX, &[7, 8]).concat().iter().map(|frame| frame.address).collect::<Vec<_>>(), [7, 8]);
    assert!(symbols.user(pid, &[]).is_empty());
}

/// A process that begins another program is looked at anew, and so is one that loads a library.
#[test]
fn programs_change() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", PROGRAM, &["-g", "-O2"]);
    let script = format!("read line; exec {}", program.display());
    let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let symbols = symbols();
    let shell = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    symbols.note_process(child.id());
    drop(child.stdin.take());
    let mut running = Running::of(child);
    assert!(!shell.contains("program"), "{shell}");
    std::thread::sleep(Duration::from_millis(20));
    symbols.note_process(running.child.id());
    running.end();
    let frames = symbols.user(running.child.id(), &running.addresses);
    assert_eq!(names(&frames).last().unwrap().0, "caller");

    let library = directory.path().join("late.so");
    let source = directory.path().join("late.c");
    fs::write(&source, "void *late(void) { void *at; __asm__ volatile(\"lea 0(%%rip), %0\" : \"=r\"(at)); return at; }").unwrap();
    run("gcc -shared -fPIC -O1 $1 -o $2", &[&source, &library]);
    let loads = format!(
        "#include <dlfcn.h>\n#include <stdio.h>\n#include <unistd.h>\nint main(void) {{ puts(\"\"); fflush(stdout); getchar();\n\
         void *library = dlopen(\"{}\", RTLD_NOW); void *(*late)(void) = (void *(*)(void))dlsym(library, \"late\");\n\
         printf(\"%lx 0\\n\", (unsigned long)late()); fflush(stdout); pause(); }}",
        library.display()
    );
    let program = compile(directory.path(), "loads", &loads, &["-O1", "-ldl"]);
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    symbols.note_process(child.id());
    drop(child.stdin.take());
    let mut running = Running::from(child, out);
    // By itself, with the next stack that is seen.
    std::thread::sleep(Duration::from_millis(20));
    symbols.note_process(running.child.id());
    running.end();
    let frames = symbols.user(running.child.id(), &running.addresses[..1]);
    assert_eq!(names(&frames), [("late", None, false)]);
    assert_eq!(frames[0][0].module.as_deref(), library.to_str());
}

/// This test, in Rust, has the name that its source gives it; single addresses are taken as they are.
#[test]
fn single_addresses() {
    #[inline(never)]
    fn marker(value: u64) -> u64 {
        std::hint::black_box(value + 1)
    }
    let address = marker as fn(u64) -> u64 as usize as u64;
    assert_eq!(marker(1), 2);
    let symbols = symbols();
    let frames = symbols.user_symbols(std::process::id(), &[1, address, address + 1]);
    let got: Vec<_> = frames.iter().map(|frame| (frame.address, frame.function.as_deref(), frame.offset)).collect();
    let name = Some("symbols::single_addresses::marker");
    assert_eq!(got, [(1, None, 0), (address, name, 0), (address + 1, name, 1)]);
    assert!(frames.iter().all(|frame| frame.line.is_none() && !frame.inlined));
    assert!(symbols.kernel_symbols(&[]).is_empty());
}

/// Addresses in the C library and in the vDSO have names, too.
#[test]
fn libraries() {
    let symbols = symbols();
    let own = std::process::id();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let vdso = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let vdso_start = u64::from_str_radix(vdso.split('-').next().unwrap(), 16).unwrap();
    let path = libc();
    let function = &symbols.functions(&path, None, "getppid").unwrap()[0];
    let name = path.file_name().unwrap().to_str().unwrap();
    let code = maps.lines().find(|line| line.contains(name) && line.contains("r-xp")).unwrap();
    let mut fields = code.split_whitespace();
    let start = u64::from_str_radix(fields.next().unwrap().split('-').next().unwrap(), 16).unwrap();
    let offset = u64::from_str_radix(fields.nth(1).unwrap(), 16).unwrap();
    let address = start + function.file_offset - offset;
    let frames = symbols.user(own, &[address, address + 5]).concat();
    assert!(frames.iter().all(|frame| frame.function.as_deref().unwrap().ends_with("getppid")), "{frames:?}");
    assert_eq!(frames.iter().map(|frame| frame.offset).collect::<Vec<_>>(), [0, 5]);
    let within: Vec<u64> = (0..0x2000).step_by(16).map(|at| vdso_start + at).collect();
    let frames = symbols.user(own, &within).concat();
    assert!(frames.iter().any(|frame| frame.module.as_deref() == Some("[vdso]") && frame.function.is_some()), "{frames:?}");
}

/// C++ names are shown, and found, as their source spells them.
#[test]
fn cpp() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", CPP, &["-g", "-O1"]);
    let running = Running::new(&program);
    let symbols = symbols();
    let frames = symbols.user(running.child.id(), &running.addresses[..1]);
    assert_eq!(names(&frames), [("app::Store::put(int, char const*)", Some(5), false)]);
    for pattern in ["app::Store::put", "app::Store::put(int, char const*)", "app::*", "_ZN3app5Store3putEiPKc", "_ZN3app*"] {
        let found = symbols.functions(&program, None, pattern).unwrap();
        assert_eq!(found.len(), 1, "{pattern}: {found:?}");
        assert_eq!(found[0].name, "_ZN3app5Store3putEiPKc");
        assert_eq!(found[0].demangled.as_deref(), Some("app::Store::put(int, char const*)"));
    }
    assert_eq!(symbols.functions(&program, None, "put").unwrap(), []);
}

/// A stripped program has the names that its debug file has, found by link beside it or by build id; without one, addresses.
#[test]
fn stripped() {
    let directory = tempfile::tempdir().unwrap();
    let whole = compile(directory.path(), "program", PROGRAM, &["-g", "-O2", "-gz=zlib", "-Wl,--build-id"]);
    let bare = directory.path().join("bare");
    run("objcopy --strip-all $1 $2", &[&whole, &bare]);
    let full = ["inner", "leaf", "caller"];
    let check = |options: Options, expect: &[&str]| {
        let running = Running::new(&bare);
        let frames = Symbols::new(&options).user(running.child.id(), &running.addresses);
        assert_eq!(names(&frames).iter().map(|name| name.0).collect::<Vec<_>>(), expect);
        assert!(frames.iter().flatten().all(|frame| frame.module.as_deref() == bare.to_str()));
        frames
    };
    let frames = check(options(), &["?", "?"]);
    // Where it is in the file is known at least: the code is there.
    let code = fs::read(&bare).unwrap();
    assert!(frames.iter().flatten().all(|frame| frame.offset != 0 && code[frame.offset as usize] != 0), "{frames:?}");

    let debug = directory.path().join("bare.debug");
    run("cp $1 $2 && objcopy --add-gnu-debuglink=$2 $3", &[&whole, &debug, &bare]);
    let frames = check(options(), &full);
    assert_eq!(frames[0][0].line, Some(6));
    // A link in its place is not followed: it might lead to a file that is none of the traced program's business.
    let moved = directory.path().join("elsewhere.debug");
    run("mv $1 $2 && ln -s $2 $1", &[&debug, &moved]);
    check(options(), &["?", "?"]);
    run("mv $1 $2", &[&moved, &debug]);
    let elsewhere = Options { executable: options().executable, lines: false, ..Options::default() };
    check(elsewhere, &["leaf", "caller"]);

    // By build id, in a directory of debug files; the link leads nowhere.
    let root = directory.path().join("root");
    let id = String::from_utf8(Command::new("readelf").arg("-n").arg(&bare).output().unwrap().stdout).unwrap();
    let id = id.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap().to_owned();
    let place = root.join(".build-id").join(&id[..2]);
    fs::create_dir_all(&place).unwrap();
    fs::rename(&debug, place.join(format!("{}.debug", &id[2..]))).unwrap();
    check(Options { debug: root.clone(), ..options() }, &full);
    // Functions are found there, and lie in the file that runs.
    let found = Symbols::new(&Options { debug: root, ..options() }).functions(&bare, None, "leaf").unwrap();
    assert_eq!(found.len(), 1);
    let same = symbols().functions(&whole, None, "leaf").unwrap();
    assert_eq!(found, same);

    // One of another program is not used.
    compile(directory.path(), "bare.debug", CPP, &["-g", "-Wl,--build-id"]);
    check(options(), &["?", "?"]);
}

/// Functions have offsets that their code is at, and the mark of indirect branch tracking is seen.
#[test]
fn functions() {
    let directory = tempfile::tempdir().unwrap();
    let symbols = symbols();
    for (flag, marked) in [("-fcf-protection=full", true), ("-fcf-protection=none", false)] {
        let program = compile(directory.path(), "program", PROGRAM, &["-O2", flag]);
        let found = symbols.functions(&program, None, "leaf").unwrap();
        let [leaf] = &found[..] else { panic!("{found:?}") };
        assert_eq!((leaf.name.as_str(), leaf.starts_with_endbr64), ("leaf", marked));
        assert!(leaf.size > 8 && leaf.demangled.is_none());
        let bytes = fs::read(&program).unwrap();
        assert_eq!(bytes[leaf.file_offset as usize..].starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]), marked);
        let all: Vec<String> = symbols.functions(&program, None, "*").unwrap().into_iter().map(|one| one.name).collect();
        for name in ["main", "leaf", "caller"] {
            assert!(all.iter().any(|one| one == name), "{all:?}");
        }
        assert_eq!(symbols.functions(&program, None, "lea").unwrap(), []);
        assert_eq!(symbols.functions(&program, None, "l??f").unwrap(), found);
        assert_eq!(symbols.functions(&program, Some(std::process::id()), "leaf").unwrap(), found);
        fs::remove_file(&program).unwrap();
    }
    let error = symbols.functions(Path::new("/dev/null"), None, "x").unwrap_err();
    assert!(matches!(error, SymbolsError::Open { .. }), "{error}");
    assert!(matches!(symbols.functions(Path::new("/no/such/file"), None, "x"), Err(SymbolsError::Open { .. })));
    assert!(matches!(symbols.functions(Path::new("/x"), None, &"x".repeat(300)), Err(SymbolsError::Pattern { .. })));
    let file = directory.path().join("text");
    fs::write(&file, "text").unwrap();
    let error = symbols.functions(&file, None, "x").unwrap_err();
    assert!(error.to_string().ends_with("text: it is no ELF file"), "{error}");
}

/// Symbols are as far from a function as the file's own addresses say, whichever parts of the file they are in.
#[test]
fn places() {
    const VARIABLES: &str = "
        int counter = 1; char last; long table[8]; __thread int mine; static int twice;
        static int one(void) { return twice++; }
        void *choose(void) { return one; } void chosen(void) __attribute__((ifunc(\"choose\")));
        int main(void) { return counter + last + mine + one(); }";
    let directory = tempfile::tempdir().unwrap();
    let symbols = symbols();
    for flags in [&["-fPIE", "-pie"][..], &["-fno-pie", "-no-pie"]] {
        let program = compile(directory.path(), "program", VARIABLES, flags);
        let main = symbols.functions(&program, None, "main").unwrap()[0].file_offset;
        let at = |name: &str| symbols.symbol(&program, None, name, main);
        assert_eq!(at("main").unwrap(), Some(UserSymbol { distance: 0, size: 0 }));
        assert_eq!(symbols.symbol(&program, None, "main", main + 4).unwrap().unwrap().distance, -4);
        let sizes = ["counter", "last", "table", "twice", "one"].map(|name| at(name).unwrap().unwrap().size);
        assert_eq!(sizes, [4, 1, 64, 4, 0], "{flags:?}");
        let output = Command::new("nm").arg(&program).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        let address = |name: &str| {
            let line = listed.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
            i64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
        };
        for name in ["counter", "last", "table", "twice", "one"] {
            assert_eq!(at(name).unwrap().unwrap().distance, address(name) - address("main"), "{name} {flags:?}");
        }
        for name in ["count", "count?r", "printf", ""] {
            assert_eq!(at(name).unwrap(), None, "{name}");
        }
        for (name, reason) in [("mine", "a variable of each thread"), ("chosen", "IFUNC")] {
            let error = at(name).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(symbols.symbol(&program, None, "main", u64::MAX).unwrap_err().to_string().contains("loaded"));
    }
    // Two sources may have a symbol of one name, each for itself.
    let other = directory.path().join("other.c");
    fs::write(&other, "static int twice = 2; int *other(void) { return &twice; }").unwrap();
    let program = compile(directory.path(), "program", VARIABLES, &[other.to_str().unwrap()]);
    let main = symbols.functions(&program, None, "main").unwrap()[0].file_offset;
    let error = symbols.symbol(&program, None, "twice", main).unwrap_err().to_string();
    assert!(error.ends_with("it has several symbols `twice`"), "{error}");
}

/// USDT probes have places, semaphores and arguments, as readelf sees them.
#[test]
fn usdt() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", USDT, &["-O2"]);
    let symbols = symbols();
    let sites = symbols.usdt(&program, None, "shop", "*").unwrap();
    let [sell, sold] = &sites[..] else { panic!("{sites:?}") };
    assert_eq!((sell.provider.as_str(), sell.name.as_str(), sell.arguments.as_str()), ("shop", "sell", "-4@%edi 8@%rsi"));
    assert_eq!((sold.name.as_str(), sold.arguments.as_str(), sold.semaphore_offset), ("sold", "", None));
    let bytes = fs::read(&program).unwrap();
    assert_eq!([sell, sold].map(|site| bytes[site.file_offset as usize]), [0x90, 0x90]);
    let semaphore = sell.semaphore_offset.unwrap() as usize;
    assert_eq!(bytes[semaphore..semaphore + 2], [0, 0]);
    // `sell` is where its probes are.
    let function = &symbols.functions(&program, None, "sell").unwrap()[0];
    assert!((function.file_offset..function.file_offset + function.size).contains(&sell.file_offset));
    assert_eq!(symbols.usdt(&program, None, "shop", "sell").unwrap(), sites[..1]);
    assert_eq!(symbols.usdt(&program, None, "shop", "s*d").unwrap(), sites[1..]);
    assert_eq!(symbols.usdt(&program, None, "other", "*").unwrap(), []);
}

/// The kernel's functions have names, where this user may know them.
#[test]
fn kernel() {
    let lines = fs::read_to_string("/proc/kallsyms").unwrap();
    let known = |name: &str| {
        let line = lines.lines().find(|line| line.split(' ').nth(2) == Some(name))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|&address| address != 0)
    };
    let symbols = symbols();
    match known("vfs_read") {
        Some(address) => {
            let frames = symbols.kernel(&[address + 4, address + 9, 3]);
            let got: Vec<_> = frames.iter().flatten().map(|frame| (frame.function.as_deref(), frame.offset)).collect();
            assert_eq!(got, [(Some("vfs_read"), 4), (Some("vfs_read"), 9), (None, 0)]);
            assert_eq!(frames[0][0].module, None);
            let single: Vec<_> =
                symbols.kernel_symbols(&[3, address]).into_iter().map(|frame| (frame.function, frame.offset)).collect();
            assert_eq!(single, [(None, 0), (Some("vfs_read".to_owned()), 0)]);
        }
        None => assert_eq!(symbols.kernel(&[3]), [[Frame { address: 3, ..Frame::default() }]]),
    }
    if let Some(line) =
        lines.lines().find(|line| line.contains("\t[") && line.contains(" t ") && !line.starts_with("0000000000000000"))
    {
        let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
        assert_eq!(symbols.kernel(&[address])[0][0].module.as_deref(), line.split('\t').nth(1).map(str::trim));
    }
}

/// Damaged files cost an error or names, no more; and the next file is parsed as ever.
#[test]
fn damaged() {
    let directory = tempfile::tempdir().unwrap();
    let good = compile(directory.path(), "good", USDT, &["-g", "-O2"]);
    let bytes = fs::read(&good).unwrap();
    let symbols = Symbols::new(&Options { timeout: Duration::from_secs(10), ..options() });
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let begin = Instant::now();
    let mut errors = 0;
    for case in 0..200 {
        let mut bytes = bytes.clone();
        if case % 4 == 0 {
            bytes.truncate(next() % bytes.len());
        } else {
            // Headers at the begin and end, and anywhere.
            let (first, length) = match case % 4 {
                1 => (0, 1024),
                2 => (bytes.len() - 4096, 4096),
                _ => (0, bytes.len()),
            };
            for _ in 0..1 + case % 16 {
                let at = first + next() % length;
                bytes[at] ^= 1 << (next() % 8);
            }
        }
        let file = directory.path().join(format!("damaged-{case}"));
        fs::write(&file, &bytes).unwrap();
        errors += usize::from(symbols.functions(&file, None, "*").is_err());
        let _ = symbols.usdt(&file, None, "*", "*");
        fs::remove_file(&file).unwrap();
    }
    assert!(errors > 20, "{errors}");
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(symbols.functions(&good, None, "sell").unwrap().len(), 1);
}

/// Damaged debug information costs source lines and inlined functions, no more.
#[test]
fn damaged_debug_information() {
    let directory = tempfile::tempdir().unwrap();
    let good = compile(directory.path(), "good", PROGRAM, &["-g", "-O2"]);
    let listing = String::from_utf8(Command::new("readelf").arg("-SW").arg(&good).output().unwrap().stdout).unwrap();
    let bytes = fs::read(&good).unwrap();
    let mut random = 1_u64;
    for section in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_rnglists"] {
        let Some(line) = listing.lines().find(|line| line.contains(&format!(" {section} "))) else { continue };
        let mut fields = line.split(section).nth(1).unwrap().split_whitespace().skip(2);
        let number = |text: Option<&str>| usize::from_str_radix(text.unwrap(), 16).unwrap();
        let (start, length) = (number(fields.next()), number(fields.next()));
        for case in 0..10 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + case * 3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes[start + (random >> 33) as usize % length] ^= (random >> 8) as u8;
            }
            let file = directory.path().join(format!("damaged-{case}"));
            fs::write(&file, &bytes).unwrap();
            run("chmod +x $1", &[&file]);
            let running = Running::new(&file);
            let frames = symbols().user(running.child.id(), &running.addresses);
            assert_eq!(names(&frames[1..]).last().unwrap().0, "caller", "{section} {case}");
            fs::remove_file(&file).unwrap();
        }
    }
}

/// A file whose debug sections all unpack to so many zeros.
fn bomb(good: &Path, zeros: usize) -> Vec<u8> {
    // elf.h: Elf64_Ehdr, Elf64_Shdr, Elf64_Chdr.
    const COMPRESSED: u8 = 0x08;
    let mut file = fs::read(good).unwrap();
    let number = |file: &[u8], at: usize, length: usize| {
        file[at..at + length].iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte))
    };
    let mut contents = vec![1, 0, 0, 0, 0, 0, 0, 0];
    contents.extend((zeros as u64).to_le_bytes());
    contents.extend(1_u64.to_le_bytes());
    contents.extend(miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; zeros], 1));
    let place = (file.len() as u64).to_le_bytes();
    file.extend(&contents);
    let header = |file: &[u8], at: usize| number(file, 0x28, 8) + at * 64;
    let names = number(&file, header(&file, number(&file, 0x3e, 2)) + 24, 8);
    for section in 0..number(&file, 0x3c, 2) {
        let at = header(&file, section);
        if file[names + number(&file, at, 4)..].starts_with(b".debug_") {
            file[at + 9] |= COMPRESSED;
            file[at + 24..at + 32].copy_from_slice(&place);
            file[at + 32..at + 40].copy_from_slice(&(contents.len() as u64).to_le_bytes());
        }
    }
    file
}

/// Debug information that unpacks to far more than there may be costs source lines and inlined functions, no more.
#[test]
fn bombs() {
    let directory = tempfile::tempdir().unwrap();
    let good = compile(directory.path(), "good", PROGRAM, &["-g", "-O2"]);
    let path = directory.path().join("bomb");
    let bytes = bomb(&good, 300 << 20);
    assert!(bytes.len() < 4 << 20);
    fs::write(&path, bytes).unwrap();
    run("chmod +x $1", &[&path]);
    let running = Running::new(&path);
    let told = Arc::new(Mutex::new(0));
    let tell = told.clone();
    let started = Some(Started(Arc::new(move |_| *tell.lock().unwrap() += 1)));
    let symbols = Symbols::new(&Options { timeout: Duration::from_secs(20), started, ..options() });
    let frames = symbols.user(running.child.id(), &running.addresses);
    assert_eq!(names(&frames), [("leaf", None, false), ("caller", None, false)]);
    assert_eq!(*told.lock().unwrap(), 3, "it ran out of memory twice, and was then asked for names alone");
    assert_eq!(names(&symbols.user(running.child.id(), &running.addresses)), names(&frames));
}

/// A symbolizer that is killed is started again, and whoever asked to be told is told.
#[test]
fn killed() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let started = Started(Arc::new(move |pid| tell.lock().unwrap().push(pid)));
    let symbols = Symbols::new(&Options { started: Some(started), ..options() });
    let path = libc();
    let first = symbols.start().unwrap();
    let expect = symbols.functions(&path, None, "getppid").unwrap();
    let process = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    // Until the socket is closed, which is before it can be waited for.
    while fs::read_to_string(format!("/proc/{first}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(symbols.functions(&path, None, "getppid").unwrap(), expect);
    let second = symbols.pid().unwrap();
    assert_eq!(*told.lock().unwrap(), [first, second]);
    assert!(!Path::new(&format!("/proc/{first}")).exists());
}

/// An executable that is started in place of the symbolizer; its socket is descriptor 0.
fn instead(directory: &Path, script: &str) -> Options {
    let program = directory.join("instead");
    fs::write(&program, script).unwrap();
    run("chmod +x $1", &[&program]);
    Options {
        executable: Some(program),
        starting: Duration::from_millis(300),
        timeout: Duration::from_millis(300),
        ..Options::default()
    }
}

/// The greeting of a symbolizer whose cage lacks nothing, a frame of two bytes, as a shell says it.
const READY: &str = "#!/bin/sh\nprintf '\\002\\000\\000\\000\\000\\000' >&0\n";

/// A symbolizer that can't be started is given up; addresses stay.
#[test]
fn useless() {
    let directory = tempfile::tempdir().unwrap();
    for script in
        ["#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\necho nonsense >&0\nexec sleep 60", "#!/bin/sh\n", "#!/bin/sh\nkill -SEGV $$\n"]
    {
        let symbols = Symbols::new(&instead(directory.path(), script));
        let path = libc();
        let begin = Instant::now();
        let error = symbols.functions(&path, None, "getppid").unwrap_err();
        assert!(error.to_string().contains("can't be started: "), "{error}");
        for _ in 0..10 {
            let error = symbols.functions(&path, None, "getppid").unwrap_err();
            assert!(error.to_string().contains("failed too often"), "{error}");
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert_eq!(symbols.user(std::process::id(), &[5]), [[Frame { address: 5, ..Frame::default() }]]);
        let marked = useless as fn() as usize as u64;
        let frame = &symbols.user(std::process::id(), &[marked])[0][0];
        assert!(frame.function.is_none() && frame.module.is_some(), "{frame:?}");
        assert_eq!(symbols.pid(), None);
        assert!(symbols.start().is_err());
    }
}

/// A request that takes too long ends the symbolizer, and after a few the file is given up; so it is with answers that can't be.
#[test]
fn hangs_and_lies() {
    let directory = tempfile::tempdir().unwrap();
    for (what, expect) in [
        ("exec sleep 60", "did not answer in time"),
        ("exit", "it ended"),
        ("head -c 4 <&0 >/dev/null; printf '\\001\\000\\000\\000\\003' >&0; exec sleep 60", "an answer to something else"),
        ("head -c 4 <&0 >/dev/null; printf '\\377\\377\\377\\377' >&0; exec sleep 60", ""),
        ("head -c 4 <&0 >/dev/null; printf '\\002\\000\\000\\000\\003\\003\\003' >&0; exec sleep 60", ""),
    ] {
        let symbols = Symbols::new(&instead(directory.path(), &format!("{READY}{what}\n")));
        let path = libc();
        let begin = Instant::now();
        let error = symbols.functions(&path, None, "getppid").unwrap_err();
        assert!(matches!(error, SymbolsError::Parse { .. }) && error.to_string().contains(expect), "{what}: {error}");
        // It is not tried again.
        let again = symbols.functions(&path, None, "getpid").unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(symbols.pid(), None);
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
}

/// Nobody who only notes a process waits for the symbolizer.
#[test]
fn noting_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { timeout: Duration::from_secs(1), ..instead(directory.path(), &format!("{READY}exec sleep 60\n")) };
    let symbols = Symbols::new(&options);
    symbols.start().unwrap();
    let path = libc();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| symbols.functions(&path, None, "getppid"));
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        symbols.note_process(other.id());
        symbols.note_process(std::process::id());
        assert!(begin.elapsed() < Duration::from_millis(300), "{:?}", begin.elapsed());
        assert!(!asks.is_finished());
    });
    other.kill().unwrap();
    other.wait().unwrap();
}

/// What the cage leaves: a user of its own, no capabilities, filtered system calls, its socket and nothing else.
#[test]
fn cage() {
    let symbols = symbols();
    let pid = symbols.start().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Seccomp:"), ["2"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("Threads:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    if rustix::process::geteuid().is_root() {
        let uid: u32 = field("Uid:")[0].parse().unwrap();
        assert!(field("Uid:") == vec![uid.to_string(); 4] && (User { uid, gid: uid }).is_own(), "{uid}");
        assert_eq!(field("Groups:"), [""; 0]);
    }
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(descriptors(pid), 4);
    // Files that were parsed are not held open, and what it opens itself it can't have opened.
    let path = libc();
    symbols.functions(&path, None, "getppid").unwrap();
    assert_eq!(descriptors(pid), 4);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "1000");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("5"));
    drop(symbols);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
