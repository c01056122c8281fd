//! Placement of new sockets on pollers.
//!
//! The acceptor picks a poller with a [`Balancer`], reserves a place there (see [`Reservation`]), and sends the socket
//! to it. If that poller is full, the acceptor tries the [`alternatives`](Balancer::alternatives), best first; if all
//! are full, it stops accepting. Loads are hints and may be out of date, which only makes the placement less even.
//!
//! [`Reservation`]: crate::sync::Reservation
#![cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))]

use core::fmt;
use core::iter::FusedIterator;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use crate::sync::{Load, mix};

/// The maximum number of pollers that can be balanced: a poller's number fits in a byte.
pub const POLLERS_MAX: usize = 256;

/// How a poller is chosen.
///
/// The names in parentheses are those of the command line, parsed by [`FromStr`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Policy {
    /// (`round-robin`) Each poller in turn. Good for many short, similar connections.
    #[default]
    RoundRobin,
    /// (`least`) The poller with the fewest sockets, in turn among equals. Reads the load of every poller.
    LeastConnections,
    /// (`two`) The less loaded of two candidates: one from an index that counts up, one from an index that counts down.
    /// Nearly as even as `least`, at a fixed cost and without random numbers.
    LeastOfTwo,
    /// (`hash`) By the hint: [`peer_hint`] keeps all connections of one address on one poller. A client that controls
    /// its address controls its placement, so this policy is not for untrusted peers.
    Hash,
    /// (`pinned:N`) Always poller `N`, counted from 0. No other poller is tried when it is full.
    Pinned(u8),
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.pad("round-robin"),
            Self::LeastConnections => f.pad("least"),
            Self::LeastOfTwo => f.pad("two"),
            Self::Hash => f.pad("hash"),
            Self::Pinned(poller) => write!(f, "pinned:{poller}"),
        }
    }
}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(name: &str) -> Result<Self, ParsePolicyError> {
        match name {
            "round-robin" => Ok(Self::RoundRobin),
            "least" => Ok(Self::LeastConnections),
            "two" => Ok(Self::LeastOfTwo),
            "hash" => Ok(Self::Hash),
            _ => name
                .strip_prefix("pinned:")
                .filter(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|number| number.parse().ok())
                .map(Self::Pinned)
                .ok_or_else(|| ParsePolicyError::new(name)),
        }
    }
}

/// The error for an unknown policy name. Its text quotes the name and lists the allowed ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParsePolicyError {
    /// INVARIANT: the first `length` bytes are UTF-8.
    name: [u8; Self::QUOTED_MAX],
    length: usize,
    cut: bool,
}

impl ParsePolicyError {
    /// The maximum number of bytes of the unknown name that are kept. The error owns its text, and there is no heap to
    /// put it on.
    const QUOTED_MAX: usize = 32;

    fn new(name: &str) -> Self {
        let (kept, _) = name.split_at(name.floor_char_boundary(Self::QUOTED_MAX));
        let mut buffer = [0; Self::QUOTED_MAX];
        for (to, from) in buffer.iter_mut().zip(kept.bytes()) {
            *to = from;
        }
        Self { name: buffer, length: kept.len(), cut: kept.len() < name.len() }
    }
}

impl fmt::Display for ParsePolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = self.name.split_at(self.length);
        let Ok(name) = core::str::from_utf8(name) else {
            unreachable!("a text that was cut between two characters")
        };
        write!(
            f,
            "unknown balancing policy {name:?}{}, expected round-robin, least, two, hash \
             or pinned:N with N from 0 to {}",
            if self.cut { ".." } else { "" },
            u8::MAX,
        )
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for ParsePolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for ParsePolicyError {}

/// The error for a policy that does not fit the number of pollers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BalanceError {
    /// The number of pollers, which is 0 or more than [`POLLERS_MAX`].
    Pollers(usize),
    /// [`Policy::Pinned`] names a poller that does not exist.
    Pinned {
        /// The number of that poller.
        poller: u8,
        /// The number of pollers.
        pollers: usize,
    },
}

impl fmt::Display for BalanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pollers(pollers) => write!(f, "{pollers} pollers, expected 1 to {POLLERS_MAX}"),
            Self::Pinned { poller, pollers } => {
                write!(f, "pinned to poller {poller}, but there are {pollers}, counted from 0")
            }
        }
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for BalanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for BalanceError {}

