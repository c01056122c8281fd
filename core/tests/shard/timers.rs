//! The timers of a poller, compared step by step with a list that is searched, and the delays of a back-off.

use core::mem::MaybeUninit;
use core::time::Duration;

use lightcone_core::{
    Backoff, Config, Instant, PollerId, SetupError, Shard, Storage, TimerError, TimerId, TimerStorage,
    TimerWheel, Timers,
};

const MOST: usize = 12;
const CONFIG: Config = Config { timers: MOST, poller: PollerId(3), ..Config::DEVICE };
const STEPS: usize = 20_000;

/// A generator of numbers below a bound.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// The timers that should be set, with when each is due.
type Model = Vec<(Instant, TimerId, u64)>;

/// Takes everything that is due, and checks that it is what the model says, in its order.
fn fire(timers: &mut Timers<'_>, model: &mut Model, now: Instant) {
    let next = model.iter().map(|timer| timer.0).min();
    assert_eq!(timers.next(now).is_none(), next.is_none());
    assert!(timers.next(now) <= next.max(Some(now)), "would sleep too long");
    let mut last = at(0);
    while let Some((id, tag)) = timers.pop_due(now) {
        let place = model.iter().position(|timer| timer.1 == id).unwrap();
        let (due, _, its) = model.swap_remove(place);
        assert!(due <= now && last <= due, "not early, and in order");
        assert_eq!(its, tag);
        last = due;
    }
    assert!(model.iter().all(|timer| timer.0 > now), "one was left out");
}

fn walk(start: u64, seed: u64) {
    let (mut wheel, mut slots) = (TimerWheel::new(), [const { MaybeUninit::uninit() }; MOST]);
    let mut timers = Timers::new(TimerStorage::new(&mut wheel, &mut slots), &CONFIG).unwrap();
    let (mut numbers, mut now) = (Numbers(seed), at(start));
    let (mut model, mut old) = (Model::new(), Vec::<TimerId>::new());
    let (mut fulls, mut stale) = (0, 0);
    for tag in 0..STEPS as u64 {
        match numbers.below(8) {
            0..4 => {
                let span = [1, 70, 5_000, 300_000, 1 << 31][numbers.below(5) as usize];
                let wanted = at((now.as_millis() + numbers.below(span)).saturating_sub(numbers.below(3)));
                match timers.set(now, wanted, tag) {
                    Ok(id) => {
                        assert!(model.len() < MOST && id.poller() == PollerId(3) && !old.contains(&id));
                        let due = Timers::due(now, wanted);
                        assert!(
                            due > now && (due >= wanted || wanted > now + Duration::from_millis(1 << 29))
                        );
                        model.push((due, id, tag));
                        old.push(id);
                    }
                    Err(error) => {
                        assert_eq!((error, model.len()), (TimerError::Full, MOST));
                        fulls += 1;
                    }
                }
            }
            4 if !old.is_empty() => {
                let id = old[numbers.below(old.len() as u64) as usize];
                let place = model.iter().position(|timer| timer.1 == id);
                assert_eq!(timers.cancel(id), place.is_some());
                stale += usize::from(place.is_none());
                place.map(|place| model.swap_remove(place));
            }
            _ => {
                let span = [1, 2, 300, 100_000, 1 << 28][numbers.below(5) as usize];
                now += Duration::from_millis(numbers.below(span));
                fire(&mut timers, &mut model, now);
            }
        }
        // only the newest ids are kept, so that cancels find some of them still set
        if old.len() > 20 {
            old.remove(0);
        }
    }
    assert!(fulls > 100 && stale > 100, "the walk has seen {fulls} full tables and {stale} stale ids");
}

#[test]
fn timers_agree_with_a_list_that_is_searched() {
    for (seed, start) in [0, (1 << 32) - 1_001, (1 << 31) - 1_000, (7 << 32) - 1].into_iter().enumerate() {
        walk(start, 0x9E37_79B9_7F4A_7C15 + seed as u64);
    }
}

