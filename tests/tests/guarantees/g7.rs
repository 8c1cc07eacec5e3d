//! G7: complete. What was emitted before the close is delivered to the plugin before its last call; what a slow plugin has not taken in the time
//! that it has for that is undelivered, by number.

use portcullis_tests::{
    Bundle, Outcome, component,
    gate::{holds, seen},
    lock, manifest, workload,
};

const CALLS: u64 = 400_000;

/// A plugin that takes its time, and has much to take when the gate closes.
fn run(drain: &str) -> Outcome {
    let plugin = format!(
        "[[plugin]]\nname = \"slow\"\nsource = {:?}\nconfig = {{ at = \"handle\", how = \"slow\" }}\ngrants = {{ probes = [\"*\"] }}\nlimits = {{ ring = \"64MiB\" }}\n",
        component("plugins", "faulty").to_str().unwrap()
    );
    let bundle = Bundle::new(&format!("{}\n[stop]\ndrain = {drain:?}\n", manifest(&[plugin])));
    bundle.run(&["--", workload().to_str().unwrap(), "getppid", &CALLS.to_string()])
}

/// What the plugin has not been given before its last call, by the report and by its own count.
fn violations(outcome: &Outcome) -> Vec<String> {
    let plugin = outcome.plugin("slow");
    let number = |name: &str| plugin[name].as_u64().unwrap();
    let handled = plugin["metrics"]["handled"].as_f64().unwrap() as u64;
    let (emitted, delivered, undelivered) = (number("emitted"), number("delivered"), number("undelivered"));
    let mut wrong = Vec::new();
    if undelivered > 0 || handled < emitted {
        wrong.push(format!("{emitted} emitted, {delivered} delivered, {undelivered} not, {handled} handled"));
    }
    // In every case: nothing goes without being counted.
    assert_eq!(emitted, delivered + undelivered);
    assert_eq!((emitted, handled), (CALLS, delivered));
    wrong
}

/// It gets all, though it takes longer than the run.
#[test]
fn everything_is_delivered() {
    const ROUNDS: usize = 5;
    let Some(_lock) = lock() else { return };
    let wrong: Vec<String> = (0..ROUNDS).flat_map(|_| violations(&run("30s"))).collect();
    holds("emitted and not delivered", ROUNDS, &wrong, format_args!("{} events", CALLS * ROUNDS as u64));
}

/// Without the time for it, it does not, and what is missing is told.
#[test]
fn something_is_not_without_the_drain() {
    let Some(_lock) = lock() else { return };
    seen("emitted and not delivered, without a drain", 3, || violations(&run("0s")));
}
