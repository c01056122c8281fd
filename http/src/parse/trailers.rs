//! Trailer fields: those after the last chunk of a chunked body (RFC 9110, 6.5).

use super::head::Fields;

/// Fields that must not be in a trailer section (RFC 9110, 6.5.1): they frame or route the message, ask for
/// credentials or supply them, are conditions or controls, or determine how the content is processed. A recipient has
/// acted on the head by the time that they arrive.
const FORBIDDEN: [&str; 49] = [
    "accept-ranges",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-http-method-override",
    "x-real-ip",
    "x-request-id",
];

/// Returns whether a field must not be in a trailer section.
pub(crate) fn is_forbidden(name: &[u8]) -> bool {
    FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

/// The trailer fields of a chunked body, without those that must not be there.
///
/// They are apart from the fields of the head and never merged into them: a recipient has acted on the head by the time
/// that they arrive. Fields that frame or route a message, supply credentials, set conditions, or determine how the
/// content is processed are left out (RFC 9110, section 6.5.1), such as `Content-Length`, `Transfer-Encoding`, `Host`
/// and `Authorization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trailers<'a>(&'a [u8]);

impl<'a> Trailers<'a> {
    /// No trailer fields.
    pub const NONE: Self = Self(&[]);

    /// Creates the trailer fields of a section that was checked: field lines and an empty line.
    pub(crate) const fn of(section: &'a [u8]) -> Self {
        Self(section)
    }

    /// Returns the value of the first field with this name, without the white space around it. The case of names is
    /// ignored.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Like [`field`](Self::field), for a value that is text. Also `None` if the value is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Returns the fields in the order received.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        Fields::of(self.0).filter(|(name, _)| !is_forbidden(name))
    }

    /// Returns whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields().next().is_none()
    }

    /// Returns the section as received, including the final empty line and the fields that are left out.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn forbidden_fields_are_left_out_whatever_their_case() {
        let section = b"Digest: a\r\nHOST: b\r\ncontent-length: 5\r\nTransfer-Encoding: chunked\r\n\
            authorization: x\r\nX-Sum: \t7 \r\n\r\n";
        let trailers = Trailers::of(section);
        let fields: Vec<_> = trailers.fields().collect();
        assert_eq!(fields, [(&b"Digest"[..], &b"a"[..]), (b"X-Sum", b"7")]);
        assert_eq!((trailers.text("x-sum"), trailers.text("host")), (Some("7"), None));
        assert!(!trailers.is_empty() && Trailers::NONE.is_empty());
        assert!(Trailers::of(b"Host: a\r\n\r\n").is_empty());
        assert_eq!(trailers.as_bytes(), section);
    }

    #[test]
    fn the_list_is_in_order_and_in_lower_case() {
        assert!(FORBIDDEN.is_sorted());
        assert!(FORBIDDEN.iter().all(|name| name.bytes().all(|byte| !byte.is_ascii_uppercase())));
    }
}