/// Picks pollers by a [`Policy`]. Each acceptor has its own.
///
/// Its whole state is two indexes below the number of pollers. No counter grows, so the number of picks is unlimited.
///
/// ```
/// # use lightcone_core::balance::{Balancer, Policy, peer_hint};
/// # use lightcone_core::sync::Load;
/// # let peer = "[2001:db8::1]:443".parse().unwrap();
/// let loads = [const { Load::new() }; 3];
/// let mut balancer = Balancer::new("least".parse()?, loads.len())?;
///
/// let first = balancer.pick(&loads, peer_hint(&peer));
/// let mut others = balancer.alternatives(first, &loads);
/// let reserved = loads[first].reserve_if_below(10_000)
///     .or_else(|| others.find_map(|other| loads[other].reserve_if_below(10_000)));
/// # assert!(reserved.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Balancer {
    policy: Policy,
    /// INVARIANT: 1 to `POLLERS_MAX`, and greater than the number of a pinned poller.
    pollers: usize,
    /// The index that counts up: the first candidate of the next pick. INVARIANT: below `pollers`.
    up: usize,
    /// The index that counts down: the second candidate of [`Policy::LeastOfTwo`]. INVARIANT: below `pollers`.
    down: usize,
}

impl Balancer {
    /// Creates a balancer over `pollers` pollers.
    ///
    /// # Errors
    ///
    /// [`BalanceError`] if there are no pollers or more than [`POLLERS_MAX`], or if the policy names a poller that does
    /// not exist.
    pub const fn new(policy: Policy, pollers: usize) -> Result<Self, BalanceError> {
        if pollers == 0 || pollers > POLLERS_MAX {
            return Err(BalanceError::Pollers(pollers));
        }
        if let Policy::Pinned(poller) = policy
            && poller as usize >= pollers
        {
            return Err(BalanceError::Pinned { poller, pollers });
        }
        Ok(Self { policy, pollers, up: 0, down: pollers - 1 })
    }

    /// Returns the policy.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Returns the poller for the next socket, as an index into `loads`. Only [`Policy::Hash`] uses `hint`.
    ///
    /// # Panics
    ///
    /// If the number of `loads` is not the number of pollers.
    pub fn pick<L: AsRef<Load>>(&mut self, loads: &[L], hint: u64) -> usize {
        assert_eq!(loads.len(), self.pollers, "one load for each poller");
        match self.policy {
            Policy::RoundRobin => self.step_up(),
            Policy::LeastConnections => {
                let start = self.step_up();
                let from_start = (start..self.pollers).chain(0..start);
                from_start.min_by_key(|poller| load_of(loads, *poller)).unwrap_or(start)
            }
            Policy::LeastOfTwo => self.better_of_two(loads),
            Policy::Hash => spread(hint, self.pollers),
            Policy::Pinned(poller) => usize::from(poller),
        }
    }

    /// Returns the pollers to try when `first` is full: every other one once, best first.
    ///
    /// The two policies that compare loads order them by increasing load. The others take them in turn from `first` on,
    /// so that the second choice for a hashed peer is fixed, too. A pinned socket has no alternatives. Each step reads
    /// `loads` again.
    ///
    /// # Panics
    ///
    /// If the number of `loads` is not the number of pollers.
    pub fn alternatives<'a, L: AsRef<Load>>(&self, first: usize, loads: &'a [L]) -> Alternatives<'a, L> {
        assert_eq!(loads.len(), self.pollers, "one load for each poller");
        let mut left = PollerSet::up_to(self.pollers);
        left.remove(first);
        let by_load = match self.policy {
            Policy::LeastConnections | Policy::LeastOfTwo => true,
            Policy::RoundRobin | Policy::Hash => false,
            Policy::Pinned(_) => {
                left = PollerSet::up_to(0);
                false
            }
        };
        Alternatives { loads, left, first: first % self.pollers, by_load }
    }

    const fn step_up(&mut self) -> usize {
        let here = self.up;
        self.up = if here + 1 == self.pollers { 0 } else { here + 1 };
        here
    }

    /// Returns the less loaded candidate, and moves the index of the other one on. A good poller is thus kept until
    /// another one is better, which evens out faster than choosing two new candidates each time, at random or not.
    fn better_of_two<L: AsRef<Load>>(&mut self, loads: &[L]) -> usize {
        if self.up == self.down {
            // two different candidates, if there are two pollers
            self.step_up();
        }
        let (up, down) = (self.up, self.down);
        if load_of(loads, down) < load_of(loads, up) {
            self.step_up();
            down
        } else {
            self.down = if down == 0 { self.pollers - 1 } else { down - 1 };
            up
        }
    }
}

