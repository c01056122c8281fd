//! The order in which the addresses of a name are tried (RFC 8305).

use core::net::SocketAddr;
use core::time::Duration;

use lightcone_core::Instant;

/// How long after an attempt the next one begins, if that has not failed: the value that RFC 8305, 5, recommends.
const DELAY: Duration = Duration::from_millis(250);

/// What is to be done next, see [`Attempts::next`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Attempt {
    /// Connect to this address now.
    Connect(SocketAddr),
    /// Ask again at this time, or earlier if an attempt fails.
    Wait(Instant),
    /// All addresses are being tried or have failed. Wait for the attempts in progress.
    Pending,
    /// All attempts have failed, or there was no address.
    Failed,
}

/// Determines in which order and when up to `N` addresses are tried, so that a family without a route costs a fraction
/// of a second. The families take turns, beginning with that of the first address, and an attempt begins 250 ms after
/// the one before it, or as soon as one has failed. When one has succeeded, the program closes the others.
///
/// This is a pure state machine: the time is an argument, and the program makes the connects.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::Instant;
/// use lightcone_http::client::{Attempt, Attempts};
///
/// let [a, b, c] = ["[2001:db8::1]:80", "[2001:db8::2]:80", "192.0.2.1:80"].map(|address| address.parse().unwrap());
/// let mut attempts = Attempts::<4>::new([a, b, c]);
/// let mut now = Instant::from_millis(1_000);
/// assert_eq!(attempts.next(now), Attempt::Connect(a));
/// let next = now + Duration::from_millis(250);
/// assert_eq!(attempts.next(now), Attempt::Wait(next));
/// now = next;
/// assert_eq!(attempts.next(now), Attempt::Connect(c)); // the other family
/// attempts.failed();
/// assert_eq!(attempts.next(now), Attempt::Connect(b)); // at once
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempts<const N: usize> {
    /// In the order of the attempts.
    addresses: [Option<SocketAddr>; N],
    begun: usize,
    failed: usize,
    /// Before this time, the next attempt begins only if one has failed.
    due: Option<Instant>,
}

impl<const N: usize> Attempts<N> {
    /// Creates the attempts for the addresses of a name, in the order of preference. Those beyond `N` are left out, the
    /// last ones of each family first.
    #[must_use]
    pub fn new<A: IntoIterator<Item = SocketAddr, IntoIter: Clone>>(addresses: A) -> Self {
        let all = addresses.into_iter();
        let first = all.clone().next().is_some_and(|address| address.is_ipv4());
        let mut families =
            [first, !first].map(|family| all.clone().filter(move |address| address.is_ipv4() == family));
        let mut attempts = Self { addresses: [None; N], begun: 0, failed: 0, due: None };
        for (at, place) in attempts.addresses.iter_mut().enumerate() {
            let [one, other] = &mut families;
            *place = if at % 2 == 0 {
                one.next().or_else(|| other.next())
            } else {
                other.next().or_else(|| one.next())
            };
        }
        attempts
    }

    /// Returns what is to be done now. After [`Attempt::Connect`], call it again.
    #[must_use]
    pub fn next(&mut self, now: Instant) -> Attempt {
        match (self.addresses.get(self.begun).copied().flatten(), self.due) {
            (Some(_), Some(due)) if now < due => Attempt::Wait(due),
            (Some(address), _) => {
                self.begun += 1;
                self.due = Some(now + DELAY);
                Attempt::Connect(address)
            }
            (None, _) if self.failed < self.begun => Attempt::Pending,
            (None, _) => Attempt::Failed,
        }
    }

