//! Files that are damaged, or meant to do damage.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portcullis::symbols::{Options, Started, Symbols};

use super::{
    names, options,
    programs::{PROGRAM, Running, USDT, compile, run},
    symbols,
};

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
