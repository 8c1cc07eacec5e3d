//! What addresses are, of processes and of the kernel.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use portcullis::symbols::{Frame, Options, Symbols};

use super::{
    libc, names, options,
    programs::{CPP, PROGRAM, Running, compile, run},
    symbols,
};

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
    let name = Some("symbols::stacks::single_addresses::marker");
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
