//! Bodies of HTML forms: the same pairs and parts for all cuts, and those that a plain search in the whole body finds.
//!
//! The first three bytes of an input select the kind of form, the cuts and the limit; the rest is the body.

use lightcone_http::{FormError, FormPairs, Multipart, MultipartEvent};

use super::tape::Tape;

const INPUT_MAX: usize = 2_000;
/// The longest pair, decoded.
const PAIR_MAX: usize = 24;
/// The longest head of a part.
const HEAD_MAX: usize = 100;
const TYPE: &[u8] = b"multipart/form-data; boundary=B";
/// The head that the plain reader knows.
const HEAD: &[u8] = b"Content-Disposition: form-data; name=a\r\n\r\n";

/// A name, and a value or a content.
type Entry = (Vec<u8>, Vec<u8>);

/// The fuzz target.
pub fn forms(data: &[u8]) {
    check(data, Care::Exact);
}

/// How the reader under test treats what it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// Correctly.
    Exact,
    /// Mutant: it drops content that looked like the start of a delimiter.
    Withheld,
    /// Mutant: it overlooks the end of a part.
    Merged,
    /// Mutant: it does not decode a plus sign.
    Plus,
    /// Mutant: it takes the end of a piece for the end of the body.
    Hasty,
}

/// Runs the target, optionally over a mutant.
pub fn check(data: &[u8], care: Care) {
    let mut tape = Tape::new(data);
    let (kind, cut, most) = (tape.below(2), 1 + tape.below(30), tape.below(8) as u16);
    let body = tape.take(INPUT_MAX);
    let read = if kind == 0 { pairs } else { parts };
    let whole = read(body, most, usize::MAX, care);
    for cut in [cut, 1] {
        assert_eq!(read(body, most, cut, care), whole, "in pieces of {cut}");
    }
    match if kind == 0 { plain_pairs(body, most) } else { plain_parts(body, most) } {
        Plain::Entries(entries) => assert_eq!(whole, Ok(entries)),
        Plain::Fault => assert!(whole.is_err(), "{whole:?}"),
        Plain::Unknown => {}
    }
}

fn pairs(body: &[u8], most: u16, cut: usize, care: Care) -> Result<Vec<Entry>, FormError> {
    let mut form = FormPairs::<PAIR_MAX>::new(most);
    let mut entries = Vec::new();
    for mut piece in body.chunks(cut.min(body.len().max(1))).chain([&[][..]]) {
        let ended = piece.is_empty() || care == Care::Hasty;
        while let (Some(pair), used) = form.next(piece, ended)? {
            let value =
                pair.value.iter().map(|byte| if care == Care::Plus && *byte == b' ' { b'+' } else { *byte });
            entries.push((pair.name.to_vec(), value.collect()));
            piece = &piece[used..];
        }
    }
    Ok(entries)
}

fn parts(body: &[u8], most: u16, cut: usize, care: Care) -> Result<Vec<Entry>, FormError> {
    let mut form = Multipart::<HEAD_MAX>::new(TYPE, most).expect("the type is valid");
    let (mut entries, mut open, mut over) = (Vec::<Entry>::new(), false, false);
    for mut piece in body.chunks(cut.min(body.len().max(1))).chain([&[][..]]) {
        let ended = piece.is_empty() || care == Care::Hasty;
        while let (Some(event), used) = form.next(piece, ended)? {
            assert!(!over, "an event after the end");
            match event {
                MultipartEvent::Part(_) if open && care == Care::Merged => {}
                MultipartEvent::Part(head) => {
                    assert!(!std::mem::replace(&mut open, true), "a part within a part");
                    entries.push((head.name().to_vec(), Vec::new()));
                }
                MultipartEvent::Data(data) if care == Care::Withheld && data.len() != used => {}
                MultipartEvent::Data(data) => {
                    assert!(open && !data.is_empty());
                    entries.last_mut().expect("a part is open").1.extend_from_slice(data);
                }
                MultipartEvent::PartEnd => open = care == Care::Merged,
                MultipartEvent::End => over = true,
            }
            piece = &piece[used..];
        }
    }
    assert!(over, "an incomplete form without an error");
    Ok(entries)
}

/// What a plain reader of a whole body finds.
enum Plain {
    Entries(Vec<Entry>),
    Fault,
    /// It cannot read this body.
    Unknown,
}

fn plain_pairs(body: &[u8], most: u16) -> Plain {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let entries: Option<Vec<Entry>> = pairs
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            Some((decoded(&pair[..at])?, decoded(pair.get(at + 1..).unwrap_or(&[]))?))
        })
        .collect();
    match entries {
        Some(entries)
            if entries.len() <= usize::from(most)
                && entries.iter().all(|(name, value)| name.len() + value.len() <= PAIR_MAX) =>
        {
            Plain::Entries(entries)
        }
        _ => Plain::Fault,
    }
}

/// Decodes what has been split already; `None` if a percent sign is without its digits.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut parts = text.split(|byte| *byte == b'%');
    let spaced = |text: &[u8]| -> Vec<u8> {
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
    };
    let mut bytes = spaced(parts.next()?);
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        bytes.extend(spaced(&part[2..]));
    }
    Some(bytes)
}

fn plain_parts(body: &[u8], most: u16) -> Plain {
    let delimiter = b"\r\n--B";
    let find = |text: &[u8]| text.windows(delimiter.len()).position(|window| window == delimiter);
    let text = [b"\r\n", body].concat();
    let Some(first) = find(&text) else { return Plain::Fault };
    let mut rest = &text[first + delimiter.len()..];
    let mut entries = Vec::new();
    while !rest.starts_with(b"--") {
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let Some(after) = rest[padding..].strip_prefix(b"\r\n") else { return Plain::Fault };
        if entries.len() == usize::from(most) {
            return Plain::Fault;
        }
        let Some(content) = after.strip_prefix(HEAD) else { return Plain::Unknown };
        let Some(end) = find(content) else { return Plain::Fault };
        entries.push((b"a".to_vec(), content[..end].to_vec()));
        rest = &content[end + delimiter.len()..];
    }
    Plain::Entries(entries)
}
