//! Runs models, and checks that they explore something.

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

/// The default maximum number of preemptions of an execution; `LOOM_MAX_PREEMPTIONS` overrides it.
pub const PREEMPTIONS: usize = 2;

/// The maximum number of steps of one execution, beyond which it is taken for endless. `LOOM_MAX_BRANCHES` overrides
/// it.
const BRANCHES_MAX: usize = 5_000;

/// The outcomes that occurred in the executions of a model, by name, with their counts.
///
/// loom omits schedules that it takes for equivalent, and is sometimes wrong: of the earlier accesses to an atomic it
/// remembers only the last one, so a load by one thread can hide that another thread's load came before the same store.
/// Which thread is the main one decides which schedules come first and which are missed. So a model names the outcomes
/// that it is about, and fails if one of them never occurs.
#[derive(Debug)]
pub struct Seen(Mutex<BTreeMap<&'static str, usize>>);

impl Seen {
    /// Counts `outcome` for this execution if `really` is true.
    ///
    /// # Panics
    ///
    /// If the outcome was not announced to [`check`].
    pub fn note(&self, outcome: &'static str, really: bool) {
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = outcomes.get_mut(outcome).unwrap_or_else(|| panic!("{outcome:?} is not announced"));
        *count += usize::from(really);
    }
}

/// Runs `model` through all schedules with a bounded number of preemptions: [`PREEMPTIONS`], or the value of the
/// variable `LOOM_MAX_PREEMPTIONS`. Prints the number of executions.
///
/// # Panics
///
/// If an execution panics, with what its pollers did until then; if there was only one execution; if one of `outcomes`
/// was never [noted](Seen::note).
pub fn check(name: &str, outcomes: &[&'static str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    run(name, builder, outcomes, model);
}

/// Like [`check`], with at most `preemptions` preemptions, for a model that is too large for more.
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

/// Runs `model` through all schedules without a bound. For the smallest models.
///
/// # Panics
///
/// As [`check`].
pub fn check_all(name: &str, outcomes: &[&'static str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = None;
    run(name, builder, outcomes, model);
}

#[allow(clippy::disallowed_methods, reason = "prints how long a model took")]
fn run(
    name: &str,
    mut builder: Builder,
    outcomes: &[&'static str],
    model: impl Fn(&Seen) + Send + Sync + 'static,
) {
    // at these limits loom just returns, and the model would pass
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
    assert!(seen.values().all(|count| *count > 0), "{name}: an outcome never occurred{counts}");
}

/// Prints to standard error, because the test harness captures `println!` of a test that passes.
fn print(line: &str) {
    // a closed standard error is not a failure
    let _ = writeln!(std::io::stderr(), "{line}");
}

thread_local! {
    /// Whether a model runs on this thread.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Installs a panic hook that prints the report of a deadlock or of an endless execution.
///
/// loom cannot end its threads then, and the process ends: the hook is the last chance to print what led to it.
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

/// A cell to touch from several threads. loom panics about a causality violation if two threads do so unordered.
///
/// It represents user data, which only one callback at a time may use, or any other published data.
#[derive(Debug)]
pub struct Racy(Mutex<UnsafeCell<()>>);

impl Racy {
    /// Creates a cell.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(UnsafeCell::new(())))
    }

    /// Touches the cell, like a write.
    pub fn touch(&self) {
        // a std mutex, which loom does not see: it makes the cell `Sync` and orders nothing in the model
        self.0.lock().unwrap_or_else(PoisonError::into_inner).with_mut(|_| ());
    }
}

impl Default for Racy {
    fn default() -> Self {
        Self::new()
    }
}

/// Hands data over in the right order of events, but without a release, through the atomics and cells that all models
/// use. Panics about a causality violation if and only if loom watches both.
///
/// Use it in a test next to the models of each file. Without instrumentation, a model would pass for any handler:
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
/// Always, if loom watches the atomics and cells.
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
