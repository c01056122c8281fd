//! A handler that limits the connections of each peer.

use core::ops::Deref;

use crate::address::Address;
use crate::handler::{Context, Event, Handler, Origin, PollerEvent};
use crate::socket::Socket;
use crate::sync::{PeerLimits, PeerPermit, PeerPlace};

/// A handler that wraps another one and rejects the connections of a peer that has too many.
///
/// `R` is a pointer to the [`PeerLimits`] that all pollers share: an `Arc`, or a reference to a static. With `None`, no
/// connection is rejected. Only accepted sockets with an IP address count, from `admit` until their slot is free again.
/// A rejected connection is counted in [`Stats::rejected`](crate::Stats::rejected) and [`PeerLimits::refused`]; on
/// worker threads and inside of a [`ProxyProtocol`](crate::proxy_protocol::ProxyProtocol), where the decision comes
/// after the poller has admitted the socket, only in the latter.
///
/// ```
/// use lightcone_core::LimitPeers;
/// use lightcone_core::sync::{PeerLimits, PeerPlace};
/// # use lightcone_core::{Address, Handler, Origin};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type Data = ();
/// #     type Message = core::convert::Infallible;
/// #     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
/// #         Some(())
/// #     }
/// # }
///
/// /// At most four connections of each peer, in 512 bytes on a 64-bit machine.
/// static LIMITS: PeerLimits<[PeerPlace; 64]> = PeerLimits::new([const { PeerPlace::new() }; 64], 4, 0);
///
/// let handler = LimitPeers::new(Echo, Some(&LIMITS)); // use it instead of `Echo`
/// # drop(handler);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LimitPeers<H, R> {
    inner: H,
    limits: Option<R>,
}

impl<H, R> LimitPeers<H, R> {
    /// Wraps a handler.
    pub const fn new(inner: H, limits: Option<R>) -> Self {
        Self { inner, limits }
    }

    /// Returns the wrapped handler.
    pub const fn inner(&self) -> &H {
        &self.inner
    }

    /// Returns the wrapped handler, to be modified.
    pub const fn inner_mut(&mut self) -> &mut H {
        &mut self.inner
    }
}

/// The user data of a socket of [`LimitPeers`]: that of the wrapped handler, and the permit.
#[derive(Debug)]
pub struct LimitedPeer<D, R: Deref<Target = PeerLimits<S>>, S: AsRef<[PeerPlace]>> {
    inner: D,
    _permit: Option<PeerPermit<R, S>>,
}

impl<H, R, S> Handler for LimitPeers<H, R>
where
    H: Handler,
    R: Deref<Target = PeerLimits<S>> + Clone,
    S: AsRef<[PeerPlace]>,
{
    type Data = LimitedPeer<H::Data, R, S>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        let permit = match (&self.limits, origin, peer) {
            (Some(limits), Origin::Accepted { .. }, Address::Inet(peer)) => {
                Some(PeerPermit::acquire(limits.clone(), peer.ip())?)
            }
            (_, Origin::Accepted { .. } | Origin::Connecting { .. }, _) => None,
        };
        Some(LimitedPeer { inner: self.inner.admit(origin, peer)?, _permit: permit })
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<H::Message>,
        cx: &mut Context<'_, H::Message>,
    ) {
        let Socket { stream, data } = socket;
        self.inner.event(&mut stream.with(&mut data.inner), event, cx);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, H::Message>) {
        self.inner.poller_event(event, cx);
    }
}
