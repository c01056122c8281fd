//! How a model is run, and the proof that running it means something.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use loom::thread;

use crate::sync::atomic::AtomicBool;
use crate::sync::cell::UnsafeCell;

/// The preemptions of an execution that most models are run with, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 2;

/// What happened in the executions of a model, by name, with how often.
///
/// loom leaves out schedules that it takes for equivalent, and is sometimes wrong about it: of the earlier accesses to
/// an atomic it remembers the last alone, so a load by one thread can hide that the load of another came before the
/// same store. Which thread is the model's main one decides what it tries first and what it misses. So a model names
/// the outcomes that it is about, and fails if one of them never came up.
#[derive(Debug)]
pub struct Seen(Mutex<BTreeMap<&'static str, usize>>);

impl Seen {
    /// Notes that `outcome` came up in this execution, if `really`.
    pub fn note(&self, outcome: &'static str, really: bool) {
        let mut outcomes = self.0.lock().expect("no panic while noting");
        let count = outcomes.get_mut(outcome).unwrap_or_else(|| panic!("{outcome:?} is not announced"));
        *count += usize::from(really);
    }
}

/// Runs `model` through all schedules with a bounded number of preemptions. Each of `outcomes` must come up in one.
pub fn check(name: &str, outcomes: &[&'static str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    run(name, builder, outcomes, model);
}

/// Runs `model` through all schedules, with no bound. For the smallest ones.
pub fn check_all(name: &str, outcomes: &[&'static str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = None;
    run(name, builder, outcomes, model);
}

#[expect(clippy::disallowed_methods, reason = "says how long a model took")]
fn run(
    name: &str,
    mut builder: loom::model::Builder,
    outcomes: &[&'static str],
    model: impl Fn(&Seen) + Send + Sync + 'static,
) {
    // Out of time or of permutations, loom just returns: the model would pass.
    builder.max_duration = None;
    builder.max_permutations = None;
    let executions = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Seen(Mutex::new(outcomes.iter().map(|outcome| (*outcome, 0)).collect())));
    let bound = builder.preemption_bound.map_or("no bound".into(), |bound| format!("bound {bound}"));
    let start = Instant::now();
    builder.check({
        let (executions, seen) = (Arc::clone(&executions), Arc::clone(&seen));
        move || {
            executions.fetch_add(1, Ordering::Relaxed);
            model(&seen);
        }
    });
    let seconds = start.elapsed().as_secs_f32();
    let executions = executions.load(Ordering::Relaxed);
    let seen = seen.0.lock().expect("no panic while noting");
    let counts: String = seen.iter().map(|(outcome, count)| format!(", {outcome} {count}")).collect();
    // Not `println!`, which the test harness keeps to itself when a test passes.
    let line = format!("model {name}, {bound}: {executions} executions in {seconds:.2} s{counts}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("an open standard error");
    assert!(executions > 1, "{name}: a single execution explores nothing");
    assert!(seen.values().all(|count| *count > 0), "{name}: an outcome never came up{counts}");
}

/// Something to touch from several threads: loom panics about a causality violation if two of them do so unordered.
///
/// It stands for user data, which one callback after the other may use, and for anything else that is published.
#[derive(Debug)]
pub struct Racy(Mutex<UnsafeCell<()>>);

impl Racy {
    /// Not touched yet.
    pub fn new() -> Self {
        Self(Mutex::new(UnsafeCell::new(())))
    }

    /// Touches it, as a write would.
    pub fn touch(&self) {
        // A std mutex, which loom does not see: it makes the cell `Sync` and orders nothing in the model.
        self.0.lock().expect("no panic while touching").with_mut(|_| ());
    }
}

impl Default for Racy {
    fn default() -> Self {
        Self::new()
    }
}

/// Fails if the models were built against another mutant than `LOOM_MUTANT` says; without it, against any.
pub fn built_as_asked() {
    assert_eq!(env!("LOOM_MUTANT_BUILT"), std::env::var("LOOM_MUTANT").unwrap_or_default());
}

/// Hands something over through the facade's own types, in the right order of events but without a release. Panics
/// about a causality violation if and only if loom watches both the cell and the flag.
pub fn unordered_hand_over() {
    check("unordered hand-over (must fail)", &[], |_| {
        let shared = Arc::new((Racy::new(), AtomicBool::new(false)));
        let producer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.0.touch();
                shared.1.store(true, Ordering::Relaxed);
            }
        });
        if shared.1.load(Ordering::Relaxed) {
            shared.0.touch();
        }
        producer.join().expect("no panic");
    });
}
