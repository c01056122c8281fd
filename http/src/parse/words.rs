//! Finds the end of a run of bytes, eight bytes at a time.
//!
//! A *mark* is the high bit of a byte of a word. Each function below marks the bytes that end a run. Only the
//! **first** mark is exact: marks above it may be false, since a carry runs upwards. That suffices to find the end of
//! a run. No class of bytes in a run includes zero, so the zeros that pad the last word of the input end every run,
//! and "end of input" and "a byte that is not allowed here" share one path.
//!
//! The classes contain the bytes of nearly all requests, so that a few operations recognise them. The byte at which a
//! run stops may still belong to it ([`Cursor::also`]).

use super::scan::VERSION;

const HIGH: u64 = splat(0x80);
const ONES: u64 = splat(1);
const LOW_BITS: u64 = splat(0x7f);

/// Returns a word with the byte in all eight places.
pub(crate) const fn splat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// Marks ASCII bytes from `low` to `high`, without any false mark.
const fn range(word: u64, low: u8, high: u8) -> u64 {
    let bits = word & LOW_BITS;
    (bits + splat(0x80 - low)) & !(bits + splat(0x7f - high)) & !word & HIGH
}

/// Marks bytes below `n`, and bytes from 0x7f on: the sum marks 0x7f to 0xfe, the difference 0xff. (The differences are
/// exact up to the first byte that borrows, and that byte is marked.)
const fn outside(word: u64, n: u8) -> u64 {
    word.wrapping_sub(splat(n)) | word.wrapping_add(ONES)
}

/// Marks what ends the common part of a path: all except visible ASCII, and `!` to `%`, `?`. (A percent sign is
/// examined with the two digits that must follow it.)
pub(crate) const fn ends_path(word: u64) -> u64 {
    (outside(word, 0x26) | (word ^ splat(b'?')).wrapping_sub(ONES)) & HIGH
}

/// Marks what ends the common part of a query: all except visible ASCII, and `!` to `%`.
pub(crate) const fn ends_query(word: u64) -> u64 {
    outside(word, 0x26) & HIGH
}

/// Marks what ends the common part of a field value: all except visible ASCII and space.
pub(crate) const fn ends_value(word: u64) -> u64 {
    outside(word, 0x20) & HIGH
}

/// Marks what is not a letter or a hyphen. The rarer characters of a field name are checked with [`is_token`].
pub(crate) const fn ends_name(word: u64) -> u64 {
    (range(word | splat(0x20), b'a', b'z') | range(word, b'-', b'-')) ^ HIGH
}

/// Marks what is not a letter, a digit, a hyphen or a dot. Hosts with rarer characters take the slow path.
pub(crate) const fn ends_host(word: u64) -> u64 {
    // `outside` marks all except `-` to `z`. The others mark what is not allowed within that range: the gaps after the
    // digits and after the upper-case letters, and the slash.
    let between = word.wrapping_add(splat(0x80 - 0x3a)) & !word.wrapping_add(splat(0x80 - 0x41));
    let behind = word.wrapping_add(splat(0x80 - 0x5b)) & !word.wrapping_add(splat(0x80 - 0x61));
    let slash = (word ^ splat(b'/')).wrapping_sub(ONES);
    let outside = word.wrapping_sub(splat(b'-')) | word.wrapping_add(splat(0x80 - 0x7b)) | word;
    (between | behind | slash | outside) & HIGH
}

/// Marks what is not a digit.
pub(crate) const fn ends_digits(word: u64) -> u64 {
    (word.wrapping_sub(splat(b'0')) | word.wrapping_add(splat(0x80 - 0x3a)) | word) & HIGH
}

