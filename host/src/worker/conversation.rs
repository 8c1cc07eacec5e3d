//! The state of the talk with one worker: what it may say now.
//!
//! Everything that arrives passes [`Conversation::hear`] before anything is done with it. A worker that says what it can't say is
//! taken over or broken; it is stopped, and nothing of what it said counts.

use std::collections::{HashSet, VecDeque};

use super::{
    check,
    protocol::{CallKind, Fault, FromWorker, MAX_LINE, Returned},
};
use crate::contract::{Level, Table, TableRows};

/// A message that can't be, given those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
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
    /// Rows that do not fit their table, or a bad name.
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
    /// The plugin is at its end.
    Fault(Fault),
}

/// The talk with one worker.
#[derive(Debug, Default)]
pub struct Conversation {
    calls: VecDeque<CallKind>,
    tables: Vec<Table>,
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
                fault.message = super::protocol::cut_line(fault.message);
                Ok(Heard::Fault(fault))
            }
            FromWorker::Return(returned) => match running {
                None => Err(Violation::NotCalled(returned.call())),
                Some(running) if running != returned.call() => Err(Violation::WrongReturn { returned: returned.call(), running }),
                Some(_) => {
                    self.calls.pop_front();
                    Ok(Heard::Returned(returned))
                }
            },
            _ if running.is_none() => Err(Violation::Unasked),
            FromWorker::Append { table, rows } => {
                let unknown = Violation::UnknownTable { table, tables: self.tables.len() };
                let declared = self.tables.get(table as usize).ok_or(unknown)?;
                check::rows(declared, &rows).map_err(Violation::Invalid)?;
                Ok(Heard::Rows(table as usize, rows))
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
}

fn bounded(text: String) -> Result<String, Violation> {
    if text.len() > MAX_LINE { Err(Violation::LongText(text.len())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        contract::{CellKind, Cells, TableColumn, TableValues, Unit},
        worker::protocol::FaultKind,
    };

    fn talk(calls: &[CallKind]) -> Conversation {
        let column = TableColumn { name: "n".into(), kind: CellKind::U64, unit: Unit::None };
        let mut talk = Conversation::default();
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

    /// What forged messages meet, with its words.
    #[test]
    fn forged_words() {
        let check = |calls: &[CallKind], message: FromWorker, expect: &str| {
            assert_eq!(talk(calls).hear(message).unwrap_err().to_string(), expect);
        };
        let handle = &[CallKind::Handle];
        check(&[], FromWorker::Return(Returned::Loaded), "`load` returned, and was not called");
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
        let mut before_prepare = Conversation::default();
        before_prepare.called(CallKind::Configure);
        assert_eq!(before_prepare.hear(append(0, Cells::U64(vec![]), 0)), Err(Violation::UnknownTable { table: 0, tables: 0 }));
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
