//! Runs scenarios by seed or by tape, and reports failures.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::panic::AssertUnwindSafe;
use core::str::FromStr;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::rc::Rc;
use std::sync::Once;

use crate::fault::Fault;
use crate::shrink::shrink;
use crate::sim::{Engine, Limits, POLLERS_MAX, Place, Sim};
use crate::tape::{Source, Tape};
use crate::world::World;

/// How many of the last records a failure shows by default.
const SHOWN: usize = 40;
/// The maximum number of simulated events in all runs of a shrink, and the fixed cost added for each run.
const SHRINK_EVENTS: u64 = 10_000_000;
const EVENTS_A_RUN: u64 = 1_000;
/// The maximum length of a tape that is shown.
const TAPE_SHOWN: usize = 200;

/// The results of a run without a failure.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The hash of everything that happened: equal for equal seeds, in any process.
    pub hash: u64,
    /// Simulated events: calls with their outcomes, arrivals, events delivered to handlers, steps of peers,
    /// turns.
    pub events: u64,
    /// Events delivered to handlers.
    pub delivered: u64,
    /// The time that passed on the simulated clock, in ms.
    pub millis: u64,
    /// How often each fault occurred.
    pub faults: Vec<(Fault, u64)>,
}

/// A run in which a check failed.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Failure {
    /// The message of the failed check; it begins with the name of the property.
    pub message: String,
    /// The seed, unless the run played a tape.
    pub seed: Option<u64>,
    /// The number of the event at which the run failed.
    pub step: u64,
    /// The hash of everything up to the failure.
    pub hash: u64,
    /// All decisions of the run that were not 0.
    pub tape: Tape,
    /// Fewer decisions that fail in the same way, if the failure was shrunk.
    pub shrunk: Option<Tape>,
    /// The engines of the run, or of the shrunk run if there is one.
    pub engines: Vec<Engine>,
    /// The last records of the run, or of the shrunk run if there is one.
    pub trace: Vec<String>,
    /// The command that repeats the run.
    pub command: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.message)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        for (number, engine) in self.engines.iter().enumerate() {
            writeln!(f, "engine {number}: {engine}")?;
        }
        write!(f, "failed at event {}, hash {:016x}", self.step, self.hash)?;
        if let Some(seed) = self.seed {
            write!(f, ", seed {seed}")?;
        }
        let all = self.tape.len();
        match &self.shrunk {
            Some(tape) if tape.len() <= TAPE_SHOWN => {
                writeln!(f, "; {} of {all} decisions fail in the same way: {tape}", tape.len())?;
            }
            Some(tape) => writeln!(f, "; {} of {all} decisions fail in the same way", tape.len())?,
            None => writeln!(f, "; {all} decisions")?,
        }
        write!(f, "replay: {}", self.command)
    }
}

/// Formats as `Display` does, for `unwrap`.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Failure {}

std::thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls `run`. If it panics, returns the message as an error, and does not print it.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.with(Cell::get) {
                before(info);
            }
        }));
    });
    let quiet = QUIET.with(|quiet| quiet.replace(true));
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.with(|flag| flag.set(quiet));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".into())
    })
}

/// Runs scenarios by seed.
///
/// ```
/// use lightcone_sim::Runner;
///
/// let runner = Runner::new("my_test");
/// let report = runner.run(7, &|sim| sim.finish()).unwrap();
/// assert_eq!(report.hash, runner.run(7, &|sim| sim.finish()).unwrap().hash);
/// ```
#[derive(Clone, Debug)]
pub struct Runner {
    command: Command,
    limits: Limits,
    shrinks: usize,
    calm: bool,
    shown: usize,
}

/// The command that repeats a run.
#[derive(Clone, Debug)]
enum Command {
    Test(String),
    Program(String),
}

impl Command {
    fn by_seed(&self, seed: u64) -> String {
        match self {
            Self::Test(test) => format!("{SEED_VARIABLE}={seed} cargo test {test}"),
            Self::Program(program) => format!("{program} --seed {seed}"),
        }
    }

    fn by_tape(&self, tape: &Tape) -> String {
        match self {
            Self::Test(test) => format!("{TAPE_VARIABLE}={tape} cargo test {test}"),
            Self::Program(program) => format!("{program} --tape {tape}"),
        }
    }
}

/// A scenario: a function that sets up a world and runs it.
pub type Scenario<'a> = dyn Fn(&mut Sim<'_>) + 'a;

impl Runner {
    /// Creates a runner for the test of this name, which calls [`check`].
    #[must_use]
    pub fn new(test: &str) -> Self {
        Self::with(Command::Test(test.into()))
    }

    /// Creates a runner for a program. A failure is repeated by this command with `--seed` or `--tape` added.
    #[must_use]
    pub fn with_command(command: &str) -> Self {
        Self::with(Command::Program(command.into()))
    }

    fn with(command: Command) -> Self {
        Self { command, limits: Limits::default(), shrinks: 2_000, calm: false, shown: SHOWN }
    }

    /// Sets the limits of each run.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the maximum number of runs for shrinking a failure; 0 disables shrinking. Default 2,000.
    #[must_use]
    pub fn shrinks(mut self, runs: usize) -> Self {
        self.shrinks = runs;
        self
    }

    /// Sets how many of the last records a failure shows, of at most 100,000 that are kept. Default 40.
    #[must_use]
    pub fn show(mut self, lines: usize) -> Self {
        self.shown = lines;
        self
    }