fn load_of<L: AsRef<Load>>(loads: &[L], poller: usize) -> u32 {
    loads.get(poller).map_or(u32::MAX, |load| load.as_ref().get())
}

/// The iterator that [`Balancer::alternatives`] returns.
#[derive(Clone, Debug)]
pub struct Alternatives<'a, L> {
    loads: &'a [L],
    /// The pollers that have not been tried.
    left: PollerSet,
    first: usize,
    by_load: bool,
}

impl<L: AsRef<Load>> Iterator for Alternatives<'_, L> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let pollers = self.loads.len();
        let mut candidates =
            (self.first + 1..pollers).chain(0..self.first).filter(|poller| self.left.contains(*poller));
        let next = if self.by_load {
            candidates.min_by_key(|poller| load_of(self.loads, *poller))
        } else {
            candidates.next()
        }?;
        self.left.remove(next);
        Some(next)
    }
}

impl<L: AsRef<Load>> FusedIterator for Alternatives<'_, L> {}

/// A set of pollers, with one bit for each.
#[derive(Clone, Default, Debug)]
pub(crate) struct PollerSet([u64; POLLERS_MAX / 64]);

impl PollerSet {
    pub(crate) fn insert(&mut self, poller: usize) {
        if let Some(word) = self.0.get_mut(poller / 64) {
            *word |= 1 << (poller % 64);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn up_to(pollers: usize) -> Self {
        let mut set = Self::default();
        for poller in 0..pollers {
            set.insert(poller);
        }
        set
    }

    pub(crate) fn contains(&self, poller: usize) -> bool {
        self.0.get(poller / 64).is_some_and(|word| word >> (poller % 64) & 1 == 1)
    }

    pub(crate) fn remove(&mut self, poller: usize) {
        if let Some(word) = self.0.get_mut(poller / 64) {
            *word &= !(1 << (poller % 64));
        }
    }
}

/// Returns a hint for [`Balancer::pick`] that is the same for all connections of one address, regardless of the port.
///
/// All 128 bits of an IPv6 address count. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) has the hint of the IPv4
/// address. The result is the same on every machine and in every run.
#[must_use]
pub fn peer_hint(peer: &SocketAddr) -> u64 {
    address_hint(&peer.ip())
}

/// Like [`peer_hint`], for an address without a port.
#[must_use]
pub fn address_hint(address: &IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => mix(u64::from(address.to_bits())),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments().map(u64::from);
            mix(mix(a << 48 | b << 32 | c << 16 | d) ^ (e << 48 | f << 32 | g << 16 | h))
        }
    }
}

