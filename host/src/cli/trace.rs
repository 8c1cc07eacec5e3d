//! `portcullis trace`: a program in bpftrace's notation, run by the plugin `adhoc`.

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal, Read},
};

use anyhow::Context as _;
use portcullis_adhoc_program::Display;
use portcullis_ebpf::Rate;

use super::{
    Exit, Trace, UsageError,
    check::listing,
    run::{How, follow},
};
use crate::{
    bundle::SpecErrors,
    clock,
    grants::{GrantedBy, Grants},
    manifest::{Format, Manifest},
    ready::Ready,
    run::Plan,
    shipped,
    trace::{self, Program, ProgramErrors},
};

/// Reads a program and runs it to its end.
pub fn trace(arguments: &Trace) -> anyhow::Result<Exit> {
    let program = read(arguments)?;
    let plan = Plan {
        manifest: manifest(arguments, &program)?,
        command: command(arguments)?,
        system_wide: arguments.system_wide,
        limits: arguments.scope.limits()?,
        watch: false,
        ask: false,
        lock: None,
    };
    if plan.system_wide && plan.command.is_empty() {
        return Err(UsageError("--system-wide is for a run with a COMMAND; without one every process is traced".into()).into());
    }
    let how = How {
        verbose: arguments.verbose,
        report: arguments.report.as_deref(),
        dry_run: arguments.dry_run,
        brief: !arguments.verbose,
        mechanism: arguments.mechanism,
    };
    let outcome = follow(&plan, &how, Ready::default(), |ready| arguments.listing.then(|| listing(ready.plugins())));
    outcome.map_err(|error| match error.downcast::<SpecErrors>() {
        Ok(SpecErrors(errors)) => ProgramErrors(errors.iter().map(|(_, error)| program.error(error)).collect()).into(),
        Err(error) => error,
    })
}

/// The program of the command line, or of the file that it names.
fn read(arguments: &Trace) -> anyhow::Result<Program> {
    if let Some(text) = &arguments.program {
        return Ok(trace::parse("the program", text, &arguments.words)?);
    }
    let Some((first, parameters)) = arguments.words.split_first() else {
        return Err(UsageError("there is no program".into()).into());
    };
    // No file that is meant has a brace in its name, and every program has one.
    if first.contains('{') {
        return Ok(trace::parse("the program", first, parameters)?);
    }
    let mut text = String::new();
    if first == "-" {
        if io::stdin().is_terminal() {
            return Err(UsageError("`-` reads the program from standard input, which is a terminal".into()).into());
        }
        io::stdin().read_to_string(&mut text).context("can't read the program from standard input")?;
        return Ok(trace::parse("standard input", &text, parameters)?);
    }
    let help = "a program is 'ATTACH { body }' or a file that has one";
    let text = fs::read_to_string(first).with_context(|| format!("can't read the program {first} ({help})"))?;
    Ok(trace::parse(first, &text, parameters)?)
}

/// The bundle of the plugin `adhoc` with the program.
fn manifest(arguments: &Trace, program: &Program) -> anyhow::Result<Manifest> {
    let display = Display {
        json: arguments.format == Format::Json,
        interval: arguments.interval.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        top: arguments.top,
        clear: arguments.clear,
        utc_offset: clock::utc_offset(),
    };
    let grants = Grants { by: GrantedBy::Author, ..Grants::none() };
    let (source, component) = shipped::adhoc()?;
    let mut manifest = Manifest::single(&source, program.config(&display), grants);
    manifest.stop.after = arguments.duration;
    manifest.format = arguments.format;
    manifest.name = "trace".into();
    if let Some(layers) = arguments.sandbox {
        manifest.require(layers);
    }
    for plugin in &mut manifest.plugins {
        plugin.shipped = component;
        // Who wrote the program wants to see what it prints.
        (plugin.limits.output_rows, plugin.limits.output_bytes) = (u64::MAX, u64::MAX);
        plugin.limits.rate = arguments.rate.map(|a_second| Rate { a_second, burst: arguments.burst.unwrap_or(a_second) });
        plugin.limits.attach_points = arguments.attach_points.unwrap_or(plugin.limits.attach_points);
    }
    Ok(manifest)
}

/// COMMAND, from either of the two places where it can be.
fn command(arguments: &Trace) -> anyhow::Result<Vec<OsString>> {
    match &arguments.command_line {
        Some(line) => words(line).ok_or_else(|| UsageError(format!("-c: a quote in `{line}` does not end")).into()),
        None => Ok(arguments.command.clone()),
    }
}

/// The words of a command line, as a shell splits them; `None` if a quote does not end. Nothing is expanded.
fn words(line: &str) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take().map(OsString::from)),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => word.extend(chars.next()),
                        other => word.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word.map(OsString::from));
    Some(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    /// Every command of docs/trace.md is one, and its program can be read; so can the file that it shows.
    #[test]
    fn documentation() {
        let text = include_str!("../../../docs/trace.md");
        let blocks = text.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
        let mut commands = 0;
        for (language, block) in blocks {
            match language {
                "sh" => {
                    let command = Cli::try_parse_from(words(block).unwrap()).unwrap_or_else(|e| panic!("{block}\n{e}")).command;
                    let Command::Trace(arguments) = command else { panic!("{block}") };
                    read(&arguments).unwrap_or_else(|e| panic!("{block}\n{e}"));
                    commands += 1;
                }
                "trace" => drop(trace::parse("FILE", block, &["bash".into()]).unwrap_or_else(|e| panic!("{block}\n{e}"))),
                other => assert_eq!(other, "text", "{block}"),
            }
        }
        assert!(commands > 10, "{commands}");
    }

    /// Blanks part words, quotes and backslashes keep them together.
    #[test]
    fn words_of_a_command() {
        let check = |line: &str, expect: Option<&[&str]>| {
            assert_eq!(words(line), expect.map(|words| words.iter().map(OsString::from).collect()), "{line}");
        };
        check("", Some(&[]));
        check("  sleep  1\n", Some(&["sleep", "1"]));
        check(r#"sh -c 'a "b" \c' "d\"'e" f\ g '' h"i"j"#, Some(&["sh", "-c", r#"a "b" \c"#, "d\"'e", "f g", "", "hij"]));
        check("a 'b", None);
        check("a \"b", None);
    }
}
