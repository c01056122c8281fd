//! Where the masks of a client come from (RFC 6455, 10.3).

use core::fmt;

use sha1_smol::Sha1;

use super::header::MASK_LENGTH;
use super::mask::Mask;

/// The length of a hash.
const HASH_LENGTH: usize = 20;

/// A source of masks, one for each frame that a client sends, and of the nonces in its handshakes.
///
/// The masks must be unpredictable to the server and to the source of the payloads. Otherwise a payload could be chosen
/// such that it looks like a request to a proxy on the way (RFC 6455, 10.3). [`MaskGenerator`] suffices if it has a
/// random seed; a device with a generator in hardware implements this trait over it.
pub trait MaskSource {
    /// Returns the next mask.
    fn next_mask(&mut self) -> Mask;
}

/// A generator of masks from a seed: hashes of the seed and a counter, by SHA-1. Without the seed, the
/// masks cannot be predicted, even from all those before.
///
/// The seed must be random, and used once: from the operating system, or from the hardware of a device.
///
/// ```
/// use std::hash::{BuildHasher, RandomState};
/// use lightcone_websocket::{MaskGenerator, MaskSource};
///
/// // The standard library alone: its hashers have random keys from the operating system.
/// let mut seed = [0; 32];
/// for (n, place) in seed.chunks_mut(8).enumerate() {
///     place.copy_from_slice(&RandomState::new().hash_one(n).to_ne_bytes());
/// }
/// let mut masks = MaskGenerator::new(&seed);
/// assert_ne!(masks.next_mask(), masks.next_mask());
/// ```
#[derive(Clone)]
pub struct MaskGenerator {
    seeded: Sha1,
    /// How many hashes were made.
    count: u64,
    hash: [u8; HASH_LENGTH],
    /// How many bytes of the hash were used.
    used: usize,
}

impl MaskGenerator {
    /// Creates a generator from a random seed.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        let mut seeded = Sha1::new();
        seeded.update(seed);
        Self { seeded, count: 0, hash: [0; HASH_LENGTH], used: HASH_LENGTH }
    }
}

impl MaskSource for MaskGenerator {
    fn next_mask(&mut self) -> Mask {
        let unused = self.hash.split_at(self.used.min(HASH_LENGTH)).1;
        if let Some(bytes) = unused.first_chunk::<MASK_LENGTH>() {
            self.used += MASK_LENGTH;
            return Mask::new(*bytes);
        }
        let mut sha1 = self.seeded.clone();
        sha1.update(&self.count.to_le_bytes());
        self.hash = sha1.digest().bytes();
        (self.count, self.used) = (self.count.wrapping_add(1), MASK_LENGTH);
        let [a, b, c, d, ..] = self.hash;
        Mask::new([a, b, c, d])
    }
}

/// Shows nothing from which masks could be predicted.
impl fmt::Debug for MaskGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskGenerator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn masks_are_the_hashes_of_seed_and_counter() {
        let mut seed = [7; 32];
        seed[31] = 8;
        let hash = |count: u64| {
            let mut sha1 = Sha1::new();
            sha1.update(&seed);
            sha1.update(&count.to_le_bytes());
            sha1.digest().bytes()
        };
        let expected: Vec<u8> = (0..3).flat_map(hash).collect();
        let mut masks = MaskGenerator::new(&seed);
        let found: Vec<u8> = (0..15).flat_map(|_| masks.next_mask().bytes()).collect();
        assert_eq!(found, expected);
        assert_eq!(format!("{masks:?}"), "MaskGenerator { .. }");
    }

    #[test]
    fn masks_do_not_repeat_and_differ_by_seed() {
        let draw = |seed: u8| {
            let mut masks = MaskGenerator::new(&[seed; 32]);
            (0..500).map(|_| masks.next_mask().bytes()).collect::<HashSet<_>>()
        };
        let (one, other) = (draw(1), draw(2));
        assert_eq!((one.len(), other.len()), (500, 500));
        assert!(one.is_disjoint(&other));
    }
}
