//! Path patterns: `/users/{id}`, `/files/{*rest}`.

/// The parts of a path that routes compare first: most paths differ in length or in their first or last eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    length: usize,
    first: u64,
    last: u64,
}

impl Key {
    #[inline(always)]
    pub(crate) fn new(path: &[u8]) -> Self {
        let (first, last) = match (path.first_chunk::<8>(), path.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => (short(path), short(path)),
        };
        Self { length: path.len(), first, last }
    }
}

/// Returns a path of fewer than eight bytes as a word, with zeros in the upper bytes.
#[inline(always)]
fn short(path: &[u8]) -> u64 {
    let shift = |length: usize| 8 * (path.len() - length);
    match (path.first_chunk::<4>(), path.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift(4)
        }
        _ => match path {
            [] => 0,
            [one] => u64::from(*one),
            [one, two] => u64::from(u16::from_le_bytes([*one, *two])),
            [one, two, rest @ ..] => {
                let third = rest.first().map_or(0, |three| u64::from(*three) << 16);
                u64::from(u16::from_le_bytes([*one, *two])) | third
            }
        },
    }
}

/// A pattern, with values that make comparisons fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    pub(crate) text: &'static str,
    /// The key of the only path that matches; if the pattern has parameters, a key that no path has.
    key: Key,
    /// The literal bytes that all matching paths start with, up to eight, and a mask for them.
    start: u64,
    mask: u64,
    /// How specific the pattern is: two bits per segment, from the top; all bits set for a pattern without parameters.
    pub(crate) rank: u64,
}

const LITERAL: u64 = 3;
const PARAMETER: u64 = 2;
const REST: u64 = 1;
/// The rank of patterns without parameters, higher than any other.
pub(crate) const EXACT: u64 = u64::MAX;
/// The number of segments that a rank has room for. The last pair of bits stays free, so that no other rank is `EXACT`.
pub(crate) const SEGMENTS_MAX: usize = 31;

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Panics
    /// If the pattern is invalid: a mistake of the program, found when it starts.
    #[track_caller]
    pub(crate) fn new(text: &'static str) -> Self {
        assert!(text.starts_with('/') || text == "*", "a pattern must start with a slash: {text:?}");
        assert!(
            text.bytes().all(|byte| byte.is_ascii_graphic()),
            "a pattern must be visible ASCII: {text:?}"
        );
        assert!(
            segments(text).count() <= SEGMENTS_MAX,
            "a pattern has {SEGMENTS_MAX} segments at most: {text:?}"
        );
        for (at, (name, _)) in segments(text).filter_map(name).enumerate() {
            let twice = segments(text).filter_map(self::name).skip(at + 1).any(|(other, _)| other == name);
            assert!(!twice || name.is_empty(), "{{{name}}} occurs twice: {text:?}");
        }
        let mut rank = 0;
        let mut shift = u64::BITS;
        let mut plain = true;
        for segment in segments(text) {
            assert!(
                shift == u64::BITS || rank >> shift & 3 != REST,
                "{{*..}} is allowed at the end only: {text:?}"
            );
            shift -= 2;
            let kind = kind(segment);
            assert!(
                kind != LITERAL || !segment.contains(['{', '}']),
                "a parameter must be a whole segment: {text:?}"
            );
            plain &= kind == LITERAL;
            rank |= kind << shift;
        }
        let rank = if plain { EXACT } else { rank };
        let literal = text.bytes().take(8).take_while(|byte| *byte != b'{').count();
        let mask = [0, 1, 2, 3, 4, 5, 6, 7].map(|at| if at < literal { 0xff } else { 0 });
        let mask = u64::from_le_bytes(mask);
        let mut key = Key::new(text.as_bytes());
        let start = key.first & mask;
        if !plain {
            key.length = usize::MAX;
        }
        Self { text, key, start, mask, rank }
    }

    /// Returns the rank of the pattern below a prefix of `depth` literal segments. With them, it has at most
    /// [`SEGMENTS_MAX`] segments.
    pub(crate) fn rank_below(&self, depth: u8) -> u64 {
        if self.rank == EXACT || depth == 0 {
            return self.rank;
        }
        let bits = 2 * u32::from(depth);
        self.rank >> bits | u64::MAX << (u64::BITS - bits)
    }

    /// Returns whether the pattern has no parameters and equals `path`.
    #[inline(always)]
    pub(crate) fn is(&self, path: &[u8], key: &Key) -> bool {
        // The last bytes first, as the ends of paths differ more often than their starts. Up to 16 bytes, the two words
        // cover the whole path.
        self.key.last == key.last
            && self.key.first == key.first
            && self.key.length == key.length
            && (key.length <= 16 || self.text.as_bytes() == path)
    }

    /// Returns whether the pattern matches `path`.
    pub(crate) fn matches(&self, path: &[u8], key: &Key) -> bool {
        key.first & self.mask == self.start
            && if self.rank == EXACT { self.is(path, key) } else { walk(self.text, path, |_, _| ()) }
    }
}

