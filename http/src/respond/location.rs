//! Locations that do not leave the server.

use core::fmt::{self, Display};

/// A path on the server, with its query and fragment, that is safe as the location of a
/// [redirect](crate::Response::redirect): for one that comes from a request, such as the page to return to after a
/// login. Decode it before, if it is a parameter of a query or a form.
///
/// Otherwise a link to the server could lead to any other one: `//example.com` and `/\example.com` are both on another
/// host.
///
/// ```
/// use lightcone_http::{Http, LocalPath, form_decode};
///
/// let server = Http::new().post("/login", |request, response| {
///     let mut buffer = [0; 256];
///     let page = form_decode(request.query("page").unwrap_or("").as_bytes(), &mut buffer);
///     response.redirect(page.ok().and_then(LocalPath::new).unwrap_or(LocalPath::ROOT))
/// });
/// # drop(server);
/// assert!(LocalPath::new("/notes?page=2#end").is_some());
/// assert_eq!(LocalPath::new("//example.com/"), None);
/// assert_eq!(LocalPath::new("https://example.com/"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalPath<'a>(&'a str);

impl<'a> LocalPath<'a> {
    /// The path `/`.
    pub const ROOT: LocalPath<'static> = LocalPath("/");

    /// Checks a location: `None` unless it starts with one slash and consists of visible ASCII characters other than
    /// backslashes.
    pub const fn new(location: &'a str) -> Option<Self> {
        let [b'/', rest @ ..] = location.as_bytes() else { return None };
        if matches!(rest, [b'/', ..]) {
            return None;
        }
        if is_location(location.as_bytes()) { Some(Self(location)) } else { None }
    }

    /// Returns the text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Returns whether bytes may be a location: at least one, of visible ASCII characters other than backslashes. (Browsers
/// take a backslash as a slash, and skip tabs and line ends.)
pub(crate) const fn is_location(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        if !first.is_ascii_graphic() || *first == b'\\' {
            return false;
        }
        rest = after;
    }
    !bytes.is_empty()
}

impl Display for LocalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_on_the_server_and_elsewhere() {
        for good in ["/", "/a", "/a//b", "/a?b=//c", "/?next=http://c", "/%5c", "/a/../b", "/:80"] {
            assert_eq!(LocalPath::new(good).map(LocalPath::as_str), Some(good));
        }
        let bad =
            ["", "a", "//", "//a", "/\\a", "\\a", "/a\\b", "/\t/a", "/\n/a", "/\r/a", "/\0", "/ a", " /a"];
        for bad in bad.into_iter().chain(["http://a", "javascript:x", "/\u{e4}", "?a", "#a", "/\u{7f}"]) {
            assert_eq!(LocalPath::new(bad), None, "{bad:?}");
        }
    }
}
