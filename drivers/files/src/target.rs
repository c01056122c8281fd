//! From the path of a request to the path of a file.

use alloc::ffi::CString;

use lightcone_http::Status;

/// The decoded path of a file, relative to the folder that is served: segments with one slash between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    path: Vec<u8>,
    /// Whether the path of the request ends in a slash, or is empty: the path of a folder.
    pub(crate) is_folder: bool,
}

impl Target {
    /// Decodes and checks a path without its first slash.
    ///
    /// # Errors
    /// The status of the response, if the path can never be that of a file.
    pub(crate) fn new(raw: &str, hidden: bool) -> Result<Self, Status> {
        let (segments, is_folder) = match raw.strip_suffix('/') {
            _ if raw.is_empty() => return Ok(Self { path: Vec::new(), is_folder: true }),
            Some(segments) => (segments, true),
            None => (raw, false),
        };
        let mut path = Vec::with_capacity(raw.len());
        for segment in segments.split('/') {
            if !path.is_empty() {
                path.push(b'/');
            }
            let start = path.len();
            decode(segment.as_bytes(), &mut path)?;
            let decoded = path.get(start..).unwrap_or(&[]);
            // A slash that was escaped is not one between segments. A backslash is one on other systems.
            let plain = !decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0));
            let refused = matches!(decoded, b"" | b"." | b"..") || decoded.starts_with(b".") && !hidden;
            if !plain || refused {
                return Err(Status::NOT_FOUND);
            }
        }
        Ok(Self { path, is_folder })
    }

    /// Returns the path for the system, with `suffix` after it; `.` for the folder itself.
    pub(crate) fn with(&self, suffix: &str) -> CString {
        let mut path = self.path.clone();
        if path.is_empty() && !suffix.is_empty() {
            path.extend_from_slice(suffix.trim_start_matches('/').as_bytes());
        } else if path.is_empty() {
            path.push(b'.');
        } else {
            path.extend_from_slice(suffix.as_bytes());
        }
        CString::new(path).unwrap_or_default() // a path has no NUL: see `new`
    }

    /// Returns the decoded path.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.path
    }
}

/// Decodes the escapes of a segment, once.
///
/// # Errors
/// The status of the response, if an escape is malformed, or is of a letter or a digit. No client escapes these
/// (RFC 3986, 2.3), unless to avoid another route, since routes compare paths as received.
fn decode(segment: &[u8], to: &mut Vec<u8>) -> Result<(), Status> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or(Status::BAD_REQUEST);
    let mut rest = segment;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            to.push(*first);
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(Status::BAD_REQUEST) };
        let byte = u8::try_from(digit(high)? << 4 | digit(low)?).map_err(|_| Status::BAD_REQUEST)?;
        if byte.is_ascii_alphanumeric() {
            return Err(Status::NOT_FOUND);
        }
        to.push(byte);
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        let table: [(&str, &[u8], bool); 11] = [
            ("", b"", true),
            ("a", b"a", false),
            ("a/", b"a", true),
            ("a/b.c", b"a/b.c", false),
            ("a%2eb", b"a.b", false),
            ("100%25", b"100%", false),
            ("%2525", b"%25", false),
            ("%c3%A4/%ff", b"\xc3\xa4/\xff", false),
            ("a%20b+c", b"a b+c", false),
            ("a%0Ab", b"a\nb", false),
            ("%3a%40%5B%60%7b", b":@[`{", false), // beside the digits and the letters
        ];
        for (raw, path, is_folder) in table {
            let expected = Target { path: path.to_vec(), is_folder };
            assert_eq!(Target::new(raw, false), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn no_path_leaves_the_folder() {
        let never = [
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/../",
            "%2e%2e/a",
            ".%2E",
            "%2e",
            ".",
            "./a",
            "a/./b",
            "/",
            "//",
            "/a",
            "a//b",
            "a//",
            "%2f",
            "%2fetc",
            "a%2fb",
            "..%2fa",
            "a%2f..%2fb",
            "a%00",
            "%00",
            "a%00.html",
            "a\\b",
            "..\\a",
            "%5c",
            "..%5ca",
            "a%5C..%5Cb",
            "%61",
            "a/x%5ay",
            "%30",
            "%39",
            "%41",
            "%7a",
        ];
        for raw in never {
            for hidden in [false, true] {
                assert_eq!(Target::new(raw, hidden), Err(Status::NOT_FOUND), "{raw}");
            }
        }
        for raw in [".a", "a/.b", "%2ea", ".a/b", "...", "..a", ".a/"] {
            assert_eq!(Target::new(raw, false), Err(Status::NOT_FOUND), "{raw}");
            assert!(Target::new(raw, true).is_ok(), "{raw}");
        }
        for raw in ["%", "%2", "%zz", "%+1", "a%2", "a/%g0", "%-1"] {
            assert_eq!(Target::new(raw, true), Err(Status::BAD_REQUEST), "{raw}");
        }
    }

    #[test]
    fn paths_for_the_system() {
        let path = |raw, suffix| Target::new(raw, false).unwrap().with(suffix).into_bytes();
        assert_eq!(path("", ""), b".");
        assert_eq!(path("", "/index.html"), b"index.html");
        assert_eq!(path("a/", "/index.html"), b"a/index.html");
        assert_eq!(path("a", ".gz"), b"a.gz");
    }
}
