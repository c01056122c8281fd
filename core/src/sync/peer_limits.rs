//! The number of connections of each peer, in fixed memory.

#![expect(
    clippy::cast_possible_truncation,
    reason = "parts of addresses, and as many bits of a hash as a word has"
)]

use core::fmt;
use core::net::IpAddr;
use core::ops::Deref;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{const_unless_loom, mix};

/// The bits of a word that count connections. The others identify the prefix.
const COUNT_BITS: u32 = 16;
const COUNT: usize = (1 << COUNT_BITS) - 1;
/// The number of places that a prefix can take one of. Few in models, which try every order of their accesses.
const WAYS: usize = if cfg!(loom) { 2 } else { 16 };

/// One place of a table of [`PeerLimits`].
#[derive(Debug)]
pub struct PeerPlace(AtomicUsize);

impl PeerPlace {
    const_unless_loom! {
        /// Creates a free place.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }
    }
}

impl Default for PeerPlace {
    fn default() -> Self {
        Self::new()
    }
}

/// A limit of the connections of each peer, for [`LimitPeers`](crate::LimitPeers).
///
/// Peers are distinguished by a prefix of their address: by default all 32 bits of an IPv4 address and the first 64 of
/// an IPv6 address, which is what one network gets. Unix-domain sockets are not limited. All pollers of an engine share
/// one limit.
///
/// The table is fixed: `S` holds its places of a word each, at least 16, best a multiple of 16 (fewer admit nothing). A prefix with connections takes
/// one of 16 places, which the seed and a hash select. If all of them are taken by other prefixes, the connection is
/// refused as well. With four times as many places as connections, the chance of that is about one in a million. A
/// place keeps 48 bits of the hash, or 16 on 32-bit machines, where prefixes that agree in them share a limit. Choose
/// the seed at random where peers may choose their addresses.
///
/// ```
/// use lightcone_core::sync::{PeerLimits, PeerPlace};
///
/// static LIMITS: PeerLimits<[PeerPlace; 64]> = PeerLimits::new([const { PeerPlace::new() }; 64], 2, 7);
///
/// let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(std::net::IpAddr::from);
/// let first = LIMITS.acquire(one).unwrap();
/// let second = LIMITS.acquire(one).unwrap();
/// assert!(LIMITS.acquire(one).is_none());
/// assert!(LIMITS.acquire(other).is_some());
/// drop(first);
/// assert!(LIMITS.acquire(one).is_some());
/// assert_eq!(LIMITS.refused(), 1);
/// ```
pub struct PeerLimits<S> {
    places: S,
    most: u16,
    prefixes: (u8, u8),
    seed: u64,
    refused: AtomicUsize,
}

impl<S> PeerLimits<S> {
    const_unless_loom! {
        /// Creates a limit of `most` connections for each prefix, over places that are new and not shared.
        #[must_use]
        pub const fn new(places: S, most: u16, seed: u64) -> Self {
            Self { places, most, prefixes: (32, 64), seed, refused: AtomicUsize::new(0) }
        }
    }

    /// Sets the lengths of the prefixes in bits, at most 32 and 128. Longer ones count as these.
    #[must_use]
    pub fn prefixes(mut self, v4: u8, v6: u8) -> Self {
        self.prefixes = (v4.min(32), v6.min(128));
        self
    }

    /// Returns how many connections were refused. The number wraps.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the hash of the prefix of an address.
    fn hash(&self, peer: IpAddr) -> u64 {
        let (v4, v6) = self.prefixes;
        match peer.to_canonical() {
            IpAddr::V4(peer) => {
                let prefix = peer.to_bits() & u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0);
                mix(u64::from(prefix) ^ self.seed)
            }
            IpAddr::V6(peer) => {
                let prefix = peer.to_bits() & u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0);
                let [high, low] = [(prefix >> 64) as u64, prefix as u64];
                // one more step than for IPv4, so that the two differ
                mix(mix(mix(high ^ self.seed) ^ low) ^ 6)
            }
        }
    }
}

