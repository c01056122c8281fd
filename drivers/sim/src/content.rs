//! Bytes that peers send and expect.

use core::fmt;
use std::sync::Arc;

use crate::tape::mix;

/// Bytes that a peer sends or expects: either literal bytes, or a stream generated from a seed. Megabytes of
/// the latter need no memory, and a misplaced byte is noticed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Content(Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Given(Arc<[u8]>),
    Pattern { seed: u64, length: u64 },
}

/// Returns `length` bytes that look random and depend only on `seed`.
#[must_use]
pub fn pattern(seed: u64, length: u64) -> Content {
    Content(Kind::Pattern { seed, length })
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Content {
    fn from(bytes: &T) -> Self {
        Self(Kind::Given(bytes.as_ref().into()))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Given(bytes.into()))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&Self> for Content {
    fn from(content: &Self) -> Self {
        content.clone()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Given(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Kind::Pattern { seed, length } => write!(f, "pattern({seed}, {length})"),
        }
    }
}

fn word(seed: u64, place: u64) -> [u8; 8] {
    mix(seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes()
}

impl Content {
    /// Returns the number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match &self.0 {
            Kind::Given(bytes) => bytes.len() as u64,
            Kind::Pattern { length, .. } => *length,
        }
    }

    /// Copies the bytes from `offset` on into `to`, up to the length of `to`. Returns the number of bytes
    /// copied.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> usize {
        let left = self.length().saturating_sub(offset);
        let n = to.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match &self.0 {
            Kind::Given(bytes) => {
                let offset = offset as usize;
                to[..n].copy_from_slice(&bytes[offset..offset + n]);
            }
            Kind::Pattern { seed, .. } => {
                let (mut done, mut at) = (0, offset);
                while done < n {
                    let skip = (at % 8) as usize;
                    let piece = (8 - skip).min(n - done);
                    to[done..done + piece].copy_from_slice(&word(*seed, at / 8)[skip..skip + piece]);
                    done += piece;
                    at += piece as u64;
                }
            }
        }
        n
    }

    /// Returns how many of `bytes` agree with the content from `offset` on, up to the first difference.
    pub(crate) fn matches(&self, offset: u64, bytes: &[u8]) -> usize {
        let mut buffer = [0; 256];
        let mut done = 0;
        while done < bytes.len() {
            let n = (bytes.len() - done).min(buffer.len());
            let known = self.read(offset + done as u64, &mut buffer[..n]);
            let same = bytes[done..done + known].iter().zip(&buffer).take_while(|(a, b)| a == b).count();
            done += same;
            if same < n {
                break;
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_same_however_it_is_cut() {
        let whole = pattern(5, 1_000);
        let mut all = vec![0; 2_000];
        assert_eq!(whole.read(0, &mut all), 1_000);
        for offset in 0..40 {
            let mut piece = [0; 33];
            assert_eq!(whole.read(offset as u64, &mut piece), 33);
            assert_eq!(piece, all[offset..offset + 33]);
        }
        assert_eq!(whole.matches(3, &all[3..1_000]), 997);
        assert_eq!(whole.matches(2, &all[3..1_000]), 0);
        assert_eq!(whole.matches(990, &[all[990], 1 ^ all[991]]), 1);
        assert_eq!(Content::from("abc").matches(1, b"bcd"), 2);
    }
}