/// The prefixes that a group is nested below, joined.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    text: [u8; Self::MAX],
    length: usize,
}

impl Prefix {
    /// The maximum number of bytes of a pattern with its prefixes.
    pub(crate) const MAX: usize = 256;
    pub(crate) const EMPTY: Self = Self { text: [0; Self::MAX], length: 0 };

    /// Returns this prefix with another one appended.
    ///
    /// # Panics
    /// If the result is too long.
    #[track_caller]
    pub(crate) fn with(&self, text: &str) -> Self {
        let mut prefix = *self;
        let end = self.length + text.len();
        let place = prefix.text.get_mut(self.length..end);
        assert!(place.is_some(), "a pattern with its prefixes has {} bytes at most: {text:?}", Self::MAX);
        if let Some(place) = place {
            place.copy_from_slice(text.as_bytes());
        }
        prefix.length = end;
        prefix
    }

    /// Appends as much of `text` as there is room for.
    pub(crate) fn push(&mut self, text: &str) {
        for (place, byte) in self.text.iter_mut().skip(self.length).zip(text.bytes()) {
            *place = byte;
            self.length += 1;
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.text.get(..self.length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
    }
}

/// Returns the number of segments of a pattern or a prefix.
pub(crate) fn segment_count(text: &str) -> usize {
    if text.is_empty() { 0 } else { segments(text).count() }
}

/// Returns whether two patterns, each below a prefix, match the same paths. A pattern may be empty.
pub(crate) fn is_equivalent(one: [&str; 2], other: [&str; 2]) -> bool {
    let all = |[prefix, pattern]: [&'_ str; 2]| pattern == "*" && prefix.is_empty();
    if all(one) || all(other) {
        return all(one) && all(other); // as segments, `*` would be equivalent to `/*`
    }
    let mut one = one.into_iter().filter(|text| !text.is_empty()).flat_map(segments);
    let mut other = other.into_iter().filter(|text| !text.is_empty()).flat_map(segments);
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if kind(one) == kind(other) => {
                if kind(one) == LITERAL && one != other {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn segments(text: &str) -> impl Iterator<Item = &str> {
    text.strip_prefix('/').unwrap_or(text).split('/')
}

fn kind(segment: &str) -> u64 {
    match name(segment) {
        Some((_, true)) => REST,
        Some((_, false)) => PARAMETER,
        None => LITERAL,
    }
}

/// Returns the name of a parameter, and whether it matches the rest of the path; `None` for a literal segment.
fn name(segment: &str) -> Option<(&str, bool)> {
    let inside = segment.strip_prefix('{')?.strip_suffix('}')?;
    match inside.strip_prefix('*') {
        Some(rest) => Some((rest, true)),
        None => Some((inside, false)),
    }
}

/// Calls `see` with each parameter and its value while the segments match; returns whether all do.
fn walk<'p>(pattern: &'static str, path: &'p [u8], mut see: impl FnMut(&'static str, &'p [u8])) -> bool {
    let Some(mut rest) = path.strip_prefix(b"/").map(Some) else { return false };
    for segment in segments(pattern) {
        let Some(left) = rest else { return false };
        let end = left.iter().position(|byte| *byte == b'/');
        let (value, after) = match end.and_then(|end| left.split_at_checked(end)) {
            Some((value, after)) => (value, after.get(1..)),
            None => (left, None),
        };
        match name(segment) {
            Some((name, true)) => {
                see(name, left);
                return !left.is_empty();
            }
            Some((name, false)) if !value.is_empty() => see(name, value),
            None if segment.as_bytes() == value => {}
            _ => return false,
        }
        rest = after;
    }
    rest.is_none()
}

/// Returns the value of a parameter in a path that matches the pattern.
pub(crate) fn parameter<'p>(pattern: &'static str, path: &'p [u8], lookup: &str) -> Option<&'p [u8]> {
    let mut found = None;
    walk(pattern, path, |name, value| {
        if name == lookup {
            found = Some(value);
        }
    });
    found
}

/// Returns whether a pattern has a parameter of this name.
pub(crate) fn has_parameter(pattern: &str, lookup: &str) -> bool {
    segments(pattern).filter_map(name).any(|(name, _)| name == lookup)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn matches(pattern: &'static str, path: &str) -> bool {
        Pattern::new(pattern).matches(path.as_bytes(), &Key::new(path.as_bytes()))
    }

    #[test]
    fn paths_and_patterns() {
        let table = [
            ("/", "/", true),
            ("/", "/a", false),
            ("/foo", "/foo", true),
            ("/foo", "/fop", false),
            ("/foo", "/foo/", false),
            ("/foo/", "/foo/", true),
            ("/exactly/sixteen", "/exactly/sixteen", true),
            ("/longer/than/sixteen", "/longer/than/sixteen", true),
            ("/longer/than/sixteen", "/longer/THAN/sixteen", false),
            ("/users/{id}", "/users/17", true),
            ("/users/{id}", "/users/", false),
            ("/users/{id}", "/users", false),
            ("/users/{id}", "/users/17/", false),
            ("/users/{id}", "/users/17/posts", false),
            ("/users/{id}/posts/{post}", "/users/17/posts/4", true),
            ("/{a}", "/", false),
            ("/{a}", "/x", true),
            ("/files/{*rest}", "/files/a", true),
            ("/files/{*rest}", "/files/a/b//c", true),
            ("/files/{*rest}", "/files/", false),
            ("/files/{*rest}", "/files", false),
            ("/{*rest}", "*", false),
            ("*", "*", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn words_of_short_paths() {
        let path = b"/abcdefghij";
        for length in 0..=path.len() {
            let mut expected = [0; 8];
            expected[..length.min(8)].copy_from_slice(&path[..length.min(8)]);
            assert_eq!(Key::new(&path[..length]).first.to_le_bytes(), expected, "{length}");
        }
    }

    #[test]
    fn parameters() {
        let text = |pattern, path: &'static str, name| {
            parameter(pattern, path.as_bytes(), name).map(|value| core::str::from_utf8(value).unwrap())
        };
        assert_eq!(text("/users/{id}/posts/{post}", "/users/17/posts/4", "id"), Some("17"));
        assert_eq!(text("/users/{id}/posts/{post}", "/users/17/posts/4", "post"), Some("4"));
        assert_eq!(text("/users/{id}", "/users/17", "name"), None);
        assert_eq!(text("/f/{*rest}", "/f/a/b", "rest"), Some("a/b"));
    }

    #[test]
    fn the_more_specific_ranks_higher() {
        let ordered = ["/{*all}", "/{a}/{*b}", "/{a}/{b}", "/{a}/b", "/a/{*b}", "/a/{b}", "/a/b"];
        for pair in ordered.windows(2) {
            assert!(Pattern::new(pair[0]).rank < Pattern::new(pair[1]).rank, "{pair:?}");
        }
    }

    #[test]
    fn a_prefix_ranks_as_literal_segments() {
        for inner in ["/{*all}", "/{a}/{*b}", "/{a}/b", "/a/{b}", "/a/b"] {
            for (depth, prefix) in [(0, ""), (1, "/x"), (2, "/x/y"), (3, "/x/y/z")] {
                let whole: &'static str = std::format!("{prefix}{inner}").leak();
                assert_eq!(Pattern::new(inner).rank_below(depth), Pattern::new(whole).rank, "{whole}");
            }
        }
        assert!(Pattern::new("/{a}").rank_below(30) < EXACT);
    }

    #[test]
    fn equivalent_patterns() {
        let table = [
            (["", "/u/{id}"], ["", "/u/{name}"], true),
            (["/u", "/{id}"], ["", "/u/{name}"], true),
            (["/u/v", ""], ["/u", "/v"], true),
            (["", "/f/{*a}"], ["/f", "/{*b}"], true),
            (["", "/f/{*a}"], ["", "/f/{a}"], false),
            (["", "/u/{id}"], ["", "/v/{id}"], false),
            (["", "/u"], ["", "/u/"], false),
            (["", "*"], ["", "*"], true),
            (["", "*"], ["", "/*"], false),
        ];
        for (one, other, expected) in table {
            assert_eq!(is_equivalent(one, other), expected, "{one:?} {other:?}");
            assert_eq!(is_equivalent(other, one), expected, "{other:?} {one:?}");
        }
    }

    #[test]
    #[should_panic(expected = "{a} occurs twice")]
    fn a_name_of_two_parameters() {
        Pattern::new("/{a}/b/{a}");
    }

    #[test]
    #[should_panic(expected = "at the end only")]
    fn a_rest_in_the_middle() {
        Pattern::new("/{*rest}/a");
    }

    #[test]
    #[should_panic(expected = "whole segment")]
    fn a_parameter_within_a_segment() {
        Pattern::new("/a{b}");
    }
}