    /// Reports that one of the attempts in progress has failed: the next one may begin at once.
    pub const fn failed(&mut self) {
        if self.failed < self.begun {
            self.failed += 1;
            self.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::tests::random::Random;

    fn addresses(families: &str) -> Vec<SocketAddr> {
        let address = |(at, family): (usize, char)| {
            let at = u8::try_from(at).unwrap();
            if family == '4' {
                ([192, 0, 2, at], 80).into()
            } else {
                ([0x2001, 0xdb8, 0, 0, 0, 0, 0, at.into()], 80).into()
            }
        };
        families.chars().enumerate().map(address).collect()
    }

    /// Returns the order of the attempts, if each fails at once.
    fn order<const N: usize>(families: &str) -> Vec<usize> {
        let all = addresses(families);
        let mut attempts = Attempts::<N>::new(all.iter().copied());
        let mut order = Vec::new();
        while let Attempt::Connect(address) = attempts.next(Instant::from_millis(0)) {
            order.push(all.iter().position(|other| *other == address).unwrap());
            attempts.failed();
        }
        assert_eq!(attempts.next(Instant::from_millis(0)), Attempt::Failed);
        order
    }

    #[test]
    fn families_take_turns() {
        assert_eq!(order::<8>("6666"), [0, 1, 2, 3]);
        assert_eq!(order::<8>("6644"), [0, 2, 1, 3]);
        assert_eq!(order::<8>("44466"), [0, 3, 1, 4, 2]);
        assert_eq!(order::<8>("66664"), [0, 4, 1, 2, 3]);
        assert!(order::<8>("").is_empty());
        assert_eq!(order::<3>("66664"), [0, 4, 1]);
        assert!(order::<0>("6").is_empty());
    }

    /// Attempts that take random times to fail, millisecond by millisecond.
    struct Model {
        all: Vec<SocketAddr>,
        attempts: Attempts<6>,
        /// What is still to be tried, the next one last.
        expected: Vec<usize>,
        /// When the attempts in progress fail.
        failures: Vec<u64>,
        last: Option<u64>,
        /// Whether an attempt has failed since the last one began.
        free: bool,
    }

    impl Model {
        /// Lets a millisecond pass; returns whether all is over.
        fn step(&mut self, millis: u64, random: &mut Random) -> bool {
            let before = self.failures.len();
            self.failures.retain(|at| *at > millis);
            (self.failures.len()..before).for_each(|_| self.attempts.failed());
            self.free |= self.failures.len() < before;
            let due = self.free || self.last.is_none_or(|last| millis >= last + 250);
            let next = self.attempts.next(Instant::from_millis(millis));
            if let Attempt::Connect(address) = next {
                assert!(due, "too early at {millis}");
                assert_eq!(Some(address), self.expected.pop().map(|at| self.all[at]));
                (self.last, self.free) = (Some(millis), false);
                self.failures.push(millis + 1 + u64::try_from(random.below(700)).unwrap());
                return false;
            }
            let expected = match (self.expected.is_empty(), self.failures.is_empty()) {
                (true, true) => Attempt::Failed,
                (true, false) => Attempt::Pending,
                (false, _) => Attempt::Wait(Instant::from_millis(self.last.unwrap() + 250)),
            };
            assert_eq!((next, due && !self.expected.is_empty()), (expected, false), "at {millis}");
            next == Attempt::Failed
        }
    }

    /// Each address is tried once, in the order. The next attempt begins when the delay is over or one has failed,
    /// whichever is first, and not before.
    #[test]
    fn attempts_begin_in_time() {
        let seed = Random::seed();
        std::println!("seed {seed}");
        let mut random = Random::new(seed);
        for _ in 0..2_000 {
            let count = random.below(10);
            let families: std::string::String = (0..count).map(|_| random.pick(&['4', '6'])).collect();
            let mut expected = order::<6>(&families);
            expected.reverse();
            let all = addresses(&families);
            let attempts = Attempts::new(all.iter().copied());
            let mut model = Model { all, attempts, expected, failures: Vec::new(), last: None, free: false };
            assert!((0..10_000).any(|millis| model.step(millis, &mut random)), "it does not end: {families}");
        }
    }

    #[test]
    fn failures_that_were_not_attempted_change_nothing() {
        let mut attempts = Attempts::<2>::new(addresses("64"));
        attempts.failed();
        assert!(matches!(attempts.next(Instant::from_millis(0)), Attempt::Connect(_)));
        assert!(matches!(attempts.next(Instant::from_millis(1)), Attempt::Wait(_)));
    }
}
