//! Tests of the program `simulate`, run as a process.
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use std::process::{Command, Output};

use lightcone::sim::Runner;
use lightcone_examples::simulation::Scenario;

fn simulate(arguments: &[&str]) -> Output {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // deps
    program.pop();
    program.push("examples/simulate");
    Command::new(program).args(arguments).output().unwrap()
}

#[test]
fn a_seed_has_the_same_hash_in_another_process() {
    for scenario in Scenario::ALL {
        let output = simulate(&["--scenario", &scenario.to_string(), "--seeds", "5", "--hashes"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for seed in 0..5 {
            let report = Runner::new("").run(seed, &|sim| scenario.run(sim)).unwrap();
            let line = format!("seed {seed}: hash {:016x}, {} events\n", report.hash, report.events);
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(text.contains("events/s") && text.contains("faults: short receives"), "{text}");
    }
}

#[test]
fn a_bad_option_is_named_with_what_is_allowed() {
    for (arguments, allowed) in [
        (
            &["--scenario", "smtp"][..],
            "echo, http, chat, relay, reconnect, crowd, kv, pool, proxy, websocket, websocket-client, walk",
        ),
        (&["--seeds", "0"], "1..=1000000000"),
        (&["--tape", "x=1"], "PLACE=VALUE"),
    ] {
        let output = simulate(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(allowed), "{text}");
    }
}
