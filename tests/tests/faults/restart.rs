//! A plugin of which `restart` is said is started again after it has failed, so many times.

use std::process::Command;

use portcullis_tests::{
    Bundle, assert_no_programs, lock, manifest, portcullis,
    watch::{Watched, assert_gone, signal, until},
    workload,
};
use rustix::process::Signal;

use super::{ENDLESS, assert_neighbour, faulty, flowing};

/// A plugin of which `restart` is said is there again after it has failed, with a fresh instance that starts at a store of its own; each
/// instance is in the report, its neighbour does not notice, and the exit code still tells.
#[test]
fn restarted() {
    let Some(_lock) = lock() else { return };
    let bad = faulty("bad", "announce = true", "call = \"200ms\"")
        .replace("[[plugin]]\n", "[[plugin]]\nrestart = { times = 2, backoff = \"20ms\" }\n");
    let bundle = Bundle::new(&manifest(&[bad, faulty("good", "announce = true", "")]));
    let run = flowing(&bundle, ENDLESS);
    let mut workers = run.workers();
    for left in ["1", "0"] {
        signal(run.worker("bad"), Signal::KILL);
        run.wait_for(&format!("portcullis: plugin \"bad\" was started again; {left} more times are allowed\n"));
        let flow = 1 + run.said().matches("was started again").count();
        until("its events", || (run.said().matches("bad: events flow\n").count() >= flow).then_some(()));
        workers.extend(run.workers());
    }
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    outcome.assert_equations();
    let report = outcome.report.as_ref().unwrap();
    let instances: Vec<_> = report["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["name"] == "bad").collect();
    let cause = "failed: its worker process ended unexpectedly (killed by signal 9)";
    assert_eq!(instances.iter().map(|plugin| plugin["state"].as_str().unwrap()).collect::<Vec<_>>(), [cause, cause, "ok"]);
    let window = |plugin: &serde_json::Value, edge: &str| plugin["windows"][0][edge][0].as_u64().unwrap();
    for pair in instances.windows(2) {
        assert!(window(pair[0], "close") < window(pair[1], "open"), "{}", outcome.stderr);
    }
    // The last began anew, and was handed all that it recorded.
    assert_eq!(instances[2]["metrics"]["handled"].as_f64(), instances[2]["delivered"].as_f64());
    assert_eq!(instances[2]["emitted"], instances[2]["delivered"]);
    let good = outcome.plugin("good");
    assert_eq!(good["state"], "ok");
    assert_eq!(good["emitted"], good["delivered"]);
    assert_eq!(outcome.probe("good", "calls")["hits"], good["emitted"]);
    assert_gone(&workers);
    assert_no_programs();
}

/// A plugin that fails while the run is paused is there again before it resumes: attached and paused like the others, and opened by the one
/// store that opens them.
#[test]
fn restarted_in_a_pause() {
    let Some(_lock) = lock() else { return };
    let bad =
        faulty("bad", "announce = true", "").replace("[[plugin]]\n", "[[plugin]]\nrestart = { times = 2, backoff = \"20ms\" }\n");
    let bundle = Bundle::new(&manifest(&[bad, faulty("good", "announce = true", "")]));
    let run = flowing(&bundle, ENDLESS);
    let ask = |arguments: &[&str]| {
        let output = Command::new(portcullis()).args(arguments).args(["--run", &run.pid().to_string()]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    ask(&["gate", "pause"]);
    signal(run.worker("bad"), Signal::KILL);
    run.wait_for("portcullis: plugin \"bad\" was started again; 1 more times are allowed\n");
    let status: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"])).unwrap();
    let here: Vec<_> = status[0]["plugins"].as_array().unwrap().iter().map(|one| (&one["name"], &one["state"])).collect();
    assert!(here.contains(&(&"bad".into(), &"paused".into())) && here.contains(&(&"good".into(), &"paused".into())), "{here:?}");
    assert!(ask(&["gate", "resume"]).starts_with("opened within "));
    until("its events", || (run.said().matches("bad: events flow\n").count() >= 2).then_some(()));
    // One that was paused alone comes back as it was, too, and not by what is said of the other.
    ask(&["gate", "pause", "--plugin", "bad"]);
    signal(run.worker("bad"), Signal::KILL);
    run.wait_for("portcullis: plugin \"bad\" was started again; 0 more times are allowed\n");
    ask(&["gate", "pause", "--plugin", "good"]);
    ask(&["gate", "resume", "--plugin", "good"]);
    ask(&["gate", "resume", "--plugin", "bad"]);
    until("its events", || (run.said().matches("bad: events flow\n").count() >= 3).then_some(()));
    run.signal(Signal::INT);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let report = outcome.report.as_ref().unwrap();
    let instances: Vec<_> = report["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["name"] == "bad").collect();
    assert_eq!(instances.len(), 3);
    // The first pause ended for both by one store.
    let good = outcome.plugin("good");
    assert_eq!(instances[1]["windows"][0]["open"], good["windows"][1]["open"]);
    let closed = good["windows"][2]["close"][0].as_u64().unwrap();
    assert!(instances[2]["windows"].as_array().unwrap().len() == 1 && closed > 0, "{instances:?}");
    assert!(instances[2]["windows"][0]["open"][0].as_u64() > good["windows"][2]["open"][0].as_u64());
    assert_eq!(instances[2]["emitted"], instances[2]["delivered"]);
    assert_no_programs();
}

/// It is given up after so many times, and then all is as with a plugin that has failed; one that fails before it starts counts as well.
#[test]
fn given_up() {
    let Some(_lock) = lock() else { return };
    let again = |plugin: String, times: u32| {
        plugin.replace("[[plugin]]\n", &format!("[[plugin]]\nrestart = {{ times = {times}, backoff = \"5ms\" }}\n"))
    };
    let bad = again(faulty("bad", "how = \"panic\"", ""), 2);
    let bundle = Bundle::new(&manifest(&[bad, faulty("good", "", "")]));
    let calls = 4_000_000;
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &calls.to_string()]);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert_neighbour(&outcome, "good", calls);
    assert_eq!(outcome.stderr.matches("plugin bad: FAILED").count(), 3, "{}", outcome.stderr);

    // Nobody is left when the last try has failed, and that ends the run.
    let bundle = Bundle::new(&manifest(&[again(faulty("bad", "at = \"start\", how = \"panic\"", ""), 1)]));
    let run = Watched::start(&bundle, &["--", workload().to_str().unwrap(), "getppid", &ENDLESS.to_string()]);
    let outcome = run.finish();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\nThe run ended: no plugin was left.\n"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("plugin bad: FAILED").count(), 2, "{}", outcome.stderr);
    assert_no_programs();
}
