//! The state of the talk with one worker: what it may say now.
//!
//! Everything that arrives passes [`Conversation::hear`] before anything is done with it. A worker that says what it can't say is
//! taken over or broken; it is stopped, and nothing of what it said counts.

use std::collections::{HashSet, VecDeque};

use super::{
    check,
    protocol::{CallKind, Fault, FromWorker, MAX_LINE, MAX_LOOKUP, MAX_RESOLVE, Request, Returned, cut_line},
};
use crate::{
    cage::{Layer, Missing},
    contract::{Level, Map, Table, TableRows},
};

/// A message that can't be, given those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something else than that it is locked in, first.
    #[error("it spoke before it was locked in")]
    Uncaged,
    /// That it is locked in, later; or that it lacks more layers than there are.
    #[error("it was locked in once more")]
    CagedAgain,
    /// A return, with no call that it could be of.
    #[error("`{}` returned, and was not called", .0.as_str())]
    NotCalled(CallKind),
    /// A return of another call than the one that runs.
    #[error("`{}` returned while `{}` was running", .returned.as_str(), .running.as_str())]
    WrongReturn {
        /// The one.
        returned: CallKind,
        /// The other.
        running: CallKind,
    },
    /// Anything else while no call runs.
    #[error("it spoke while no call was running")]
    Unasked,
    /// A table that was not declared.
    #[error("rows for table {table}, and there are {tables}")]
    UnknownTable {
        /// The one.
        table: u32,
        /// How many there are.
        tables: usize,
    },
    /// A request in a call in which there are no maps yet.
    #[error("it asked for something while `{}` was running", .0.as_str())]
    AskedEarly(CallKind),
    /// A map that is not in the schema.
    #[error("a request for map {map}, and there are {maps}")]
    UnknownMap {
        /// The one.
        map: u32,
        /// How many there are.
        maps: usize,
    },
    /// More stacks at once than may be asked for.
    #[error("a request for {0} stacks, where {MAX_RESOLVE} are allowed")]
    ManyStacks(usize),
    /// More processes at once than may be asked for.
    #[error("a request for {0} processes, where {MAX_LOOKUP} are allowed")]
    ManyProcesses(usize),
    /// It did not wait for an answer.
    #[error("it spoke while it was to wait for an answer")]
    Impatient,
    /// Rows that do not fit their table, elements that do not fit their map, or a bad name.
    #[error("{0}")]
    Invalid(String),
    /// A line past the limit.
    #[error("a text of {0} bytes, where {MAX_LINE} are allowed")]
    LongText(usize),
    /// More metrics than are allowed.
    #[error("more than {} metrics", check::MAX_METRICS)]
    TooManyMetrics,
}

/// What a worker said, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It is locked in, but for these layers.
    Caged(Vec<Missing>),
    /// The call that was running is over.
    Returned(Returned),
    /// Rows that fit the table at this position.
    Rows(usize, TableRows),
    /// A line.
    Line(String),
    /// A metric.
    Metric(String, f64),
    /// A message.
    Log(Level, String),
    /// The plugin asks to end the run.
    Stop(String),
    /// It waits for an answer. The map is there, and what is to be written fits it.
    Asked(Request),
    /// The plugin is at its end.
    Fault(Fault),
}

/// The talk with one worker.
#[derive(Debug, Default)]
pub struct Conversation {
    caged: bool,
    calls: VecDeque<CallKind>,
    tables: Vec<Table>,
    maps: Vec<Map>,
    metrics: HashSet<String>,
}

impl Conversation {
    /// A call has been sent.
    pub fn called(&mut self, call: CallKind) {
        self.calls.push_back(call);
    }

    /// The call that runs.
    pub fn running(&self) -> Option<CallKind> {
        self.calls.front().copied()
    }

    /// `prepare` returned these tables, which passed [`check::tables`].
    pub fn declared(&mut self, tables: Vec<Table>) {
        self.tables = tables;
    }

    /// `prepare` was called with these maps.
    pub fn prepared(&mut self, maps: Vec<Map>) {
        self.maps = maps;
    }

