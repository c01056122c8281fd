//! Eight bytes at a time: which of them end a run.
//!
//! A *mark* is the high bit of a byte of a word. Each test below marks the bytes that it looks for; the **first**
//! mark is exact, those above it may be false (a borrow runs upwards), which is enough to find the end of a run.
//! Every class of bytes that a run may consist of leaves out zero, so that the zeros which pad the last word of
//! the input end each run: "end of input" and "a byte that does not belong here" share one path.

const HIGH: u64 = splat(0x80);
const LOW_BITS: u64 = splat(0x7f);

/// The byte in all eight places.
pub(crate) const fn splat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// Marks bytes below `n`, where `n` is at most 0x80.
const fn below(word: u64, n: u8) -> u64 {
    word.wrapping_sub(splat(n)) & !word & HIGH
}

/// Marks bytes equal to `n`.
const fn equal(word: u64, n: u8) -> u64 {
    below(word ^ splat(n), 1)
}

/// Marks, without any false mark, ASCII bytes from `low` to `high`.
const fn range(word: u64, low: u8, high: u8) -> u64 {
    let bits = word & LOW_BITS;
    (bits + splat(0x80 - low)) & !(bits + splat(0x7f - high)) & !word & HIGH
}

/// Marks what ends the path of a request target: anything but visible ASCII, `?` and `#`.
pub(crate) const fn ends_path(word: u64) -> u64 {
    equal(word, b'?') | ends_query(word)
}

/// Marks what ends the query of a request target: anything but visible ASCII, and `#`.
pub(crate) const fn ends_query(word: u64) -> u64 {
    below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#') | (word & HIGH)
}

/// Marks what ends a field value: control characters (the tab, which may stay, among them).
pub(crate) const fn ends_value(word: u64) -> u64 {
    below(word, 0x20) | equal(word, 0x7f)
}

/// Marks what is not a letter or a hyphen; the rarer characters of a field name go by [`is_token`].
pub(crate) const fn ends_name(word: u64) -> u64 {
    (range(word | splat(0x20), b'a', b'z') | range(word, b'-', b'-')) ^ HIGH
}

/// Marks what is not a letter, a digit, a hyphen or a dot; the rarer characters of a host go the slow way.
pub(crate) const fn ends_host(word: u64) -> u64 {
    (range(word | splat(0x20), b'a', b'z') | range(word, b'0', b'9') | range(word, b'-', b'.')) ^ HIGH
}

/// Marks what is not a digit.
pub(crate) const fn ends_digits(word: u64) -> u64 {
    range(word, b'0', b'9') ^ HIGH
}

/// The rest of an input, read by words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
    /// The last eight bytes of the input, from which the words at its end are shifted together.
    last: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        let last = match input.last_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => {
                let word = input.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
                word.unbounded_shl(short_of(input))
            }
        };
        Self { rest: input, last }
    }

    /// The next eight bytes, zeros behind the end.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        match self.rest.first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => self.last.unbounded_shr(short_of(self.rest)),
        }
    }

    /// Skips up to the first byte that `ends` marks, which must mark zero; to the end of the input at most.
    #[inline(always)]
    pub(crate) fn skip(&mut self, ends: impl Fn(u64) -> u64) {
        loop {
            let marks = ends(self.word());
            if marks != 0 {
                // The padding is marked, so this never runs behind the end.
                return self.advance((marks.trailing_zeros() / 8) as usize);
            }
            self.advance(8);
        }
    }

    #[inline(always)]
    pub(crate) fn advance(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or(&[]);
    }

    /// Skips `expected` if it comes next.
    #[inline(always)]
    pub(crate) fn take<const N: usize>(&mut self, expected: &[u8; N]) -> bool {
        match self.rest.split_first_chunk::<N>() {
            Some((first, rest)) if first == expected => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// What was skipped since `start`, an earlier rest of the same input.
    #[inline(always)]
    pub(crate) fn since(&self, start: &'a [u8]) -> &'a [u8] {
        start.get(..start.len().wrapping_sub(self.rest.len())).unwrap_or(&[])
    }
}

/// The bits of a word that fewer than eight bytes leave empty.
#[expect(clippy::cast_possible_truncation, reason = "fewer than eight bytes are left")]
const fn short_of(bytes: &[u8]) -> u32 {
    64 - 8 * bytes.len() as u32
}

/// Whether a byte may stand in a token (RFC 9110, 5.6.2): a method or a field name.
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
        || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether a byte may stand in a field value: visible, space, tab or of the upper half.
pub(crate) const fn is_value(byte: u8) -> bool {
    byte == b'\t' || byte >= 0x20 && byte != 0x7f
}

/// `bytes` without spaces and tabs around them.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(marks: u64) -> usize {
        (marks.trailing_zeros() / 8) as usize
    }

    /// Every byte in every place behind bytes of the class: the first mark is where the table says.
    fn agrees(name: &str, ends: fn(u64) -> u64, inside: fn(u8) -> bool) {
        for filler in (0..=255u8).filter(|byte| inside(*byte)) {
            for byte in 0..=255u8 {
                for place in 0..8 {
                    let mut bytes = [filler; 8];
                    bytes[place] = byte;
                    let expected = if inside(byte) { 8 } else { place };
                    let found = first(ends(u64::from_le_bytes(bytes)));
                    assert_eq!(found, expected, "{name}: {byte:#x} at {place} in {filler:#x}");
                }
            }
        }
    }

    #[test]
    fn classes_agree_with_their_tables() {
        agrees("path", ends_path, |b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        agrees("query", ends_query, |b| b.is_ascii_graphic() && b != b'#');
        agrees("value", ends_value, |b| is_value(b) && b != b'\t');
        agrees("name", ends_name, |b| b.is_ascii_alphabetic() || b == b'-');
        agrees("host", ends_host, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        agrees("digits", ends_digits, |b| b.is_ascii_digit());
    }

    #[test]
    fn words_at_the_end_are_padded_with_zeros() {
        let input = b"abcdefghijklm";
        for start in 0..=input.len() {
            for end in start..=input.len() {
                let mut cursor = Cursor::new(&input[..end]);
                cursor.advance(start);
                let mut expected = [0; 8];
                let n = (end - start).min(8);
                expected[..n].copy_from_slice(&input[start..start + n]);
                assert_eq!(cursor.word().to_le_bytes(), expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn skip_stops_at_the_end_of_the_input() {
        for length in 0..20 {
            let input = &[b'a'; 20][..length];
            let mut cursor = Cursor::new(input);
            cursor.skip(ends_name);
            assert!(cursor.rest.is_empty());
            assert_eq!(cursor.since(input), input);
        }
    }

    #[test]
    fn trims_spaces_and_tabs() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b""), b"");
    }
}
