//! A limit of how many requests each peer may send.

use core::net::IpAddr;
use core::time::Duration;

use lightcone_core::{Address, Instant};

use crate::exchange::Done;
use crate::request::{Request, State};
use crate::respond::response::{Reply, Response};
use crate::status::Status;

use super::{Middleware, scramble};

/// Limits how many requests each peer may send, as [`Middleware`]: a request beyond the limit is refused with 429 and
/// `Retry-After`, and does not reach the handler.
///
/// Each peer has a token bucket: a request takes a token, and tokens come back at the rate of the limit, up to the
/// [burst](Self::burst). A refused request takes none. A peer is an IPv4 address, or the [/64
/// prefix](Self::ipv6_prefix) of an IPv6 address, which is what one subscriber has. An IPv4 address that is mapped into
/// IPv6 counts as IPv4. Peers without an IP address, on Unix-domain sockets, are not limited. Behind a proxy, all
/// requests come from the address of the proxy: limit them there.
///
/// The memory is fixed: `N` buckets of 24 bytes, in the server of each poller. **Each poller counts for itself**: a peer
/// with connections to all `n` pollers of an engine may send up to `n` times as many requests. Requests that the server
/// refuses because they are malformed are not counted.
///
/// A bucket is one of eight places in the table, found by a hash. If all eight are taken by other peers, the newcomer
/// takes the place whose bucket is full again, or that comes closest to it. So a full table refuses no one, and a peer
/// is refused for its own requests only: one that commands many addresses cannot lock out others, but it makes the
/// server forget requests of some peers, which may then send more. `N` should be several times the number of peers that
/// are active within the time that an empty bucket needs to fill.
///
/// ```
/// use core::time::Duration;
/// use lightcone_http::{Http, RateLimit};
///
/// // ten requests a second for each peer, and up to thirty at once
/// let limit = RateLimit::<1024>::new(10, Duration::from_secs(1)).burst(30).seed(0x5eed);
/// let server = Http::new().get("/", |_request, response| response.text("in")).wrap(limit);
/// # drop(server);
/// ```
#[derive(Clone, Debug)]
#[must_use = "wrap a server in it"]
pub struct RateLimit<const N: usize> {
    rate: Rate,
    seed: u64,
    ipv4_mask: u32,
    ipv6_mask: u128,
    buckets: [Bucket; N],
}

/// How many places a peer's bucket may be in.
const WAYS: usize = 8;

impl<const N: usize> RateLimit<N> {
    /// Creates a limit of `requests` in each `period`, which is also the burst.
    ///
    /// # Panics
    /// If `requests` is 0, or there are more than one million requests a second; if the period is longer than a day; or
    /// if `N` is 0.
    pub const fn new(requests: u32, period: Duration) -> Self {
        assert!(N > 0, "there are no buckets");
        assert!(period.as_secs() <= 24 * 60 * 60, "the period is longer than a day");
        assert!(requests > 0, "no request is allowed");
        #[expect(clippy::cast_possible_truncation, reason = "a day has fewer than 2^47 nanoseconds")]
        let nanos = period.as_nanos() as u64;
        assert!(nanos >= 1000 * requests as u64, "more than one million requests a second");
        let interval = nanos.div_ceil(requests as u64);
        Self {
            rate: Rate { interval, burst: requests },
            seed: 0,
            ipv4_mask: u32::MAX,
            ipv6_mask: u128::MAX << 64,
            buckets: [Bucket::UNUSED; N],
        }
    }

    /// Sets how many requests a peer may send at once, after a pause.
    ///
    /// # Panics
    /// If it is 0.
    pub const fn burst(mut self, requests: u32) -> Self {
        assert!(requests > 0, "no request is allowed");
        self.rate.burst = requests;
        self
    }

    /// Sets the seed of the hash. With a random one, a peer cannot predict which addresses share places.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how many bits of an IPv4 address count. Default: 32, each address is a peer.
    ///
    /// # Panics
    /// If there are more than 32.
    pub const fn ipv4_prefix(mut self, bits: u32) -> Self {
        assert!(bits <= 32, "an IPv4 address has 32 bits");
        self.ipv4_mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
        self
    }