/// Maps a hint to one of `pollers`. Hints that differ in only a few bits are spread evenly, too.
#[expect(clippy::cast_possible_truncation, reason = "the result is below `pollers`")]
fn spread(hint: u64, pollers: usize) -> usize {
    ((u128::from(mix(hint)) * pollers as u128) >> 64) as usize
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    extern crate alloc;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::sync::{CachePadded, Reservation};

    const ALL: [Policy; 5] =
        [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastOfTwo, Policy::Hash, Policy::Pinned(1)];

    fn loads(pollers: usize) -> Vec<Load> {
        (0..pollers).map(|_| Load::new()).collect()
    }

    /// Reserves `counts` on `loads`, for as long as the returned reservations live.
    fn loaded<'a>(loads: &'a [Load], counts: &[u32]) -> Vec<Reservation<&'a Load>> {
        let units = loads.iter().zip(counts).flat_map(|(load, count)| (0..*count).map(move |_| load));
        units.map(|load| load.reserve_if_below(u32::MAX).unwrap()).collect()
    }

    #[test]
    fn round_robin_takes_turns() {
        let loads = loads(3);
        let mut balancer = Balancer::new(Policy::RoundRobin, 3).unwrap();
        let picks: Vec<_> = (0..7).map(|_| balancer.pick(&loads, 0)).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0]);
    }

    /// Returns the number of picks after which a balancer repeats an earlier state.
    fn period(policy: Policy, pollers: usize) -> usize {
        let loads = loads(pollers);
        let mut balancer = Balancer::new(policy, pollers).unwrap();
        let mut seen = vec![];
        loop {
            if let Some(earlier) = seen.iter().position(|state| *state == balancer) {
                return seen.len() - earlier;
            }
            seen.push(balancer.clone());
            assert!(balancer.pick(&loads, u64::MAX) < pollers);
        }
    }

    /// The states repeat after so few picks that all of them are tried here. Nothing else can happen after 2^32 picks,
    /// where a counter of picks would have overflowed.
    #[test]
    fn endless_picking_repeats_what_was_tried() {
        for policy in ALL {
            for pollers in [2, 3, 7, 32] {
                assert!(period(policy, pollers) <= pollers * pollers, "{policy} of {pollers}");
            }
        }
    }

    #[test]
    fn least_connections_finds_the_least_and_takes_turns_among_equals() {
        let loads = loads(4);
        let _held = loaded(&loads, &[2, 1, 3, 1]);
        let mut balancer = Balancer::new(Policy::LeastConnections, 4).unwrap();
        let picks: Vec<_> = (0..4).map(|_| balancer.pick(&loads, 0)).collect();
        assert_eq!(picks, [1, 1, 3, 3]);
    }

    #[test]
    fn a_burst_before_any_adoption_spreads_evenly() {
        for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastOfTwo] {
            let loads = loads(4);
            let mut balancer = Balancer::new(policy, 4).unwrap();
            let mut flying = Vec::new();
            for _ in 0..64 {
                let picked = balancer.pick(&loads, 0);
                flying.push(loads[picked].reserve_if_below(u32::MAX).unwrap());
            }
            assert!(loads.iter().all(|load| (15..=17).contains(&load.get())), "{policy}: {loads:?}");
        }
    }

    #[test]
    fn least_of_two_evens_out_a_skew() {
        for pollers in [2, 3, 4, 5, 8, 16] {
            let loads = loads(pollers);
            let mut counts = vec![0; pollers];
            counts[0] = 100;
            let mut held = loaded(&loads, &counts);
            let mut balancer = Balancer::new(Policy::LeastOfTwo, pollers).unwrap();
            for _ in 0..100 * (pollers - 1) {
                held.push(loads[balancer.pick(&loads, 0)].reserve_if_below(u32::MAX).unwrap());
            }
            let counts: Vec<_> = loads.iter().map(Load::get).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 8, "{counts:?}");
        }
    }

    #[test]
    fn hash_keeps_a_peer_on_its_poller_and_spreads_peers() {
        let loads = loads(4);
        let mut balancer = Balancer::new(Policy::Hash, 4).unwrap();
        let mut counts = [0; 4];
        for host in 0..1_000_u32 {
            let peer = |port| SocketAddr::new(IpAddr::V4((0x0a00_0000 + host).into()), port);
            let picked = balancer.pick(&loads, peer_hint(&peer(1)));
            assert_eq!(picked, balancer.pick(&loads, peer_hint(&peer(65_535))));
            counts[picked] += 1;
        }
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
        // Hints that the caller did not mix are spread as well.
        let mut counts = [0; 4];
        for hint in 0..1_000 {
            counts[balancer.pick(&loads, hint)] += 1;
        }
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
    }

    #[test]
    fn every_bit_of_an_address_counts() {
        let hint = |text: &str| address_hint(&text.parse().unwrap());
        assert_eq!(hint("192.0.2.1"), hint("::ffff:192.0.2.1"));
        let base = hint("2001:db8::");
        for bit in 0..128 {
            let other = IpAddr::V6((0x2001_0db8_u128 << 96 ^ 1 << bit).into());
            assert_ne!(address_hint(&other), base, "bit {bit}");
        }
        assert_ne!(hint("2001:db8::1:0"), hint("2001:db8:0:1::"));
    }

    #[test]
    fn alternatives_name_every_other_poller_once() {
        for (policy, pollers) in ALL.into_iter().flat_map(|policy| [2, 5, POLLERS_MAX].map(|n| (policy, n))) {
            let balancer = Balancer::new(policy, pollers).unwrap();
            let loads = loads(pollers);
            for first in [0, pollers / 2, pollers - 1] {
                let mut others: Vec<_> = balancer.alternatives(first, &loads).collect();
                others.sort_unstable();
                let pinned = matches!(policy, Policy::Pinned(_));
                let expected: Vec<_> = (0..pollers).filter(|other| !pinned && *other != first).collect();
                assert_eq!(others, expected, "{policy}, {first} of {pollers}");
            }
        }
        assert_eq!(Balancer::new(Policy::Hash, 1).unwrap().alternatives(0, &loads(1)).next(), None);
    }

    #[test]
    fn alternatives_come_best_first() {
        let loads = loads(5);
        let _held = loaded(&loads, &[3, 9, 1, 3, 2]);
        let order = |policy, first| -> Vec<usize> {
            Balancer::new(policy, 5).unwrap().alternatives(first, &loads).collect()
        };
        assert_eq!(order(Policy::LeastConnections, 2), [4, 3, 0, 1]);
        assert_eq!(order(Policy::LeastOfTwo, 1), [2, 4, 3, 0]);
        assert_eq!(order(Policy::RoundRobin, 3), [4, 0, 1, 2]);
        assert_eq!(order(Policy::Hash, 0), [1, 2, 3, 4]);
    }

    #[test]
    fn loads_may_change_while_alternatives_are_tried() {
        let loads = loads(4);
        let balancer = Balancer::new(Policy::LeastConnections, 4).unwrap();
        let mut held = loaded(&loads, &[9, 1, 2, 3]);
        let mut others = balancer.alternatives(0, &loads);
        assert_eq!(others.next(), Some(1));
        held.extend(loaded(&loads, &[0, 5, 5, 0]));
        assert_eq!((others.next(), others.next(), others.next()), (Some(3), Some(2), None));
        drop(held);
        assert_eq!((others.next(), others.next()), (None, None), "no poller is tried twice");
    }

    #[test]
    fn pinned_and_the_number_of_pollers_are_checked_when_made() {
        assert_eq!(Balancer::new(Policy::Pinned(2), 2).unwrap_err().to_string(), {
            "pinned to poller 2, but there are 2, counted from 0"
        });
        assert_eq!(Balancer::new(Policy::Hash, 0).unwrap_err(), BalanceError::Pollers(0));
        assert_eq!(Balancer::new(Policy::Hash, 257).unwrap_err(), BalanceError::Pollers(257));
        let mut last = Balancer::new(Policy::Pinned(255), 256).unwrap();
        assert_eq!(last.pick(&loads(256), 0), 255);
    }

    #[test]
    fn padded_loads_are_as_good() {
        let loads = [const { CachePadded(Load::new()) }; 2];
        let mut balancer = Balancer::new(Policy::LeastConnections, 2).unwrap();
        let _held = loads[0].reserve_if_below(1);
        assert_eq!(balancer.pick(&loads, 0), 1);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for policy in ALL.into_iter().chain([Policy::Pinned(0), Policy::Pinned(255)]) {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("least".parse(), Ok(Policy::LeastConnections));
        assert_eq!("pinned:7".parse(), Ok(Policy::Pinned(7)));
    }

    #[test]
    fn a_bad_name_is_quoted_with_what_is_allowed() {
        for name in [
            "",
            "fastest",
            "Least",
            "pinned",
            "pinned:",
            "pinned:x",
            "pinned:256",
            "pinned:-1",
            "pinned:+1",
            " two",
        ] {
            let text = name.parse::<Policy>().unwrap_err().to_string();
            assert!(
                text.contains(&format!("{name:?}, expected round-robin, least, two, hash or pinned:N")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_long_bad_name_is_cut_between_characters() {
        let name: String = core::iter::repeat_n('ä', 100).collect();
        let text = format!("x{name}").parse::<Policy>().unwrap_err().to_string();
        assert!(text.contains(&format!("\"x{}\"..", "ä".repeat(15))), "{text}");
    }
}
