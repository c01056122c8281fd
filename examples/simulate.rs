//! Runs handlers of the other examples in a simulated network, seed after seed, under faults that are rare on a real
//! one.
//!
//! ```sh
//! cargo run --release -p lightcone-examples --example simulate -- --scenario chat --seeds 1000
//! ```
//!
//! On a failure the program prints the last events and the command that reproduces it, and exits with code 1.

use core::fmt::Write as _;
use core::hash::{BuildHasher, Hasher};
use std::hash::RandomState;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use lightcone::sim::{Failure, Fault, Report, Runner, Tape};
use lightcone_examples::print_line;
use lightcone_examples::simulation::Scenario;

/// Runs handlers in a simulated network, by seeds.
#[derive(Parser, Debug)]
#[command(name = "simulate", version)]
struct Options {
    /// Scenario to run: echo, http, chat, relay, reconnect, crowd, kv, pool, proxy, websocket, websocket-client or
    /// walk.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    scenario: Scenario,

    /// Number of seeds to run.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    seeds: u64,

    /// First seed to run; without --seeds, the only one.
    #[arg(long, value_name = "SEED", conflicts_with = "fresh")]
    seed: Option<u64>,

    /// Start with a random seed.
    #[arg(long)]
    fresh: bool,

    /// Run the decisions of a minimised failure instead of those of a seed.
    #[arg(long, value_name = "TAPE", conflicts_with_all = ["seeds", "fresh"])]
    tape: Option<Tape>,

    /// Number of last events to show for a failure.
    #[arg(long, value_name = "LINES", default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    trace: u32,

    /// Run each seed twice, compare the hashes and print them.
    #[arg(long)]
    hashes: bool,
}

/// The totals of all runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    events: u64,
    delivered: u64,
    millis: u64,
    faults: Vec<(Fault, u64)>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.events += report.events;
        self.delivered += report.delivered;
        self.millis += report.millis;
        if self.faults.is_empty() {
            self.faults.clone_from(&report.faults);
        } else {
            for ((_, sum), (_, count)) in self.faults.iter_mut().zip(&report.faults) {
                *sum += count;
            }
        }
    }

    fn show(&self, scenario: Scenario, seconds: f64) -> String {
        let Self { runs, events, delivered, millis, faults } = self;
        let rate = *events as f64 / seconds.max(1e-9);
        let hours = *millis as f64 / 3_600_000.0;
        let mut text = format!(
            "{scenario}: {runs} seeds, {events} events ({delivered} delivered to handlers) in {seconds:.1} s, {rate:.0} events/s, \
             {hours:.1} simulated hours\nfaults:"
        );
        for (fault, count) in faults {
            let _ = write!(text, " {} {count},", fault.name());
        }
        text.trim_end_matches(',').into()
    }
}

#[expect(clippy::disallowed_methods, reason = "the elapsed time is only displayed; no run depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// Shows progress on standard error; called only if standard error is a terminal.
fn show_progress(done: u64, all: u64, sum: &Sum, seconds: f64) {
    const WIDTH: u64 = 30;
    let filled = done * WIDTH / all;
    let bar: String = (0..WIDTH).map(|n| if n < filled { '#' } else { '-' }).collect();
    let rate = sum.events as f64 / seconds.max(1e-9) / 1e6;
    let mut err = io::stderr().lock();
    let _ = write!(err, "\r[{bar}] {done}/{all} seeds, {rate:.2} M events/s ");
    let _ = err.flush();
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!();
    print_line(&failure.to_string());
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let options = Options::parse();
    let scenario = options.scenario;
    let command =
        format!("cargo run --release -p lightcone-examples --example simulate -- --scenario {scenario}");
    let runner = Runner::with_command(&command).show(usize::try_from(options.trace).unwrap_or(usize::MAX));
    if let Some(tape) = &options.tape {
        return match runner.play(tape, &|sim| scenario.run(sim)) {
            Ok(report) => {
                print_line(&format!("hash {:016x}, {} events, no failure", report.hash, report.events));
                ExitCode::SUCCESS
            }
            Err(failure) => fail(&failure),
        };
    }
    let first = match options.seed {
        Some(seed) => seed,
        None if options.fresh => RandomState::new().build_hasher().finish() >> 1,
        None => 0,
    };
    let seeds = if options.seed.is_some() && !std::env::args().any(|a| a.starts_with("--seeds")) {
        1
    } else {
        options.seeds
    };
    print_line(&format!("{scenario}: seeds {first} to {}", first.wrapping_add(seeds - 1)));
    let watched = io::stderr().is_terminal();
    let (began, mut sum) = (now(), Sum::default());
    for n in 0..seeds {
        let seed = first.wrapping_add(n);
        let report = match runner.run(seed, &|sim| scenario.run(sim)) {
            Ok(report) => report,
            Err(failure) => return fail(&failure),
        };
        if options.hashes {
            match runner.run(seed, &|sim| scenario.run(sim)) {
                Ok(again) if again.hash == report.hash => {}
                _ => {
                    print_line(&format!("seed {seed} does not produce the same hash twice"));
                    return ExitCode::FAILURE;
                }
            }
            print_line(&format!("seed {seed}: hash {:016x}, {} events", report.hash, report.events));
        }
        sum.add(&report);
        if watched {
            show_progress(n + 1, seeds, &sum, began.elapsed().as_secs_f64());
        }
    }
    if watched {
        eprintln!();
    }
    print_line(&sum.show(scenario, began.elapsed().as_secs_f64()));
    ExitCode::SUCCESS
}