impl<S: AsRef<[PeerPlace]>> PeerLimits<S> {
    /// Counts a connection of `peer`, until the permit is dropped. Returns `None`, and counts a refusal, if it is one
    /// too many. Any thread may call it.
    ///
    /// Of several threads that count the last connections of a prefix at once, all may be refused, but never more than
    /// the limit are admitted.
    pub fn acquire(&self, peer: IpAddr) -> Option<PeerPermit<&Self, S>> {
        PeerPermit::acquire(self, peer)
    }

    /// Returns the places of a hash, and what identifies it there.
    fn locate(&self, hash: u64) -> (usize, usize) {
        let places = self.places.as_ref().len();
        let first = hash as usize % (places / WAYS).max(1) * WAYS;
        (first, (hash as usize) & !COUNT)
    }

    /// Counts a connection, and returns its place.
    fn count(&self, hash: u64) -> Option<usize> {
        let (first, mark) = self.locate(hash);
        let ways = self.places.as_ref().get(first..first + WAYS)?;
        let place = ways.iter().position(|way| add(way, mark, false));
        let place = place.or_else(|| ways.iter().position(|way| add(way, mark, true)))?;
        // Another thread may have counted the same prefix in another place. Read-modify-writes, although nothing is
        // changed: of two threads, at least one then sees the count of the other.
        let used = ways.iter().map(|way| way.0.fetch_add(0, Ordering::AcqRel));
        let used: usize = used.filter(|word| word & !COUNT == mark).map(|word| word & COUNT).sum();
        let place = first + place;
        if used > usize::from(self.most) {
            self.release(place);
            return None;
        }
        Some(place)
    }

