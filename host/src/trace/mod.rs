//! One-liners: programs in bpftrace's notation, as probes of the plugin `adhoc`.
//!
//! A program is a list of clauses, `ATTACH, ATTACH /predicate/ { body }`. Each becomes one probe. What a body does in the kernel is
//! the probe language's own and is passed on as it stands. What bpftrace does in user space (`printf`, `print`, `clear`, `zero`,
//! `time`, `exit`, `join`) is an [`Action`]: it is replaced by the `emit` of a stream of its own, so that it happens in the order
//! of everything else that is emitted, and the plugin does it when the row arrives.
//!
//! | step | file | from | to |
//! |---|---|---|---|
//! | mask | `mask` | text | the text with comments and strings blanked out, in which braces can be counted |
//! | split | `clauses` | mask | places of attach points, predicates, bodies |
//! | maps | `maps` | mask | which there are, and which are aggregated |
//! | rewrite | `rewrite`, `actions`, `printf` | a place | text for the compiler, segments that lead back, actions |
//!
//! Every text that is handed to the compiler has a list of segments, by which its errors are told at the place that was typed.

mod actions;
mod clauses;
mod error;
mod maps;
mod mask;
mod printf;
mod rewrite;
#[cfg(test)]
mod tests;

pub use error::{ProgramError, ProgramErrors};
use portcullis_adhoc_program::{self as adhoc, Action, Display};
use portcullis_ebpf::{Diagnostic, Part};
use serde_json::{Value, json};

use self::{
    clauses::Clause,
    error::Wrong,
    maps::Maps,
    rewrite::{Rewriter, Text},
};

/// How streams of actions begin; what follows is the action's number.
const STREAM: &str = "__action";

/// A program, ready for the plugin `adhoc`.
#[derive(Debug)]
pub struct Program {
    name: String,
    text: String,
    probes: Vec<Probe>,
    /// What its streams of actions stand for, by number.
    actions: Vec<Action>,
    /// The other streams of `END`.
    end_streams: Vec<String>,
}

/// A clause as the compiler gets it.
#[derive(Debug)]
struct Probe {
    name: String,
    attach: Text,
    when: Option<Text>,
    body: Text,
}

/// Reads a program. `name` is what errors call its text: a file's path, or `the program`. `parameters` are `$1`, `$2` and so on.
pub fn parse(name: &str, text: &str, parameters: &[String]) -> Result<Program, ProgramErrors> {
    let (name, text) = (name.to_owned(), text.to_owned());
    let mut program = Program { name, text, probes: Vec::new(), actions: Vec::new(), end_streams: Vec::new() };
    match program.read(parameters) {
        Ok(()) => Ok(program),
        Err(wrong) => Err(ProgramErrors(vec![ProgramError { name: program.name, text: program.text, wrong }])),
    }
}

/// A name after the first attach point's last part: `sys_enter_read`, and `sys_enter_read_2` where that is taken.
fn probe_name(attach: &str, taken: &[String]) -> String {
    let point = attach.split(',').next().unwrap_or_default().trim();
    let last = point.rsplit([':', '/']).next().unwrap_or_default();
    let word =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(48).collect() };
    let mut name = word(last);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name = word(point);
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.starts_with(STREAM) {
        name.insert_str(0, "probe_");
    }
    if !taken.contains(&name) {
        return name;
    }
    let others = (2..).map(|number: u64| format!("{name}_{number}"));
    others.into_iter().find(|name| !taken.contains(name)).unwrap_or(name)
}

/// The streams that a masked body emits to.
fn emitted(body: &str) -> impl Iterator<Item = String> {
    let words = body.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '$' || c == '@'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let streams: Vec<String> = words.windows(2).filter(|pair| pair[0] == "emit").map(|pair| pair[1].to_owned()).collect();
    streams.into_iter()
}

impl Program {
    fn read(&mut self, parameters: &[String]) -> Result<(), Wrong> {
        let mask = mask::mask(&self.text)?;
        let clauses::Split { declarations, clauses } = clauses::split(&mask)?;
        let mut maps = Maps::find(&mask);
        let mut names: Vec<String> = Vec::new();
        for (number, Clause { attach: points, predicate, body: place }) in clauses.into_iter().enumerate() {
            let end = mask[points.clone()].split(',').any(|point| matches!(point.trim(), "END" | "end"));
            let actions = &mut self.actions;
            let mut rewriter = Rewriter { text: &self.text, mask: &mask, parameters, end, maps: &mut maps, actions };
            let attach = rewriter.attach(points)?;
            let when = predicate.map(|range| rewriter.expression(range)).transpose()?;
            // What is declared at the top is said to the compiler by the first body: all bodies share the maps.
            let before: &[_] = if number == 0 { &declarations } else { &[] };
            let body = rewriter.body(before, place.clone())?;
            let name = probe_name(&attach.text, &names);
            if end {
                // A body that is a bare list emits to a stream of the probe's name.
                self.end_streams.extend(emitted(&mask[place]).chain([name.clone()]));
            }
            names.push(name.clone());
            self.probes.push(Probe { name, attach, when, body });
        }
        maps.check(&mask)
    }

    /// The configuration of the plugin `adhoc`, as JSON.
    pub fn config(&self, display: &Display) -> String {
        let probes: Vec<Value> = self.probes.iter().map(probe).collect();
        let program = adhoc::Program { actions: self.actions.clone(), end_streams: self.end_streams.clone(), display: *display };
        json!({ "probes": probes, "program": program }).to_string()
    }

    /// The compiler's error at the place that was typed.
    pub fn error(&self, diagnostic: &Diagnostic) -> ProgramError {
        let probe = self.probes.iter().find(|probe| probe.name == diagnostic.probe);
        let text = probe.and_then(|probe| match diagnostic.part {
            Part::Name => None,
            Part::Attach(_) => Some(&probe.attach),
            Part::When => probe.when.as_ref(),
            Part::Body => Some(&probe.body),
        });
        let whole = || probe.map_or(0..0, |probe| probe.attach.origin(0..probe.attach.text.len()));
        let span = text.map_or_else(whole, |text| text.origin(diagnostic.span.clone()));
        let wrong =
            Wrong { span, message: self.typed(&diagnostic.message), help: diagnostic.help.as_deref().map(|h| self.typed(h)) };
        ProgramError { name: self.name.clone(), text: self.text.clone(), wrong }
    }

    /// A message of the compiler in the words of the program: a stream of an action is called by its statement.
    fn typed(&self, message: &str) -> String {
        let numbers = (0..self.actions.len()).rev();
        let named = |text: String, number: usize| text.replace(&format!("{STREAM}{number}"), self.actions[number].what.name());
        numbers.fold(message.to_owned(), named)
    }
}

fn probe(probe: &Probe) -> Value {
    json!({
        "name": probe.name,
        "attach": [probe.attach.text],
        "when": probe.when.as_ref().map(|when| &when.text),
        "body": probe.body.text,
    })
}
