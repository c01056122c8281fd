//! Prefixes of IP addresses.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// All IP addresses that begin with the same bits, such as `192.0.2.0/24` or `2001:db8::/32`.
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) counts as the IPv4 address, since a listener for
/// both families reports its IPv4 peers in that form.
///
/// ```
/// use lightcone_core::AddressPrefix;
///
/// let network: AddressPrefix = "192.0.2.0/24".parse()?;
/// assert!(network.contains([192, 0, 2, 7].into()) && !network.contains([192, 0, 3, 7].into()));
/// let host: AddressPrefix = "2001:db8::1".parse()?;
/// assert_eq!(host.to_string(), "2001:db8::1/128");
///
/// let error = "192.0.2.7/24".parse::<AddressPrefix>().unwrap_err();
/// assert_eq!(error.to_string(), "192.0.2.7 has bits beyond a prefix of 24; allowed: 192.0.2.0/24");
/// # Ok::<(), lightcone_core::PrefixError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressPrefix {
    /// INVARIANT: canonical, and without bits beyond the length.
    address: IpAddr,
    length: u8,
}

impl AddressPrefix {
    /// Creates the prefix of the first `length` bits of an address.
    ///
    /// # Errors
    ///
    /// If the length exceeds that of the address (32 bits for IPv4, 128 for IPv6), or the address has bits beyond it.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(PrefixError::Length { bits });
        }
        let first = masked(address, length);
        if first != address {
            return Err(PrefixError::Bits { address, first, length });
        }
        Ok(match (address, address.to_canonical()) {
            // the bits before an IPv4 address belong to the notation
            (IpAddr::V6(_), IpAddr::V4(v4)) if length >= 96 => {
                Self { address: v4.into(), length: length - 96 }
            }
            _ => Self { address, length },
        })
    }

    /// Returns whether the address begins with the prefix.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.length) == self.address
    }
}

/// Returns an address without the bits after the first `length`.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// A single address, or an address and a length as in `192.0.2.0/24`.
impl FromStr for AddressPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_not_an_address| PrefixError::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            // `parse` alone would accept a sign
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_too_long| PrefixError::Length { bits })?
            }
            Some(_) => return Err(PrefixError::Length { bits }),
        };
        Self::new(address, length)
    }
}

/// Formats as `address/length`.
impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The reason why a prefix is not valid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PrefixError {
    /// The text does not begin with an IP address.
    Address,
    /// The length is not a number, or exceeds that of the address.
    Length {
        /// The length of the address.
        bits: u8,
    },
    /// The address has bits beyond the length.
    Bits {
        /// The address.
        address: IpAddr,
        /// The address without these bits.
        first: IpAddr,
        /// The length.
        length: u8,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => {
                f.write_str("no IP address; allowed: an address such as 192.0.2.1, or 192.0.2.0/24")
            }
            Self::Length { bits } => {
                write!(f, "not the length of a prefix of this address; allowed: 0 to {bits}")
            }
            Self::Bits { address, first, length } => {
                write!(f, "{address} has bits beyond a prefix of {length}; allowed: {first}/{length}")
            }
        }
    }
}

impl core::error::Error for PrefixError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString as _;

    fn prefix(text: &str) -> AddressPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_contains_what_begins_with_it() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("128.0.0.0/1", "255.1.2.3", "127.255.255.255"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("::1", "::1", "::"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ] {
            assert!(prefix(text).contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!prefix(text).contains(outside.parse().unwrap()), "{outside} in {text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_prefix_is_named() {
        let error = |text: &str| text.parse::<AddressPrefix>().unwrap_err();
        for text in ["", "/8", "host", "10.0.0/8", "010.0.0.0/8"] {
            assert_eq!(error(text), PrefixError::Address, "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/256", "10.0.0.0/8/8"] {
            assert_eq!(error(text), PrefixError::Length { bits: 32 }, "{text}");
        }
        assert_eq!(error("::/129"), PrefixError::Length { bits: 128 });
        assert!(error("10.0.0.1/31").to_string().ends_with("allowed: 10.0.0.0/31"));
        assert!(error("::1/127").to_string().ends_with("allowed: ::/127"));
        assert_eq!(
            (prefix("10.0.0.0/32").to_string(), prefix("::/0").to_string()),
            ("10.0.0.0/32".into(), "::/0".into())
        );
    }
}