    /// The tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Checks a message.
    pub fn hear(&mut self, message: FromWorker) -> Result<Heard, Violation> {
        let running = self.running();
        match message {
            // A worker may fail at any time.
            FromWorker::Fault(mut fault) => {
                fault.message = cut_line(fault.message);
                Ok(Heard::Fault(fault))
            }
            FromWorker::Caged(mut missing) => {
                if std::mem::replace(&mut self.caged, true) || missing.len() > Layer::ALL.len() {
                    return Err(Violation::CagedAgain);
                }
                missing.iter_mut().for_each(|missing| missing.reason = cut_line(std::mem::take(&mut missing.reason)));
                Ok(Heard::Caged(missing))
            }
            _ if !self.caged => Err(Violation::Uncaged),
            FromWorker::Return(returned) => match running {
                None => Err(Violation::NotCalled(returned.call())),
                Some(running) if running != returned.call() => Err(Violation::WrongReturn { returned: returned.call(), running }),
                Some(_) => {
                    self.calls.pop_front();
                    Ok(Heard::Returned(returned.with_short_error()))
                }
            },
            _ if running.is_none() => Err(Violation::Unasked),
            FromWorker::Append { table, rows } => {
                let unknown = Violation::UnknownTable { table, tables: self.tables.len() };
                let declared = self.tables.get(table as usize).ok_or(unknown)?;
                check::rows(declared, &rows).map_err(Violation::Invalid)?;
                Ok(Heard::Rows(table as usize, rows))
            }
            FromWorker::Ask(request) => {
                if let Some(early) = running.filter(|call| !call.may_ask()) {
                    return Err(Violation::AskedEarly(early));
                }
                self.check_request(&request)?;
                Ok(Heard::Asked(request))
            }
            FromWorker::Print { line } => bounded(line).map(Heard::Line),
            FromWorker::Log { level, message } => Ok(Heard::Log(level, bounded(message)?)),
            FromWorker::Stop { reason } => bounded(reason).map(Heard::Stop),
            FromWorker::Metric { name, value } => {
                check::metric(&name).map_err(Violation::Invalid)?;
                if !self.metrics.contains(&name) {
                    if self.metrics.len() == check::MAX_METRICS {
                        return Err(Violation::TooManyMetrics);
                    }
                    self.metrics.insert(name.clone());
                }
                Ok(Heard::Metric(name, value))
            }
        }
    }

    fn check_request(&self, request: &Request) -> Result<(), Violation> {
        let map = match request.map() {
            Some(map) => {
                let unknown = Violation::UnknownMap { map, maps: self.maps.len() };
                Some(self.maps.get(map as usize).ok_or(unknown)?)
            }
            None => None,
        };
        match (request, map) {
            (Request::Write { elements, .. }, Some(map)) => check::elements(map, elements).map_err(Violation::Invalid),
            (Request::Delete { keys, strings, .. }, Some(map)) => check::keys(map, keys, strings).map_err(Violation::Invalid),
            (Request::Resolve { stacks }, _) if stacks.len() > MAX_RESOLVE => Err(Violation::ManyStacks(stacks.len())),
            (Request::Lookup { pids }, _) if pids.len() > MAX_LOOKUP => Err(Violation::ManyProcesses(pids.len())),
            _ => Ok(()),
        }
    }
}