    /// Disables faults and uses a fast network, for measurements.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.calm = true;
        self
    }

    fn attempt(&self, source: Source, keep: bool, scenario: &Scenario<'_>) -> Result<Report, Box<Failure>> {
        let mut places: Vec<Place> = (0..POLLERS_MAX).map(|_| Place::default()).collect();
        let world = World::new(source, keep, self.calm);
        let (began, trace) = (world.now, Rc::clone(&world.trace));
        let world = Rc::new(RefCell::new(world));
        let mut sim = Sim::new(Rc::clone(&world), places.iter_mut(), self.limits, self.calm);
        let outcome = caught(|| scenario(&mut sim));
        let world = world.borrow();
        let (hash, step) = (trace.hash(), trace.count());
        match outcome {
            Ok(()) => Ok(Report {
                hash,
                events: step,
                delivered: sim.delivered(),
                millis: (world.now - began) / 1_000,
                faults: world.faults.counts().collect(),
            }),
            Err(message) => {
                let tape = world.decider.tape().clone();
                let trace = trace.tail(self.shown);
                let mut result = Box::new(Failure {
                    message,
                    seed: None,
                    step,
                    hash,
                    tape,
                    shrunk: None,
                    engines: core::mem::take(&mut sim.settings),
                    trace,
                    command: String::new(),
                });
                // Dropping a half-finished simulation may panic as well.
                if let Err(message) = caught(move || drop(sim)) {
                    result.message = format!("{}; then {message}", result.message);
                }
                Err(result)
            }
        }
    }

    /// Runs a scenario with a seed.
    ///
    /// # Errors
    ///
    /// Returns the failure, with its trace, its tape, and a shrunk tape.
    pub fn run(&self, seed: u64, scenario: &Scenario<'_>) -> Result<Report, Box<Failure>> {
        self.attempt(Source::Seed { seed, keep: false }, false, scenario)
            .map_err(|first| self.explain(seed, first, scenario))
    }

    fn explain(&self, seed: u64, mut first: Box<Failure>, scenario: &Scenario<'_>) -> Box<Failure> {
        // The first run records nothing, for speed. The same seed must fail again in the same way.
        let Err(mut failure) = self.attempt(Source::Seed { seed, keep: true }, true, scenario) else {
            first.message = format!("determinism: failed once, but not again: {}", first.message);
            first.seed = Some(seed);
            return first;
        };
        if failure.hash != first.hash {
            failure.message = format!(
                "determinism: the hash was {:016x}, then {:016x}: {}",
                first.hash, failure.hash, failure.message
            );
        }
        failure.seed = Some(seed);
        failure.command = self.command.by_seed(seed);
        if self.shrinks > 0 && !self.calm {
            let mut budget = SHRINK_EVENTS;
            let fails = |tape: &Tape| {
                let outcome =
                    (budget > 0).then(|| self.attempt(Source::Tape(tape.clone()), false, scenario))?;
                let events = match &outcome {
                    Ok(report) => report.events,
                    Err(failure) => failure.step,
                };
                budget = budget.saturating_sub(events + EVENTS_A_RUN);
                outcome.err().map(|failure| failure.message)
            };
            let tape = shrink(&failure.tape, &failure.message, self.shrinks, fails);
            if let Err(small) = self.attempt(Source::Tape(tape.clone()), true, scenario) {
                (failure.trace, failure.engines) = (small.trace, small.engines);
                failure.trace.push(format!("{} (of the shrunk run)", small.message));
            }
            failure.shrunk = Some(tape);
        }
        failure
    }

    /// Runs a scenario with the decisions of a tape.
    ///
    /// # Errors
    ///
    /// Returns the failure.
    pub fn play(&self, tape: &Tape, scenario: &Scenario<'_>) -> Result<Report, Box<Failure>> {
        self.attempt(Source::Tape(tape.clone()), true, scenario).map_err(|mut failure| {
            failure.command = self.command.by_tape(tape);
            failure
        })
    }
}

/// The environment variables from which [`check`] reads a single seed or a tape.
pub const SEED_VARIABLE: &str = "LIGHTCONE_SIM_SEED";
const TAPE_VARIABLE: &str = "LIGHTCONE_SIM_TAPE";

/// Returns the value of an environment variable, if it is set.
fn variable<T: FromStr>(name: &str, allowed: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name} is {text:?}; allowed: {allowed}"),
    }
}

/// Runs a scenario with each of the seeds, for tests. If `LIGHTCONE_SIM_SEED` is set, runs only that seed; if
/// `LIGHTCONE_SIM_TAPE` is set, plays that [`Tape`].
///
/// # Panics
///
/// Panics at the first failure, with its trace and the command that repeats it.
pub fn check(seeds: impl IntoIterator<Item = u64>, scenario: impl Fn(&mut Sim<'_>)) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let runner = Runner::new(&test);
    let outcome = match (variable(TAPE_VARIABLE, "a tape"), variable(SEED_VARIABLE, "a number below 2^64")) {
        (Some(tape), _) => runner.play(&tape, &scenario).map(drop),
        (None, Some(seed)) => runner.run(seed, &scenario).map(drop),
        (None, None) => seeds.into_iter().try_for_each(|seed| runner.run(seed, &scenario).map(drop)),
    };
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