/// A poller that takes a turn only when one is due, and late, in which a callback sets a timer before those that are due
/// are called.
#[test]
fn timers_that_are_set_late_and_far_ahead_are_not_early() {
    let (mut wheel, mut slots) = (TimerWheel::new(), [const { MaybeUninit::uninit() }; MOST]);
    let mut timers = Timers::new(TimerStorage::new(&mut wheel, &mut slots), &CONFIG).unwrap();
    let (mut now, mut model) = (at(5), Model::new());
    for tag in 0..20 {
        let id = timers.set(now, at(u64::MAX), tag).unwrap();
        model.push((Timers::due(now, at(u64::MAX)), id, tag));
        fire(&mut timers, &mut model, now);
        now = timers.next(now).unwrap() + Duration::from_secs(10);
    }
    assert!(model.len() < 5, "the others have been called");
}

#[test]
fn the_configuration_bounds_the_timers_and_their_storage() {
    for (timers, slots) in [(0, 0), (0, 3), (2, 2), (2, 3)] {
        let (mut wheel, mut memory) = (TimerWheel::new(), [const { MaybeUninit::uninit() }; 3]);
        let storage = TimerStorage::new(&mut wheel, &mut memory[..slots]);
        let mut made = Timers::new(storage, &Config { timers, ..CONFIG }).unwrap();
        for tag in 0..timers as u64 {
            assert!(made.set(at(0), at(5), tag).is_ok());
        }
        let expected = if timers > 0 { TimerError::Full } else { TimerError::Unsupported };
        assert_eq!(made.set(at(0), at(5), 9), Err(expected));
    }
    let mut memory = [const { MaybeUninit::uninit() }; 1];
    let mut wheel = TimerWheel::new();
    let storage = TimerStorage::new(&mut wheel, &mut memory);
    let short = Timers::new(storage, &Config { timers: 2, ..CONFIG }).unwrap_err();
    assert_eq!((short.length, short.needed), (1, 2));
    assert!(Timers::new(TimerStorage::none(), &CONFIG).is_err());
    assert_eq!(TimerStorage::bytes(0), 0);
    let wheel = TimerStorage::bytes(1) - 24;
    assert!(wheel <= 3_200, "the wheel takes {wheel} bytes");
    assert_eq!(TimerStorage::bytes(1_000), wheel + 24_000);
}

#[test]
fn more_timers_than_an_id_can_name_are_refused() {
    let check = |timers| Config { timers, ..CONFIG }.check();
    assert!(check(0).is_ok() && check(1 << 24).is_ok());
    let error = check((1 << 24) + 1).unwrap_err();
    assert_eq!((error.field, error.value), ("timers", (1 << 24) + 1));
    let config = Config { timers: (1 << 24) + 1, ..CONFIG };
    let made = Shard::<()>::new(Storage { slots: &mut [], memory: &mut [] }, &config, at(0));
    assert_eq!(made.map(|_| ()), Err(SetupError::Config(error)));
}

#[test]
fn a_backoff_doubles_up_to_its_maximum_and_starts_again() {
    for seed in 0..1_000 {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(1_500), seed);
        for _ in 0..2 {
            for most in [100, 200, 400, 800, 1_500, 1_500, 1_500] {
                let delay = backoff.delay().as_millis();
                assert!((most / 2..=most).contains(&delay), "{delay} ms of {most}");
            }
            backoff.reset();
        }
    }
}

#[test]
fn a_backoff_uses_its_whole_range_and_nothing_but_its_seed() {
    let delays = |seed| {
        let mut backoff = Backoff::new(Duration::from_millis(8), Duration::from_millis(8), seed);
        core::array::from_fn::<_, 200, _>(|_| backoff.delay().as_millis())
    };
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2), "clients with different seeds do not act in step");
    for delay in 4..=8 {
        let times = delays(7).into_iter().filter(|it| *it == delay).count();
        assert!((20..=60).contains(&times), "{delay} ms came {times} times of 200");
    }
}

#[test]
fn a_backoff_takes_any_arguments() {
    let mut none = Backoff::new(Duration::ZERO, Duration::ZERO, 0);
    let mut swapped = Backoff::new(Duration::from_secs(2), Duration::from_secs(1), 0);
    let mut longest = Backoff::new(Duration::MAX, Duration::MAX, 0);
    for _ in 0..100 {
        assert_eq!(none.delay(), Duration::from_millis(1), "never zero");
        assert!((1_000..=2_000).contains(&swapped.delay().as_millis()));
        assert!(longest.delay() >= Duration::from_millis(u64::MAX / 2));
    }
}