/// The rest of an input, read by words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
    /// The whole input. Words at its end are made from its last eight bytes, by a shift.
    input: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self { rest: input, input }
    }

    /// Returns the position of the cursor in the input.
    #[inline(always)]
    pub(crate) const fn at(&self) -> usize {
        self.input.len() - self.rest.len()
    }

    /// Returns the next eight bytes, padded with zeros at the end of the input.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        match self.rest.first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => last_word(self.input, self.rest),
        }
    }

    /// Skips to the first byte that `ends` marks, or to the end of the input. `ends` must mark zero.
    #[inline(always)]
    pub(crate) fn skip(&mut self, ends: impl Fn(u64) -> u64) {
        let mut rest = self.rest;
        while let Some((bytes, behind)) = rest.split_first_chunk::<8>() {
            let marks = ends(u64::from_le_bytes(*bytes));
            if marks != 0 {
                self.rest = behind_run(rest, marks);
                return;
            }
            rest = behind;
        }
        self.rest = skip_last(self.input, rest, ends);
    }

    /// Like [`skip`](Self::skip), but continues over the bytes for which `also` returns `true`, up to a percent sign
    /// that does not begin an encoded byte (RFC 3986, 2.1).
    #[inline(always)]
    pub(crate) fn skip_encoded(&mut self, ends: impl Fn(u64) -> u64 + Copy, also: impl Fn(u8) -> bool) {
        self.skip(ends);
        if self.rest.first().is_some_and(|byte| also(*byte)) {
            *self = self.skip_rarer(ends, also);
        }
    }

    /// Continues [`skip_encoded`](Self::skip_encoded) from a rarer byte: skips it and up to seven bytes after it one by
    /// one, as encoded bytes are often close together, and then the run that follows.
    #[inline(never)]
    fn skip_rarer(mut self, ends: impl Fn(u64) -> u64 + Copy, also: impl Fn(u8) -> bool) -> Self {
        let is_hex = |byte: u8| byte.is_ascii_hexdigit();
        loop {
            for _ in 0..8 {
                self.rest = match self.rest {
                    [b'%', high, low, rest @ ..] if is_hex(*high) && is_hex(*low) => rest,
                    [byte, rest @ ..] if *byte != b'%' && also(*byte) => rest,
                    _ => return self,
                };
            }
            self.skip(ends);
        }
    }

    /// Skips the bytes for which `also` returns `true`.
    #[inline(always)]
    pub(crate) fn also(&mut self, also: fn(u8) -> bool) {
        if self.rest.first().is_some_and(|byte| also(*byte)) {
            *self = self.skip_bytes(also);
        }
    }

    /// Skips the bytes for which `belongs` returns `true`, one by one.
    #[cold]
    #[inline(never)]
    pub(crate) fn skip_bytes(mut self, belongs: fn(u8) -> bool) -> Self {
        let length = self.rest.iter().take_while(|byte| belongs(**byte)).count();
        self.advance(length);
        self
    }

    /// Skips `n` bytes.
    #[inline(always)]
    pub(crate) fn advance(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or(&[]);
    }

    /// Skips `expected` if it comes next; returns whether it does.
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

    /// Skips the eleven bytes of `VERSION` if they come next. Compares two words that overlap, which is faster than the
    /// code that compilers generate for eleven bytes.
    #[inline(always)]
    pub(crate) fn take_version(&mut self) -> bool {
        let Some((first, rest)) = self.rest.split_first_chunk::<{ VERSION.len() }>() else { return false };
        let same = first.first_chunk::<8>() == VERSION.first_chunk()
            && first.last_chunk::<8>() == VERSION.last_chunk();
        if same {
            self.rest = rest;
        }
        same
    }

    /// Returns what was skipped since `start`, an earlier rest of the same input.
    #[inline(always)]
    pub(crate) const fn since(&self, start: &'a [u8]) -> &'a [u8] {
        start.split_at(start.len() - self.rest.len()).0
    }
}

/// Returns the run at the start of `input`, up to the first byte that `ends` marks, and a cursor after it. `ends` must
/// mark zero. Optimised for runs of fewer than sixteen bytes.
#[inline(always)]
pub(crate) fn split_run(input: &[u8], ends: impl Fn(u64) -> u64) -> (&[u8], Cursor<'_>) {
    if let Some((first, behind)) = input.split_first_chunk::<8>()
        && let Some(second) = behind.first_chunk::<8>()
    {
        let marks = ends(u64::from_le_bytes(*first));
        if marks != 0 {
            return split_at_mark(input, 0, marks);
        }
        let marks = ends(u64::from_le_bytes(*second));
        if marks != 0 {
            return split_at_mark(input, first.len(), marks);
        }
    }
    split_long_run(input, ends)
}