fn bounded(text: String) -> Result<String, Violation> {
    if text.len() > MAX_LINE { Err(Violation::LongText(text.len())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::{
        contract::{CellKind, Cells, Column, Content, Elements, Field, Kind, TableColumn, TableValues, Unit, Values},
        worker::protocol::{FaultKind, Interface},
    };

    fn talk(calls: &[CallKind]) -> Conversation {
        let column = TableColumn { name: "n".into(), kind: CellKind::U64, unit: Unit::None };
        let mut talk = Conversation::default();
        assert_eq!(talk.hear(FromWorker::Caged(vec![])), Ok(Heard::Caged(vec![])));
        talk.declared(vec![Table { name: "t".into(), columns: vec![column] }]);
        calls.iter().for_each(|&call| talk.called(call));
        talk
    }

    fn append(table: u32, cells: Cells, rows: usize) -> FromWorker {
        let columns = vec![TableValues { cells, absent: vec![] }];
        FromWorker::Append { table, rows: TableRows { time: vec![0; rows], columns, strings: vec![] } }
    }

    /// What honest workers say is heard.
    #[test]
    fn honest_words() {
        let mut talk = talk(&[CallKind::Handle, CallKind::Tick]);
        assert!(matches!(talk.hear(append(0, Cells::U64(vec![1]), 1)), Ok(Heard::Rows(0, _))));
        assert!(matches!(talk.hear(FromWorker::Print { line: "x".into() }), Ok(Heard::Line(_))));
        assert_eq!(talk.hear(FromWorker::Return(Returned::Handled(Ok(())))), Ok(Heard::Returned(Returned::Handled(Ok(())))));
        assert_eq!(talk.running(), Some(CallKind::Tick));
        assert!(talk.hear(FromWorker::Return(Returned::Ticked(Ok(())))).is_ok());
        let fault = Fault { kind: FaultKind::Trap, message: "m".into() };
        assert_eq!(talk.hear(FromWorker::Fault(fault.clone())), Ok(Heard::Fault(fault)));
    }

    /// An error that a plugin returns is cut to what a message may have.
    #[test]
    fn long_errors_are_cut() {
        let long = Returned::Handled(Err("x".repeat(1 << 20)));
        let Ok(Heard::Returned(Returned::Handled(Err(error)))) = talk(&[CallKind::Handle]).hear(FromWorker::Return(long)) else {
            unreachable!()
        };
        assert!(error.len() <= MAX_LINE && error.ends_with('…'));
    }

    /// What forged messages meet, with its words.
    #[test]
    fn forged_words() {
        let check = |calls: &[CallKind], message: FromWorker, expect: &str| {
            assert_eq!(talk(calls).hear(message).unwrap_err().to_string(), expect);
        };
        let handle = &[CallKind::Handle];
        check(
            &[],
            FromWorker::Return(Returned::Loaded { compiled: None, interface: Interface::default() }),
            "`load` returned, and was not called",
        );
        check(handle, FromWorker::Return(Returned::Finished(Ok(()))), "`finish` returned while `handle` was running");
        check(&[], append(0, Cells::U64(vec![]), 0), "it spoke while no call was running");
        check(&[], FromWorker::Print { line: String::new() }, "it spoke while no call was running");
        check(handle, append(1, Cells::U64(vec![]), 0), "rows for table 1, and there are 1");
        check(handle, append(0, Cells::U64(vec![1]), 2), "table \"t\", column \"n\" has 1 cells, and there are 2 times");
        check(
            handle,
            append(0, Cells::S64(vec![1]), 1),
            "table \"t\", column \"n\" has cells of kind s64, and was declared as u64",
        );
        check(handle, FromWorker::Print { line: "x".repeat(16_385) }, "a text of 16385 bytes, where 16384 are allowed");
        check(
            handle,
            FromWorker::Metric { name: "a b".into(), value: 0.0 },
            "metric name \"a b\" is not [A-Za-z_][A-Za-z0-9_.-]*",
        );
        let mut before_prepare = Conversation { caged: true, ..Conversation::default() };
        before_prepare.called(CallKind::Configure);
        assert_eq!(before_prepare.hear(append(0, Cells::U64(vec![]), 0)), Err(Violation::UnknownTable { table: 0, tables: 0 }));
    }

    /// That it is locked in a worker says once and first, and of no more layers than there are.
    #[test]
    fn caged_first() {
        let missing = |count| vec![Missing::new(Layer::Seccomp, &"x".repeat(MAX_LINE + 1)); count];
        let mut talk = Conversation::default();
        talk.called(CallKind::Load);
        assert_eq!(
            talk.hear(FromWorker::Return(Returned::Loaded { compiled: None, interface: Interface::default() })),
            Err(Violation::Uncaged)
        );
        let Ok(Heard::Caged(heard)) = talk.hear(FromWorker::Caged(missing(1))) else { panic!("it is not heard") };
        assert_eq!((heard.len(), heard[0].reason.len()), (1, MAX_LINE));
        assert_eq!(talk.hear(FromWorker::Caged(vec![])), Err(Violation::CagedAgain));
        assert_eq!(Conversation::default().hear(FromWorker::Caged(missing(100))), Err(Violation::CagedAgain));
    }

    /// What may be asked, when, and of what shape.
    #[test]
    fn requests() {
        let map = |name: &str, content| Map {
            name: name.into(),
            content,
            keys: vec![Field { name: "k".into(), kind: Kind::Text, ctype: String::new() }],
            values: vec![Field { name: "value".into(), kind: Kind::Bytes, ctype: String::new() }],
        };
        let check = |call: CallKind, request: Request, expect: Result<(), &str>| {
            let mut talk = talk(&[call]);
            talk.prepared(vec![map("v", Content::Value), map("c", Content::Count)]);
            let heard = talk.hear(FromWorker::Ask(request.clone())).map_err(|violation| violation.to_string());
            assert_eq!(heard, expect.map(|()| Heard::Asked(request)).map_err(str::to_owned));
        };
        let column = |values| Column { values, absent: vec![], cut: vec![] };
        let key = |index: &[u32]| vec![column(Values::Text(index.to_vec()))];
        let bytes = |ends: &[u32]| vec![column(Values::Bytes { ends: ends.to_vec(), data: vec![0; 4] })];
        let write = |keys: Vec<Column>, values: Vec<Column>| Request::Write {
            map: 0,
            elements: Elements { keys, values, strings: vec!["x".into()] },
        };
        for call in [CallKind::Start, CallKind::Handle, CallKind::Tick, CallKind::Finish, CallKind::HandOver] {
            check(call, Request::Read { map: 1 }, Ok(()));
        }
        check(CallKind::Prepare, Request::Read { map: 0 }, Err("it asked for something while `prepare` was running"));
        let handle = CallKind::Handle;
        check(handle, Request::Take { map: 2 }, Err("a request for map 2, and there are 2"));
        check(handle, Request::Resolve { stacks: vec![u64::MAX; MAX_RESOLVE] }, Ok(()));
        check(handle, Request::Resolve { stacks: vec![0; 5000] }, Err("a request for 5000 stacks, where 4096 are allowed"));
        check(handle, Request::Lookup { pids: vec![1; MAX_LOOKUP] }, Ok(()));
        check(handle, Request::Lookup { pids: vec![1; 257] }, Err("a request for 257 processes, where 256 are allowed"));
        check(handle, write(key(&[0, 0]), bytes(&[0, 4])), Ok(()));
        let of_counts = Request::Write { map: 1, elements: Elements::default() };
        check(handle, of_counts, Err("map \"c\" holds what programs count; only a map of values can be written"));
        check(handle, write(vec![], bytes(&[])), Err("map \"v\" has 1 key columns, and there are 0"));
        check(handle, write(key(&[0]), bytes(&[1, 2])), Err("map \"v\", key column \"k\" has 1 values, and there are 2 rows"));
        check(handle, write(key(&[1]), bytes(&[1])), Err("map \"v\", key column \"k\" points to text 1, and there are 1"));
        let outside = "map \"v\", value column \"value\" has rows that end outside of its 4 bytes";
        check(handle, write(key(&[0]), bytes(&[5])), Err(outside));
        check(handle, write(key(&[0, 0]), bytes(&[3, 2])), Err(outside));
        let other = write(vec![column(Values::U64(vec![1]))], bytes(&[1]));
        check(handle, other, Err("map \"v\", key column \"k\" has values of kind u64, and is of kind text"));
        let keys = vec![Column { absent: vec![1], ..key(&[0]).remove(0) }];
        let absent = Request::Delete { map: 1, keys, strings: vec!["x".into()] };
        check(handle, absent, Err("map \"c\", key column \"k\" has rows without a value"));
    }

    /// A worker can't fill the host's memory with metrics.
    #[test]
    fn metrics_are_bounded() {
        let mut talk = talk(&[CallKind::Handle]);
        for number in 0..check::MAX_METRICS {
            assert!(talk.hear(FromWorker::Metric { name: format!("m{number}"), value: 0.0 }).is_ok());
        }
        assert!(talk.hear(FromWorker::Metric { name: "m1".into(), value: 1.0 }).is_ok());
        assert_eq!(talk.hear(FromWorker::Metric { name: "n".into(), value: 0.0 }), Err(Violation::TooManyMetrics));
    }
}
