//! Masks (RFC 6455, 5.3).

/// The mask of a frame, rotated such that its first byte is for the next byte of the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mask([u8; 4]);

impl Mask {
    /// Creates a mask from the bytes of a frame header. To protect intermediaries, the bytes that a client uses must be
    /// unpredictable (RFC 6455, 10.3).
    #[must_use]
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, rotated to the next byte of the payload.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// Masks the next bytes of a payload, or removes the mask, which is the same.
    ///
    /// ```
    /// use lightcone_websocket::Mask;
    ///
    /// let mut payload = *b"hello";
    /// Mask::new([1, 2, 3, 4]).apply(&mut payload);
    /// let mut mask = Mask::new([1, 2, 3, 4]);
    /// let (first, rest) = payload.split_at_mut(2); // as it arrives
    /// mask.apply(first);
    /// mask.apply(rest);
    /// assert_eq!(&payload, b"hello");
    /// ```
    #[inline]
    pub fn apply(&mut self, bytes: &mut [u8]) {
        // Words of this size become vector instructions, without unsafe code.
        const WORD: usize = 16;
        let word = u128::from_ne_bytes([self.0; WORD / 4].as_flattened().try_into().unwrap_or([0; WORD]));
        let (words, rest) = bytes.as_chunks_mut::<WORD>();
        for bytes in words {
            *bytes = (u128::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= mask;
        }
        self.0.rotate_left(rest.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Removes a mask from a part of the bytes, in two pieces.
    fn in_two_pieces(plain: &[u8], start: usize, length: usize, cut: usize) {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let part = &plain[start..][..length];
        let expected: Vec<u8> = part.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        let mut bytes = plain.to_vec();
        let mut state = Mask::new(mask);
        state.apply(&mut bytes[start..start + cut]);
        state.apply(&mut bytes[start + cut..start + length]);
        assert_eq!(&bytes[start..start + length], expected, "{start}, {length}, {cut}");
        assert_eq!(state.bytes()[0], mask[length % 4]);
        assert_eq!(bytes[..start], plain[..start]);
        assert_eq!(bytes[start + length..], plain[start + length..]);
    }

    #[test]
    fn every_length_at_every_alignment_in_two_pieces_equals_one_byte_at_a_time() {
        let plain: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(73)).collect();
        for start in 0..17 {
            for length in 0..plain.len() - start {
                (0..=length.min(20)).for_each(|cut| in_two_pieces(&plain, start, length, cut));
            }
        }
    }
}
