//! What files have: functions, symbols and USDT probes, and where they are.

use std::{fs, path::Path, process::Command};

use portcullis::symbols::{SymbolsError, UserSymbol};

use super::{
    names,
    programs::{CPP, PROGRAM, Running, USDT, compile},
    symbols,
};

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
