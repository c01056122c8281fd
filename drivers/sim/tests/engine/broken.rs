//! Mutants: drivers that are each broken in one way, which the checks must notice within a few seeds.

use core::time::Duration;

use crate::common::{Echo, asking_scenario, broken_echo, closing_scenario, post_scenario, ticking_scenario};
use lightcone_core::{Config, Instant, Timeouts, Token};
use lightcone_sim::{Engine, Failure, Fault, Mutant, Runner, Script, Sim, Unmutated};

/// The number of seeds within which each mutant must be noticed.
const SEEDS: u64 = 60;

/// Runs seeds until one fails. The failure must be reproduced by its seed and by its tape.
fn caught(name: &str, scenario: &dyn Fn(&mut Sim<'_>)) -> Failure {
    let runner = Runner::new("broken");
    for seed in 0..SEEDS {
        let Err(failure) = runner.run(seed, scenario) else { continue };
        let again = runner.clone().shrinks(0).run(seed, scenario).unwrap_err();
        assert_eq!((again.hash, &again.message), (failure.hash, &failure.message), "{name} replays");
        let played = runner.play(&failure.tape, scenario).unwrap_err();
        assert_eq!((played.hash, &played.message), (failure.hash, &failure.message), "{name} plays back");
        let shrunk = failure.shrunk.as_ref().unwrap();
        assert!(runner.play(shrunk, scenario).is_err());
        let (all, few) = (failure.tape.len(), shrunk.len());
        println!("{name}: seed {seed}, {all} decisions shrunk to {few}: {}", failure.message);
        assert!(few * 10 <= all, "{name}: {all} decisions shrunk to {few} only");
        return *failure;
    }
    panic!("{name}: not caught within {SEEDS} seeds");
}

/// Never reports writability of every third socket.
#[derive(Debug)]
struct LostWritable;

impl Mutant for LostWritable {
    fn tells_writable(&mut self, token: Token) -> bool {
        !token.index().is_multiple_of(3)
    }
}

#[test]
fn a_lost_writable_is_noticed() {
    let failure = caught("lost writable", &|sim| broken_echo(sim, Some(false), || LostWritable));
    assert!(failure.message.starts_with("liveness:") || failure.message.starts_with("streams:"), "{failure}");
}

/// Reports bytes as sent when they are only about to be, so that their blocks are released too early.
#[derive(Debug)]
struct PrematureReturn;

impl Mutant for PrematureReturn {
    fn keeps_in_flight(&mut self) -> bool {
        false
    }
}

#[test]
fn a_premature_return_of_blocks_is_noticed() {
    let failure = caught("premature return", &|sim| broken_echo(sim, Some(true), || PrematureReturn));
    assert!(failure.message.starts_with("in flight:"), "{failure}");
}

/// Wakes up 15 ms late.
#[derive(Debug)]
struct MissedDeadline;

impl Mutant for MissedDeadline {
    fn wakes(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        deadline.map(|at| at + Duration::from_millis(15))
    }
}

#[test]
fn a_missed_deadline_is_noticed() {
    let failure = caught("missed deadline", &|sim| post_scenario(sim, || MissedDeadline));
    assert!(failure.message.starts_with("timers:"), "{failure}");
}

/// The same for a poller that has no sockets but timers.
#[test]
fn a_missed_timer_is_noticed() {
    let failure = caught("missed timer", &|sim| ticking_scenario(sim, || MissedDeadline));
    assert!(failure.message.starts_with("timers:"), "{failure}");
}

/// Sleeps until something happens, regardless of deadlines.
#[derive(Debug)]
struct SleepsOn;

impl Mutant for SleepsOn {
    fn wakes(&mut self, _: Option<Instant>) -> Option<Instant> {
        None
    }
}

#[test]
fn a_timer_that_never_wakes_its_poller_is_noticed() {
    let failure = caught("sleeps on", &|sim| ticking_scenario(sim, || SleepsOn));
    assert!(failure.message.starts_with("timers:"), "{failure}");
}

/// Loses bytes in transit when it closes cleanly.
#[derive(Debug)]
struct DroppedTail;

impl Mutant for DroppedTail {
    fn tail(&mut self, bytes: usize) -> usize {
        bytes / 2
    }
}

#[test]
fn a_dropped_tail_is_noticed() {
    let failure = caught("dropped tail", &|sim| broken_echo(sim, None, || DroppedTail));
    assert!(failure.message.starts_with("streams:"), "{failure}");
}

/// Identifies a socket by its slot and ignores the generation.
#[derive(Debug)]
struct WrongGeneration;

impl Mutant for WrongGeneration {
    fn addressee(&mut self, token: Token, there: Option<Token>) -> Token {
        there.unwrap_or(token)
    }
}

#[test]
fn a_wrong_generation_is_noticed() {
    caught("wrong generation", &|sim| closing_scenario(sim, || WrongGeneration));
}

/// Closes sockets in a stop without receiving once more.
#[derive(Debug)]
struct NoLastLook;

impl Mutant for NoLastLook {
    fn looks_last(&mut self) -> bool {
        false
    }
}

#[test]
fn a_stop_without_a_last_look_is_noticed() {
    let failure = caught("no last look", &|sim| asking_scenario(sim, || NoLastLook));
    assert!(failure.message.starts_with("stop:"), "{failure}");
}

/// Does not report that a wait had no room for all events.
#[derive(Debug)]
struct SilentFullWait;

impl Mutant for SilentFullWait {
    fn tells_full_wait(&mut self) -> bool {
        false
    }
}

/// Peers that all send at the same time, shortly before they are idle for too long, to a poller that wakes late.
fn almost_idle<T: Mutant + 'static>(sim: &mut Sim<'_>, completes: bool, mutant: impl Fn() -> T) {
    const IDLE: Duration = Duration::from_millis(500);
    sim.set_fault(Fault::WakeDelayed, 16_000);
    let timeouts = Timeouts { idle: Some(IDLE), ..Timeouts::DEFAULT };
    let config = Config { timeouts, ..Engine::default().config };
    let server = sim.broken_engine(Engine { completes, config, ..Engine::default() }, |_| Echo, |_| mutant());
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    for _ in 0..20 {
        let pause = IDLE - Duration::from_micros(u64::from(1_000 + sim.draw(5_000)));
        let script = Script::to(address).anything().may_be_cut();
        sim.peer(script.send("?").pause(pause).send("!").half_close().until_end());
    }
    sim.finish();
}

#[test]
fn a_full_wait_that_is_not_reported_is_noticed() {
    for completes in [false, true] {
        let failure = caught("silent full wait", &|sim| almost_idle(sim, completes, || SilentFullWait));
        assert!(failure.message.contains("that a full wait left out"), "{failure}");
        // what is reported is not held against a correct driver
        for seed in 0..SEEDS {
            let sound = Runner::new("sound").run(seed, &|sim| almost_idle(sim, completes, || Unmutated));
            assert!(sound.is_ok(), "{sound:?}");
        }
    }
}
