//! Nothing is attached, and COMMAND never runs, when the last of many probes can't be had, or when `--dry-run` asks for no more.

use std::process::{Command, Stdio};

use portcullis_tests::{
    Bundle, Outcome, adhoc, assert_no_programs, lock, manifest, portcullis,
    watch::{Watched, descriptors, until},
};

use super::raw_tracepoints;

/// When the last of 300 probes does not compile, nothing has happened.
#[test]
fn last_of_300_does_not_compile() {
    let Some(_lock) = lock() else { return };
    let mut points = raw_tracepoints(299);
    points.push(("last".into(), "tracepoint:syscalls:sys_enter_nothing".into()));
    let outcome = refuse_300(&points, Command::new(portcullis()));
    let message = "\
portcullis: error: plugin \"many\": this kernel has no tracepoint `sys_enter_nothing` in `syscalls`
 --> probe \"last\", attach, line 1, column 21
";
    assert!(outcome.stderr.starts_with(message), "{}", outcome.stderr);
}

/// When the last of 300 probes can't be attached, nothing has happened either. This one can't since the host may open too few
/// files: all 300 programs are loaded, and for the last link no descriptor is left.
#[test]
fn last_of_300_does_not_attach() {
    let Some(_lock) = lock() else { return };
    let points = raw_tracepoints(300);
    // A link is a descriptor; so the place at which one limit fails says what the limit is at which the last one does.
    let mut files = 400;
    let outcome = loop {
        let outcome = refuse_300(&points, limited(files));
        let at = outcome.stderr.split("probe `p").nth(1).and_then(|rest| rest.split('`').next()?.parse::<u32>().ok());
        match at {
            Some(299) => break outcome,
            Some(probe) => files += 299 - probe,
            // Not even loaded.
            None => files += 100,
        }
    };
    let last = &points[299];
    let start = format!("portcullis: error: plugin `many`, probe `{}`: cannot attach to {}: ", last.0, last.1);
    assert!(outcome.stderr.starts_with(&start), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Too many open files"), "{}", outcome.stderr);
}

/// `portcullis`, with so many descriptors.
fn limited(files: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(portcullis());
    command
}

/// Runs all probes in one plugin, with a COMMAND that makes a file: it is refused, and nothing has happened.
fn refuse_300(points: &[(String, String)], mut command: Command) -> Outcome {
    let probes: Vec<_> = points.iter().map(|(name, attach)| (&**name, &**attach, None, "emit s { pid }")).collect();
    let bundle = Bundle::new(&manifest(&[adhoc("many", "4KiB", &probes)]));
    let directory = bundle.directory.path();
    let report = directory.join("report.json");
    command.current_dir(directory).args([
        "run",
        "bundle.toml",
        "--format",
        "json",
        "--report",
        "report.json",
        "--",
        "touch",
        "RAN",
    ]);
    let outcome = Watched::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()), report).finish();
    assert!(!directory.join("RAN").exists(), "COMMAND ran");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.report.is_none());
    assert_no_programs();
    outcome
}

/// `--dry-run` loads, attaches nothing, and COMMAND never runs; a real run does attach, as seen by the same eyes.
#[test]
fn dry_run() {
    let Some(_lock) = lock() else { return };
    let points = raw_tracepoints(50);
    let probes: Vec<_> = points.iter().map(|(name, attach)| (&**name, &**attach, None, "emit s { pid }")).collect();
    for dry in [true, false] {
        // How a run looks from outside is seen in samples; loading may fall between two.
        let met = (0..10).any(|_| {
            let bundle = Bundle::new(&manifest(&[adhoc("many", "4KiB", &probes)]));
            let ran = bundle.directory.path().join("RAN");
            let script = format!("touch {}; sleep 0.2", ran.display());
            let arguments = ["--dry-run", "--", "sh", "-c", &script];
            let mut run = Watched::start(&bundle, if dry { &arguments } else { &arguments[1..] });
            let (mut loaded, mut attached) = (false, false);
            until("the end", || {
                for (_, what) in descriptors(run.pid()) {
                    loaded |= what == "anon_inode:bpf-prog";
                    attached |= ["bpf_link", "perf_event", "bpf-raw-tracepoint"].iter().any(|link| what.contains(link));
                }
                run.ended()
            });
            let outcome = run.finish();
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert_eq!((attached, ran.exists(), outcome.report.is_some()), (!dry, !dry, !dry));
            if dry {
                let words = "test: would run many for `sh`: 50 attach points, 50 programs, all accepted by this kernel. Nothing was attached.\n";
                assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", words));
            }
            loaded
        });
        assert!(met, "no run was met with its programs loaded");
    }
    assert_no_programs();
}