    /// Sets how many bits of an IPv6 address count. Default: 64.
    ///
    /// # Panics
    /// If there are more than 128.
    pub const fn ipv6_prefix(mut self, bits: u32) -> Self {
        assert!(bits <= 128, "an IPv6 address has 128 bits");
        self.ipv6_mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        self
    }

    /// Counts a request. Returns the number of seconds to wait, at least 1, if it is beyond the limit.
    fn count(&mut self, peer: Address, now: Instant) -> Result<(), u64> {
        let (rate, now) = (self.rate, now.as_millis().saturating_mul(1_000_000));
        let Some(bucket) = self.peer(peer).and_then(|peer| self.bucket(peer)) else { return Ok(()) };
        rate.take(bucket, now).map_err(|wait| wait.div_ceil(1_000_000_000))
    }

    /// Returns what identifies the peer.
    fn peer(&self, address: Address) -> Option<PeerKey> {
        let Address::Inet(address) = address else { return None };
        let bits = match address.ip().to_canonical() {
            IpAddr::V4(ip) => 0xffff_u128 << 32 | u128::from(ip.to_bits() & self.ipv4_mask),
            IpAddr::V6(ip) => ip.to_bits() & self.ipv6_mask,
        };
        Some(PeerKey::new(bits))
    }

    /// Returns the bucket of a peer, which takes over the fullest place if it has none.
    fn bucket(&mut self, peer: PeerKey) -> Option<&mut Bucket> {
        let [high, low] = peer.0;
        let hash = scramble(scramble(high ^ self.seed) ^ low);
        let at = usize::try_from(hash % N as u64).unwrap_or(0);
        let (before, from) = self.buckets.split_at_mut(at);
        let places = from.iter_mut().chain(before).take(WAYS);
        let bucket = places.min_by_key(|bucket| (!bucket.belongs_to(peer), bucket.full_at))?;
        if !bucket.belongs_to(peer) {
            *bucket = Bucket { peer, full_at: 0 };
        }
        Some(bucket)
    }
}

impl<S: State, const N: usize> Middleware<S> for RateLimit<N> {
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        match self.count(request.peer(), request.now()) {
            Ok(()) => Ok(response),
            Err(seconds) => Err(response.header("Retry-After", seconds).refuse(Status::TOO_MANY_REQUESTS)),
        }
    }
}

/// A prefix of an address in two words, as they need a smaller alignment than one of their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PeerKey([u64; 2]);

impl PeerKey {
    #[expect(clippy::cast_possible_truncation, reason = "the halves")]
    const fn new(bits: u128) -> Self {
        Self([(bits >> 64) as u64, bits as u64])
    }
}

/// The token bucket of a peer. Its level follows from one time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    peer: PeerKey,
    /// When it is full again, in nanoseconds of the engine's clock.
    full_at: u64,
}

// the documentation states it
const _: () = assert!(size_of::<Bucket>() == 24);

impl Bucket {
    const UNUSED: Self = Self { peer: PeerKey::new(0), full_at: 0 };

    /// Returns whether it has counted requests of this peer. (That of an unused one is the address `::` as well.)
    fn belongs_to(&self, peer: PeerKey) -> bool {
        self.peer == peer && self.full_at > 0
    }
}

/// One token in each `interval` nanoseconds, up to `burst`.
#[derive(Clone, Copy, Debug)]
struct Rate {
    interval: u64,
    burst: u32,
}

impl Rate {
    /// Takes a token. If there is none, returns the number of nanoseconds until there is one.
    fn take(self, bucket: &mut Bucket, now: u64) -> Result<(), u64> {
        let after = bucket.full_at.max(now).saturating_add(self.interval);
        let latest = now.saturating_add(self.interval.saturating_mul(self.burst.into()));
        if after > latest {
            return Err(after - latest);
        }
        bucket.full_at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