/// Splits at the first mark of the word that starts at `before`.
#[inline(always)]
fn split_at_mark(input: &[u8], before: usize, marks: u64) -> (&[u8], Cursor<'_>) {
    let length = before + (marks.trailing_zeros() / 8) as usize;
    let (run, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
    (run, Cursor { rest, input })
}

/// [`split_run`] for a run of any length: a loop, out of line, so that it takes no registers there.
#[inline(never)]
fn split_long_run(input: &[u8], ends: impl Fn(u64) -> u64) -> (&[u8], Cursor<'_>) {
    let mut cursor = Cursor::new(input);
    cursor.skip(ends);
    (cursor.since(input), cursor)
}

/// Returns what follows the run that the first mark ends.
#[inline(always)]
fn behind_run(run: &[u8], marks: u64) -> &[u8] {
    run.get((marks.trailing_zeros() / 8) as usize..).unwrap_or(&[])
}

/// Skips in less than a word. The padding is marked, so this never goes past the end.
#[cold]
#[inline(never)]
fn skip_last<'a>(input: &[u8], rest: &'a [u8], ends: impl Fn(u64) -> u64) -> &'a [u8] {
    behind_run(rest, ends(last_word(input, rest)))
}

/// Returns the last bytes of an input, fewer than eight, padded with zeros.
#[cold]
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "fewer than eight bytes are left")]
fn last_word(input: &[u8], rest: &[u8]) -> u64 {
    match input.last_chunk::<8>() {
        // The shift drops the bytes before the rest; all eight if the rest is empty.
        Some(bytes) => u64::from_le_bytes(*bytes).unbounded_shr(64 - 8 * rest.len() as u32),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Returns whether a byte is allowed in a token (RFC 9110, 5.6.2): a method or a field name.
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
        || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Returns whether a byte is allowed in a field value: visible ASCII, space, tab, or a byte from 0x80 on.
pub(crate) const fn is_value(byte: u8) -> bool {
    byte == b'\t' || byte >= 0x20 && byte != 0x7f
}

/// Returns whether a byte is allowed in a path: visible ASCII except `?` and `#`.
pub(crate) const fn is_path(byte: u8) -> bool {
    is_query(byte) && byte != b'?'
}

/// Returns whether a byte is allowed in a query: visible ASCII except `#`. (Browsers send more than RFC 3986 allows.)
pub(crate) const fn is_query(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Returns `bytes` without leading and trailing spaces and tabs.
pub(crate) const fn trim(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\t', inner @ ..] | [inner @ .., b' ' | b'\t'] = rest {
        rest = inner;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(marks: u64) -> usize {
        (marks.trailing_zeros() / 8) as usize
    }

    /// Checks every byte in every place, among bytes of the class: the first mark is where the table expects it.
    fn agrees(name: &str, ends: fn(u64) -> u64, inside: fn(u8) -> bool) {
        for filler in (0..=255u8).filter(|byte| inside(*byte)) {
            for (byte, place) in (0..=255u8).flat_map(|byte| (0..8).map(move |place| (byte, place))) {
                let mut bytes = [filler; 8];
                bytes[place] = byte;
                let expected = [place, 8][usize::from(inside(byte))];
                let found = first(ends(u64::from_le_bytes(bytes)));
                assert_eq!(found, expected, "{name}: {byte:#x} at {place} in {filler:#x}");
            }
        }
    }

    #[test]
    fn classes_agree_with_their_tables() {
        agrees("path", ends_path, |b| is_path(b) && b > b'%');
        agrees("query", ends_query, |b| is_query(b) && b > b'%');
        agrees("value", ends_value, |b| is_value(b) && b != b'\t' && b.is_ascii());
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
    fn a_run_is_split_from_what_follows_it() {
        for (run, behind) in (0..40).flat_map(|run| (0..20).map(move |behind| (run, behind))) {
            let mut input = [b'a'; 60];
            input[run] = b' ';
            input[run + 1..].fill(b'b'); // a byte that may belong to a run
            let input = &input[..run + behind];
            let (found, cursor) = split_run(input, ends_name);
            assert_eq!((found, cursor.rest), input.split_at(run), "{run} and {behind}");
            assert_eq!((cursor.at(), cursor.since(input)), (run, found));
        }
    }

    #[test]
    fn trims_spaces_and_tabs() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b""), b"");
    }
}
