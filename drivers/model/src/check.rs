//! How a model is run, and the proof that running it means something.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

use core::cell::Cell;

use loom::model::Builder;
use loom::thread;

use crate::sync::atomic::AtomicBool;
use crate::sync::cell::UnsafeCell;
use crate::trace;

/// The preemptions of an execution that models are run with, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
pub const PREEMPTIONS: usize = 2;

/// The steps of one execution: more mean that it goes round in circles. `LOOM_MAX_BRANCHES` replaces it.
const BRANCHES_MAX: usize = 5_000;

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
    ///
    /// # Panics
    ///
    /// If it was not announced to [`check`].
    pub fn note(&self, outcome: &'static str, really: bool) {
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = outcomes.get_mut(outcome).unwrap_or_else(|| panic!("{outcome:?} is not announced"));
        *count += usize::from(really);
    }
}

/// Runs `model` through all schedules with a bounded number of preemptions: [`PREEMPTIONS`], or what the variable
/// `LOOM_MAX_PREEMPTIONS` says. Prints how many executions that were.
///
/// # Panics
///
/// If one of them panics, with what its pollers did until then; if there was no more than one; if one of `outcomes`
/// was [noted](Seen::note) in none.
pub fn check(name: &str, outcomes: &[&'static str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    run(name, builder, outcomes, model);
}

/// The same with no more than `preemptions`, for a model that is too large for more.
pub fn check_up_to(
    name: &str,
    preemptions: usize,
    outcomes: &[&'static str],
    model: impl Fn(&Seen) + Send + Sync + 'static,
) {
    let mut builder = Builder::new();
    let bound = builder.preemption_bound.get_or_insert(preemptions);
    *bound = preemptions.min(*bound);
    run(name, builder, outcomes, model);
}

/// Runs `model` through all schedules, with no bound. For the smallest ones.
///
/// # Panics
///
/// As [`check`].
pub fn check_all(name: &str, outcomes: &[&'static str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = None;
    run(name, builder, outcomes, model);
}

#[allow(clippy::disallowed_methods, reason = "says how long a model took")]
fn run(
    name: &str,
    mut builder: Builder,
    outcomes: &[&'static str],
    model: impl Fn(&Seen) + Send + Sync + 'static,
) {
    // Out of time or of permutations, loom just returns: the model would pass.
    builder.max_duration = None;
    builder.max_permutations = None;
    if std::env::var_os("LOOM_MAX_BRANCHES").is_none() {
        builder.max_branches = BRANCHES_MAX;
    }
    let executions = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Seen(Mutex::new(outcomes.iter().map(|outcome| (*outcome, 0)).collect())));
    let bound = builder.preemption_bound.map_or("no bound".into(), |bound| format!("bound {bound}"));
    let start = Instant::now();
    tell_before_the_end();
    let nested = RUNS.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let (executions, seen) = (Arc::clone(&executions), Arc::clone(&seen));
        builder.check(move || {
            executions.fetch_add(1, Ordering::Relaxed);
            trace::begin();
            model(&seen);
        });
    }));
    RUNS.set(nested);
    let executions = executions.load(Ordering::Relaxed);
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let Some(text) = text else { resume_unwind(panic) };
        panic!("model {name}, {bound}, fails in execution {executions}: {}", report(&text));
    }
    let seconds = start.elapsed().as_secs_f32();
    let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
    let counts: String = seen.iter().map(|(outcome, count)| format!(", {outcome} {count}")).collect();
    print(&format!("model {name}, {bound}: {executions} executions in {seconds:.2} s{counts}"));
    assert!(
        executions > 1,
        "{name}: {executions} executions explore nothing; it takes two threads that share something"
    );
    assert!(seen.values().all(|count| *count > 0), "{name}: an outcome never came up{counts}");
}

/// Not `println!`, which the test harness keeps to itself when a test passes.
fn print(line: &str) {
    // a closed standard error is no reason to fail
    let _ = writeln!(std::io::stderr(), "{line}");
}

thread_local! {
    /// Whether a model runs on this thread.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// After a deadlock loom can't take its threads apart, and ends the process; so it does when one of them goes round in
/// circles. Then this is the last chance to tell what led to it.
fn tell_before_the_end() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            let text = panic.payload_as_str().unwrap_or_default();
            if RUNS.get() && (text.starts_with("deadlock") || text.starts_with("Model exceeded")) {
                print(&report(text));
            }
            before(panic);
        }));
    });
}

fn report(text: &str) -> String {
    let told = trace::told();
    let text = text.trim();
    if told.is_empty() { text.to_owned() } else { format!("{text}\nwhat happened, in this order:\n{told}") }
}

/// Something to touch from several threads: loom panics about a causality violation if two of them do so unordered.
///
/// It stands for user data, which one callback after the other may use, and for anything else that is published.
#[derive(Debug)]
pub struct Racy(Mutex<UnsafeCell<()>>);

impl Racy {
    /// Not touched yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(UnsafeCell::new(())))
    }

    /// Touches it, as a write would.
    pub fn touch(&self) {
        // A std mutex, which loom does not see: it makes the cell `Sync` and orders nothing in the model.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).with_mut(|_| ());
    }
}

impl Default for Racy {
    fn default() -> Self {
        Self::new()
    }
}

/// Hands something over in the right order of events but without a release, through the atomics and cells that
/// everything here is made of. Panics about a causality violation if and only if loom watches both.
///
/// For a test beside each file of models, as otherwise a model without instrumentation would pass for any handler:
///
/// ```
/// #[test]
/// # fn unused() {}
/// #[should_panic(expected = "Causality violation")]
/// fn self_check() {
///     lightcone_model::unordered_hand_over();
/// }
/// # assert!(std::panic::catch_unwind(self_check).is_err());
/// ```
///
/// # Panics
///
/// That is what it is for.
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
