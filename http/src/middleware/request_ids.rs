//! Identities of requests, which tie together what several programs log of one request.

use crate::exchange::Done;
use crate::request::{Request, State};
use crate::respond::fields::Headers;
use crate::respond::response::{Reply, Response};
use crate::respond::validators::only;
use crate::status::Status;

use super::{RequestMiddleware, scramble};

/// Identifies each request, as [`RequestMiddleware`]: by its `X-Request-Id` field, or by an identity of its own. Each
/// response has the identity in the same field, except the 500 after a panic and the refusal of a head that cannot be
/// read.
///
/// A received identity is used if it consists of 1 to 36 letters, digits, hyphens, dots and underscores, so a peer can
/// neither add lines to a log nor fill it. Otherwise the identity has 16 hexadecimal digits: a counter, scrambled,
/// which does not repeat. Servers and pollers need different seeds, at least `2^32` apart.
///
/// The closure gets the identity before the handler runs, and may store it in the state, for the handler and the
/// [log](crate::State::log) of a request that is answered at once.
///
/// ```
/// use lightcone_http::{Http, RequestIds, State};
///
/// struct App { current: String }
///
/// impl State for App {
///     type Message = core::convert::Infallible;
/// }
///
/// let ids = RequestIds::new(1 << 32, |app: &mut App, id: &str| app.current = id.to_owned());
/// let server = Http::with(App { current: String::new() })
///     .get("/", |request, response| response.text(&request.state.current))
///     .wrap_each(ids);
/// # drop(server);
/// ```
#[derive(Clone, Debug)]
#[must_use = "wrap a server in it"]
pub struct RequestIds<F> {
    next: u64,
    notify: F,
}

/// The identity of a request that [`RequestIds`] keeps until the response is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelationId {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl CorrelationId {
    /// The maximum length of an identity.
    pub const MAX: usize = 36;

    /// Takes over a received identity; `None` if it is not acceptable.
    fn received(id: &[u8]) -> Option<Self> {
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        let length = u8::try_from(id.len()).ok()?;
        (length > 0 && id.iter().all(valid)).then_some(Self { bytes, length })
    }

    /// Formats the identity of the request with this number.
    fn numbered(number: u64) -> Self {
        let mixed = scramble(number);
        let mut bytes = [0; Self::MAX];
        for (digit, shift) in bytes.iter_mut().zip((0..64).step_by(4).rev()) {
            let value = (mixed >> shift & 15) as usize;
            *digit = b"0123456789abcdef".get(value).copied().unwrap_or(b'0');
        }
        Self { bytes, length: 16 }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.bytes.split_at(self.length.into()).0).unwrap_or("")
    }
}

impl<F> RequestIds<F> {
    /// Creates identities from a seed; `notify` gets the state and the identity of each request.
    pub const fn new(seed: u64, notify: F) -> Self {
        Self { next: seed, notify }
    }
}

impl<S: State, F: FnMut(&mut S, &str)> RequestMiddleware<S> for RequestIds<F> {
    type Kept = CorrelationId;

    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<(Response<'r>, CorrelationId), Reply<Done>> {
        let id = only(request.head, "x-request-id").and_then(CorrelationId::received).unwrap_or_else(|| {
            self.next = self.next.wrapping_add(1);
            CorrelationId::numbered(self.next)
        });
        (self.notify)(request.state, id.as_str());
        Ok((response, id))
    }

    fn head(&self, id: &CorrelationId, _: Status, headers: &mut Headers<'_>) {
        headers.add("X-Request-Id", id.as_str());
    }
}
