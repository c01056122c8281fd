//! The length of formatted text, and text in JSON.

use core::fmt::{self, Display, Write};

/// Returns the length of a formatted text; `None` if its `Display` fails.
pub(crate) fn displayed(text: &dyn Display) -> Option<u64> {
    let mut length = Length(0);
    write!(length, "{text}").is_ok().then_some(length.0)
}

/// Counts the bytes of a formatted text.
struct Length(u64);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

/// A text that is displayed as a JSON string: in quotes, with quotes, backslashes and control characters escaped.
///
/// ```
/// use lightcone_http::JsonString;
/// assert_eq!(JsonString("say \"hi\"\n").to_string(), r#""say \"hi\"\n""#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JsonString<'a>(pub &'a str);

impl Display for JsonString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for piece in self.0.split_inclusive(|char| escaped(char).is_some()) {
            let mut chars = piece.chars();
            match chars.next_back() {
                Some(last) if let Some(escape) = escaped(last) => {
                    f.write_str(chars.as_str())?;
                    match escape {
                        'u' => write!(f, "\\u{:04x}", u32::from(last))?,
                        escape => write!(f, "\\{escape}")?,
                    }
                }
                _ => f.write_str(piece)?,
            }
        }
        f.write_char('"')
    }
}

/// Returns the character that follows the backslash in the escape of `char`, if `char` has to be escaped.
const fn escaped(char: char) -> Option<char> {
    match char {
        '"' | '\\' => Some(char),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\0'..' ' => Some('u'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};

    use super::*;

    #[test]
    fn text_in_json() {
        let table = [
            ("", r#""""#),
            ("plain \u{e4}\u{1f600}/", "\"plain \u{e4}\u{1f600}/\""),
            ("\"", r#""\"""#),
            (r"a\b", r#""a\\b""#),
            ("\r\n\t", r#""\r\n\t""#),
            ("a\0b\u{1f}\u{7f}", "\"a\\u0000b\\u001f\u{7f}\""),
        ];
        for (text, expected) in table {
            assert_eq!(JsonString(text).to_string(), expected);
        }
        let all: String = ('\0'..' ').collect();
        assert!(JsonString(&all).to_string().bytes().all(|byte| byte >= b' '));
    }

    #[test]
    fn lengths() {
        struct Never;
        impl Display for Never {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        assert_eq!(displayed(&"\u{e4}1"), Some(3));
        assert_eq!(displayed(&Never), None);
    }
}
