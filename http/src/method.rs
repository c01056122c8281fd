//! Request methods.

use core::fmt;

/// The method of a request. A request with any other method is refused with 501.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
#[non_exhaustive]
pub enum Method {
    /// Read a resource.
    Get,
    /// Like `GET`, but without the response body. Routes for `GET` also serve it.
    Head,
    /// Let the resource process the body.
    Post,
    /// Replace the resource with the body.
    Put,
    /// Remove the resource.
    Delete,
    /// Establish a tunnel. Always refused with 501: this is an origin server, not a proxy.
    Connect,
    /// Query the allowed methods. The server responds (204 with `Allow`) if no route does.
    Options,
    /// Echo the request.
    Trace,
    /// Change the resource as described by the body.
    Patch,
}

impl Method {
    /// All methods, in the order in which `Allow` lists them.
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

    /// The length of the longest name.
    pub(crate) const LENGTH_MAX: usize = 7;

    /// Returns the method with this name. Methods are case-sensitive.
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

    /// Returns the name, as in a request line.
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

    /// Returns the bit of this method in a set of methods.
    pub(crate) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for Method {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn names_and_methods_match() {
        for method in Method::ALL {
            assert_eq!(Method::from_bytes(method.as_str().as_bytes()), Some(method));
            assert_eq!(method.as_ref(), method.as_str());
            let padded = std::format!("{method:>9}");
            assert_eq!((padded.len(), padded.trim_start()), (9, method.as_str()));
        }
        assert_eq!(Method::from_bytes(b"get"), None);
        assert_eq!(Method::from_bytes(b""), None);
    }
}
