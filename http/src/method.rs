//! Request methods.

use core::fmt;

/// The method of a request. One that is not listed here is answered with 501.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Method {
    /// Read a resource.
    Get,
    /// Like `GET`, but without the body: routes for `GET` answer it too.
    Head,
    /// Let the resource process the body.
    Post,
    /// Replace the resource by the body.
    Put,
    /// Remove the resource.
    Delete,
    /// Ask for a tunnel. Always refused with 501: this is an origin server, not a proxy.
    Connect,
    /// Ask what is possible. Answered by itself (204 with `Allow`) where no route does.
    Options,
    /// Ask for the request to be echoed.
    Trace,
    /// Change the resource as the body says.
    Patch,
}

impl Method {
    /// All of them, in the order in which `Allow` names them.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Options,
        Self::Trace,
        Self::Patch,
    ];

    /// Bytes of the longest name.
    pub(crate) const LENGTH_MAX: usize = 7;

    /// The method with this name. Methods are case-sensitive.
    pub const fn from_bytes(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => return None,
        })
    }

    /// The name, as it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }

    /// The bit of this method in a set of methods.
    pub(crate) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_methods_match() {
        for method in Method::ALL {
            assert_eq!(Method::from_bytes(method.as_str().as_bytes()), Some(method));
        }
        assert_eq!(Method::from_bytes(b"get"), None);
        assert_eq!(Method::from_bytes(b""), None);
    }
}
