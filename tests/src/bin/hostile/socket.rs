//! What it does to its host.

use std::time::Duration;

use portcullis::{
    contract::{CellKind, Cells, Level, Program, Table, TableColumn, TableRows, TableValues, Unit},
    worker::protocol::{
        CallKind, Fault, FaultKind, FromWorker, Interface, MAX_FROM_WORKER, MAX_LINE, Request, Returned, ToWorker,
    },
};

use crate::Host;

/// Tells what was tried, as the reason of its end.
pub(crate) fn tell(mut host: Host, message: String) -> ! {
    host.caged();
    host.say(&FromWorker::Fault(Fault { kind: FaultKind::Internal, message }));
    std::process::exit(1)
}

/// Goes along until its moment comes.
pub(crate) fn attack(mut host: Host, attack: &str) -> ! {
    if attack == "uncaged" {
        host.say(&FromWorker::Return(Returned::Loaded { compiled: None, interface: Interface::default() }));
    }
    host.caged();
    loop {
        let heard = host.hear();
        let call = heard.call().map(CallKind::as_str).unwrap_or_default();
        if attack.split_once('-').is_some_and(|(when, _)| when == call) {
            act(&mut host, attack);
        }
        let rows = |rows: usize| TableRows { time: vec![1; rows], columns: Vec::new(), strings: Vec::new() };
        match heard {
            ToWorker::Load { .. } => {
                host.say(&FromWorker::Return(Returned::Loaded { compiled: None, interface: Interface::default() }));
            }
            ToWorker::Configure { .. } => {
                host.say(&FromWorker::Return(Returned::Configured(Ok(Program { probes: Vec::new(), timers: Vec::new() }))));
            }
            ToWorker::Prepare { .. } => {
                let column = TableColumn { name: "n".into(), kind: CellKind::U64, unit: Unit::None };
                let table = Table { name: "t".into(), columns: vec![column] };
                host.say(&FromWorker::Return(Returned::Prepared(Ok(vec![table]))));
            }
            ToWorker::Start(_) => host.say(&FromWorker::Return(Returned::Started(Ok(())))),
            ToWorker::Batch(_) => host.say(&FromWorker::Return(Returned::Handled(Ok(())))),
            ToWorker::Finish(_) => host.say(&FromWorker::Return(Returned::Finished(Ok(())))),
            _ => host.say(&FromWorker::Append { table: 0, rows: rows(1) }),
        }
    }
}

/// What it does when the call comes that the attack is named after.
fn act(host: &mut Host, attack: &str) {
    match attack {
        "load-garbage" => {
            // No length of it is past the limit, so all of it is looked at.
            let mut state = 1_u32;
            loop {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                host.send(&[64, 0, 0, 0]);
                host.send(&state.to_le_bytes().repeat(16));
            }
        }
        "load-long" => host.send(&[0xff; 4]),
        "load-twice" => host.say(&FromWorker::Return(Returned::Loaded { compiled: None, interface: Interface::default() })),
        "load-caged" => host.say(&FromWorker::Caged(Vec::new())),
        "load-finish" => host.say(&FromWorker::Return(Returned::Finished(Ok(())))),
        "load-exit" => std::process::exit(0),
        "load-abort" => std::process::abort(),
        "configure-half" => {
            host.send(&1000_u32.to_le_bytes());
            host.send(&[2; 500]);
            wait();
        }
        "configure-flood" => loop {
            host.say(&FromWorker::Print { line: "x".repeat(MAX_LINE) });
        },
        "configure-logs" => loop {
            host.say(&FromWorker::Log { level: Level::Error, message: String::new() });
        },
        // Eight million texts, none of which has a byte.
        "configure-texts" => {
            let rows = TableRows { time: Vec::new(), columns: Vec::new(), strings: vec![String::new(); MAX_FROM_WORKER - 16] };
            host.say(&FromWorker::Append { table: 0, rows });
        }
        "configure-tables" => crate::kernel::page_tables(),
        "configure-ask" => host.say(&FromWorker::Ask(Request::Read { map: 0 })),
        "handle-claims" => (0..3).for_each(|_| host.say(&FromWorker::Return(Returned::Handled(Ok(()))))),
        "handle-finish" => host.say(&FromWorker::Return(Returned::Finished(Ok(())))),
        "handle-table" => host.say(&append(7, 1, 1)),
        "handle-rows" => host.say(&append(0, 2, 1)),
        "handle-map" => host.say(&FromWorker::Ask(Request::Read { map: 9 })),
        "handle-processes" => host.say(&FromWorker::Ask(Request::Lookup { pids: vec![1; 257] })),
        // It passes on what it learns.
        "handle-lookup" => {
            host.say(&FromWorker::Ask(Request::Lookup { pids: vec![1] }));
            let answer = format!("{:?}", host.hear());
            host.say(&FromWorker::Return(Returned::Handled(Err(answer))));
        }
        // It reads no answer, and asks again when the one before is on its way.
        "handle-asks" => loop {
            host.say(&FromWorker::Ask(Request::Read { map: 0 }));
            std::thread::sleep(Duration::from_millis(20));
        },
        // It has the answer of the first, which it did not wait for.
        "handle-impatient" => {
            let mut both = Vec::new();
            for _ in 0..2 {
                let ask = FromWorker::Ask(Request::Read { map: 0 });
                portcullis::worker::protocol::encode(&ask, MAX_FROM_WORKER, &mut both).unwrap();
            }
            host.send(&both);
        }
        "start-claims" => {
            host.say(&FromWorker::Return(Returned::Started(Ok(()))));
            host.say(&FromWorker::Return(Returned::Handled(Ok(()))));
        }
        _ if attack.ends_with("-deaf") => wait(),
        _ if attack.ends_with("-loop") => {
            let mut count = 0_u64;
            loop {
                count = std::hint::black_box(count + 1);
            }
        }
        _ => panic!("{attack}"),
    }
}

fn append(table: u32, rows: usize, cells: usize) -> FromWorker {
    let columns = vec![TableValues { cells: Cells::U64(vec![0; cells]), absent: Vec::new() }];
    FromWorker::Append { table, rows: TableRows { time: vec![0; rows], columns, strings: Vec::new() } }
}

/// Neither hears nor says anything any more.
fn wait() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
