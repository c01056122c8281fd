//! UTF-8 that arrives in pieces.

use core::str;

use super::violation::Violation;

/// Checks text that may end in the middle of a character, and begins with a whole one. The first byte that cannot be
/// part of UTF-8, given the bytes before it, is an error at once.
pub(crate) fn check(text: &[u8]) -> Result<(), Violation> {
    match str::from_utf8(text) {
        Err(error) if error.error_len().is_some() => Err(Violation::InvalidUtf8),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the number of bytes of the incomplete character at the end of a text that was [checked](check).
pub(crate) fn incomplete(text: &[u8]) -> usize {
    // A character is incomplete if it needs more bytes than there are from its first byte on.
    for (n, byte) in text.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xbf => continue,
            0x00..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        return if needed > n + 1 { n + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many bytes the text is known to be invalid, when it arrives byte by byte.
    fn fails_at(text: &[u8]) -> Option<usize> {
        let mut start = 0;
        (1..=text.len()).find(|&end| {
            let failed = check(&text[start..end]).is_err();
            if !failed {
                start = end - incomplete(&text[start..end]);
            }
            failed
        })
    }

    /// Returns whether a byte may follow the bytes of a character, by table 3-7 of the Unicode Standard.
    fn may_follow(before: &[u8], byte: u8) -> bool {
        match before {
            [] => length(byte) > 0,
            [0xe0] => (0xa0..=0xbf).contains(&byte),
            [0xed] => (0x80..=0x9f).contains(&byte),
            [0xf0] => (0x90..=0xbf).contains(&byte),
            [0xf4] => (0x80..=0x8f).contains(&byte),
            _ => (0x80..=0xbf).contains(&byte),
        }
    }

    fn length(first: u8) -> usize {
        match first {
            0..=0x7f => 1,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        }
    }

    /// Computes what [`fails_at`] must return.
    fn model(text: &[u8]) -> Option<usize> {
        let mut start = 0;
        for (at, byte) in text.iter().enumerate() {
            if !may_follow(&text[start..at], *byte) {
                return Some(at + 1);
            }
            if at + 1 - start == length(text[start]) {
                start = at + 1;
            }
        }
        None
    }

    #[test]
    fn all_sequences_of_up_to_three_bytes_and_edges_of_four_fail_at_the_first_impossible_byte() {
        for code in 0..1_u32 << 24 {
            if code % 7 > 0 && code & 0x8080 != 0x8080 {
                continue; // the rest differs in ASCII only
            }
            let [_, text @ ..] = code.to_be_bytes();
            assert_eq!(fails_at(&text), model(&text), "{text:x?}");
        }
        for [first, second] in (0xee00..=u16::MAX).map(u16::to_be_bytes) {
            for end in [[0x80, 0x7f], [0x80, 0x80], [0xbf, 0xbf], [0xbf, 0xc0], [0x7f, 0x80]] {
                let text = [first, second, end[0], end[1], b'a'];
                assert_eq!(fails_at(&text), model(&text), "{text:x?}");
            }
        }
    }
}
