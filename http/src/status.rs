//! Status codes.

use core::fmt;

/// The status of a response: a number from 100 to 599, with its reason phrase.
///
/// ```
/// use lightcone_http::Status;
/// assert_eq!(Status::NOT_FOUND.code(), 404);
/// assert_eq!(Status::try_from(418)?, Status::TEAPOT);
/// assert_eq!(Status::TEAPOT.to_string(), "418 I'm a Teapot");
/// assert_eq!(Status::try_from(600).unwrap_err().to_string(), "600 is not a status; allowed: 100 to 599");
/// # Ok::<(), lightcone_http::InvalidStatus>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status(u16);

macro_rules! statuses {
    ($($code:literal $name:ident $phrase:literal)*) => {
        impl Status {
            $(#[doc = concat!("`", stringify!($code), " ", $phrase, "`")] pub const $name: Self = Self($code);)*

            /// Returns the reason phrase of the status line; empty if the code has no well-known one.
            pub const fn phrase(self) -> &'static str {
                match self.0 {
                    $($code => $phrase,)*
                    _ => "",
                }
            }
        }
    };
}

statuses! {
    100 CONTINUE "Continue"
    101 SWITCHING_PROTOCOLS "Switching Protocols"
    200 OK "OK"
    201 CREATED "Created"
    202 ACCEPTED "Accepted"
    204 NO_CONTENT "No Content"
    205 RESET_CONTENT "Reset Content"
    206 PARTIAL_CONTENT "Partial Content"
    301 MOVED_PERMANENTLY "Moved Permanently"
    302 FOUND "Found"
    303 SEE_OTHER "See Other"
    304 NOT_MODIFIED "Not Modified"
    307 TEMPORARY_REDIRECT "Temporary Redirect"
    308 PERMANENT_REDIRECT "Permanent Redirect"
    400 BAD_REQUEST "Bad Request"
    401 UNAUTHORIZED "Unauthorized"
    403 FORBIDDEN "Forbidden"
    404 NOT_FOUND "Not Found"
    405 METHOD_NOT_ALLOWED "Method Not Allowed"
    406 NOT_ACCEPTABLE "Not Acceptable"
    408 REQUEST_TIMEOUT "Request Timeout"
    409 CONFLICT "Conflict"
    410 GONE "Gone"
    411 LENGTH_REQUIRED "Length Required"
    412 PRECONDITION_FAILED "Precondition Failed"
    413 CONTENT_TOO_LARGE "Content Too Large"
    414 URI_TOO_LONG "URI Too Long"
    415 UNSUPPORTED_MEDIA_TYPE "Unsupported Media Type"
    416 RANGE_NOT_SATISFIABLE "Range Not Satisfiable"
    417 EXPECTATION_FAILED "Expectation Failed"
    418 TEAPOT "I'm a Teapot"
    421 MISDIRECTED_REQUEST "Misdirected Request"
    422 UNPROCESSABLE_CONTENT "Unprocessable Content"
    426 UPGRADE_REQUIRED "Upgrade Required"
    428 PRECONDITION_REQUIRED "Precondition Required"
    429 TOO_MANY_REQUESTS "Too Many Requests"
    431 FIELDS_TOO_LARGE "Request Header Fields Too Large"
    499 CLIENT_CLOSED_REQUEST "Client Closed Request"
    500 INTERNAL_SERVER_ERROR "Internal Server Error"
    501 NOT_IMPLEMENTED "Not Implemented"
    502 BAD_GATEWAY "Bad Gateway"
    503 SERVICE_UNAVAILABLE "Service Unavailable"
    504 GATEWAY_TIMEOUT "Gateway Timeout"
    505 VERSION_NOT_SUPPORTED "HTTP Version Not Supported"
}

impl Status {
    /// Creates a status from a number in one of the classes of HTTP, 100 to 599; `None` for other numbers.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            100..=599 => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Returns whether this is an interim status (1xx), which a final response follows.
    pub const fn is_interim(self) -> bool {
        self.0 < 200
    }

    /// Returns whether a response with this status may have a body: all but 1xx, 204 and 304.
    pub const fn has_body(self) -> bool {
        !self.is_interim() && self.0 != 204 && self.0 != 304
    }
}

/// Allows `response.status(404)`.
impl TryFrom<u16> for Status {
    type Error = InvalidStatus;

    fn try_from(code: u16) -> Result<Self, InvalidStatus> {
        Self::new(code).ok_or(InvalidStatus { code })
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.code()
    }
}

/// The error for a number that is not a [`Status`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InvalidStatus {
    code: u16,
}

impl InvalidStatus {
    /// Returns the number.
    pub const fn code(self) -> u16 {
        self.code
    }
}

impl fmt::Display for InvalidStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a status; allowed: 100 to 599", self.code)
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for InvalidStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Formats like `Display`.
#[cfg(feature = "defmt")]
impl defmt::Format for InvalidStatus {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=u16} is not a status; allowed: 100 to 599", self.code);
    }
}

impl core::error::Error for InvalidStatus {}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.phrase())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_classes_that_http_knows() {
        assert_eq!(Status::new(99), None);
        assert_eq!(Status::new(600), None);
        assert_eq!(Status::new(599).map(Status::code), Some(599));
        assert_eq!(Status::new(599).map(Status::phrase), Some(""));
        for code in [0, 99, 100, 404, 599, 600, u16::MAX] {
            assert_eq!(Status::try_from(code).ok(), Status::new(code), "{code}");
            assert_eq!(Status::try_from(code).map_or_else(InvalidStatus::code, u16::from), code);
        }
    }

    #[test]
    fn bodiless_statuses() {
        for (status, body) in
            [(101, false), (200, true), (204, false), (205, true), (304, false), (404, true)]
        {
            assert_eq!(Status::new(status).map(Status::has_body), Some(body), "{status}");
        }
    }
}