    fn release(&self, place: usize) {
        if let Some(place) = self.places.as_ref().get(place) {
            // the place belongs to the prefix as long as it counts anything
            place.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Counts one more in a place of this mark or, if `free`, in one that counts nothing. Returns whether it was one.
fn add(place: &PeerPlace, mark: usize, free: bool) -> bool {
    let more = |word: usize| match word & COUNT {
        0 if free => Some(mark | 1),
        1..COUNT if word & !COUNT == mark => Some(word + 1),
        _ => None,
    };
    place.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
}

impl<S: AsRef<[PeerPlace]>> fmt::Debug for PeerLimits<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLimits")
            .field("places", &self.places.as_ref().len())
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// A connection that [`PeerLimits`] count. `R` is a pointer to them, such as a reference or an `Arc`.
#[must_use = "the connection is no longer counted when this is dropped"]
pub struct PeerPermit<R: Deref<Target = PeerLimits<S>>, S: AsRef<[PeerPlace]>> {
    limits: R,
    place: usize,
}

impl<R: Deref<Target = PeerLimits<S>>, S: AsRef<[PeerPlace]>> PeerPermit<R, S> {
    /// Counts a connection, like [`PeerLimits::acquire`].
    pub fn acquire(limits: R, peer: IpAddr) -> Option<Self> {
        let Some(place) = limits.count(limits.hash(peer)) else {
            limits.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(Self { limits, place })
    }
}

impl<R: Deref<Target = PeerLimits<S>>, S: AsRef<[PeerPlace]>> Drop for PeerPermit<R, S> {
    fn drop(&mut self) {
        self.limits.release(self.place);
    }
}

impl<R: Deref<Target = PeerLimits<S>>, S: AsRef<[PeerPlace]>> fmt::Debug for PeerPermit<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerPermit").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    extern crate alloc;
    use alloc::boxed::Box;
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use super::*;

    type Boxed = PeerLimits<Box<[PeerPlace]>>;

    fn limits(places: usize, most: u16) -> Boxed {
        PeerLimits::new((0..places).map(|_| PeerPlace::new()).collect(), most, 99)
    }

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn v6(high: u64, low: u64) -> IpAddr {
        IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into())
    }

    fn counted(limits: &Boxed) -> usize {
        limits.places.iter().map(|place| place.0.load(Ordering::Relaxed) & COUNT).sum()
    }

    #[test]
    fn each_peer_has_the_limit_and_no_more() {
        let limits = limits(1_024, 3);
        let permits: Vec<_> = (0..100).flat_map(|peer| (0..3).map(move |_| peer)).collect();
        let permits: Vec<_> = permits.into_iter().filter_map(|peer| limits.acquire(v4(peer))).collect();
        assert_eq!(permits.len(), 300);
        assert!((0..100).all(|peer| limits.acquire(v4(peer)).is_none()));
        assert_eq!((limits.refused(), counted(&limits)), (100, 300));
        drop(permits);
        assert_eq!(counted(&limits), 0);
    }

    #[test]
    fn any_number_of_places_from_sixteen_on_serves_every_peer() {
        for places in [16, 17, 100] {
            let limits = limits(places, 1);
            assert!((0..50).all(|peer| limits.acquire(v4(peer)).is_some()), "{places}");
        }
        assert!(limits(15, 1).acquire(v4(1)).is_none());
    }

    #[test]
    fn prefixes_decide_who_shares_a_limit() {
        let same = |limits: &Boxed, one, other| {
            let _one = limits.acquire(one).unwrap();
            limits.acquire(other).is_none()
        };
        let default = limits(64, 1);
        assert!(!same(&default, v4(0xC000_0201), v4(0xC000_0202)));
        assert!(same(&default, v6(1, 1), v6(1, 2)) && !same(&default, v6(1, 1), v6(2, 1)));
        // an IPv4 address in an IPv6 one is the IPv4 address
        assert!(same(&default, v4(7), v6(0, 0xFFFF_0000_0007)));
        let wide = limits(64, 1).prefixes(24, 48);
        assert!(
            same(&wide, v4(0xC000_0201), v4(0xC000_0202)) && !same(&wide, v4(0xC000_0201), v4(0xC000_0301))
        );
        assert!(same(&wide, v6(0x10000, 0), v6(0x1FFFF, 0)) && !same(&wide, v6(0x10000, 0), v6(0x20000, 0)));
        let all = limits(64, 1).prefixes(0, 0);
        assert!(same(&all, v4(0), v4(u32::MAX)) && same(&all, v6(0, 0), v6(u64::MAX, u64::MAX)));
        let whole = limits(64, 1).prefixes(255, 255);
        assert!(!same(&whole, v6(1, 1), v6(1, 2)) && same(&whole, v6(1, 1), v6(1, 1)));
    }

    #[test]
    fn a_full_table_refuses_other_peers_until_one_leaves() {
        let limits = limits(16, 10);
        let mut permits: Vec<_> = (0..16).map(|peer| limits.acquire(v4(peer)).unwrap()).collect();
        assert!(limits.acquire(v4(16)).is_none());
        let again = limits.acquire(v4(3)).expect("a peer that has a place");
        drop(permits.swap_remove(5));
        let next = limits.acquire(v4(16));
        assert!(next.is_some() && limits.acquire(v4(17)).is_none());
        drop((again, next, permits));
        assert_eq!(counted(&limits), 0);
    }

    #[test]
    fn four_times_as_many_places_as_peers_suffice() {
        let limits = limits(1 << 16, 1);
        let permits: Vec<_> =
            (0..1 << 14).filter_map(|peer| limits.acquire(v4(0x0A00_0000 + peer))).collect();
        assert_eq!(permits.len(), 1 << 14);
    }

    #[test]
    fn a_permit_keeps_its_limits_alive() {
        let limits = Arc::new(limits(16, 1));
        let permit = PeerPermit::acquire(Arc::clone(&limits), v4(1)).unwrap();
        assert!(PeerPermit::acquire(Arc::clone(&limits), v4(1)).is_none());
        drop(permit);
        assert_eq!(counted(&limits), 0);
    }

    #[test]
    fn the_largest_limit_is_never_exceeded() {
        let limits = limits(16, u16::MAX);
        let permits: Vec<_> = (0..70_000).filter_map(|_| limits.acquire(v4(1))).collect();
        assert_eq!(permits.len(), COUNT);
    }
}
