//! The event contract as a program.

use crate::address::Address;
use crate::handler::{Context, Event, Handler, Origin};
use crate::socket::Socket;

/// A handler that wraps a handler and panics when the engine breaks the event contract that
/// [`Handler`] states. For tests of drivers and of applications.
///
/// ```
/// use lightcone_core::{Address, ContractChecker, Handler, Origin};
///
/// struct Quiet;
/// impl Handler for Quiet {
///     type Data = ();
///     type Message = core::convert::Infallible;
///     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
///         Some(())
///     }
/// }
///
/// let handler = ContractChecker::new(Quiet); // use it in place of `Quiet`
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ContractChecker<H> {
    inner: H,
    /// Sockets that were admitted and have not had their last event.
    alive: isize,
    inside: bool,
}

/// What the checker keeps for each socket, beside the wrapped handler's data.
#[derive(Clone, Copy, Debug)]
pub struct Checked<D> {
    inner: D,
    connecting: bool,
    opened: bool,
    ended: bool,
    peer_closed: bool,
    /// `close`, `linger` or `abort` was called in an earlier callback.
    closing: bool,
    /// `writable` may come.
    armed: bool,
    /// Bytes were queued, and `sent` has not come since.
    unsent: bool,
    /// Unconsumed bytes after the last callback.
    unread: usize,
    deadline: bool,
}

/// What a socket is like when an event comes.
struct Now {
    unread: usize,
    queued: usize,
    deadline: bool,
}

impl<H> ContractChecker<H> {
    /// Wraps a handler.
    pub const fn new(inner: H) -> Self {
        Self { inner, alive: 0, inside: false }
    }

    /// The wrapped handler.
    pub const fn inner(&self) -> &H {
        &self.inner
    }

    /// The wrapped handler.
    pub const fn inner_mut(&mut self) -> &mut H {
        &mut self.inner
    }

    /// How many admitted sockets have not had their last event; 0 at the end, or one was lost. Of checkers that share
    /// sockets, as those of several workers do, one admits what another sees the end of: then their sum is 0.
    #[must_use]
    pub const fn alive(&self) -> isize {
        self.alive
    }
}

impl<D> Checked<D> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a rule names the events it is about")]
    fn before<M>(&self, event: &Event<M>, now: &Now) {
        let Now { unread, queued, deadline: has_deadline } = *now;
        let name = event.name();
        assert!(!self.ended, "{name} after the last event");
        match event {
            Event::Open => assert!(!self.opened, "open twice"),
            Event::Refused(_) => {
                assert!(self.connecting, "refused for an accepted socket");
                assert!(!self.opened, "refused after open");
            }
            _ => assert!(self.opened, "{name} before open"),
        }
        if !matches!(event, Event::Close(_)) {
            assert!(!self.closing, "{name} after close was asked for");
            assert!(unread >= self.unread, "{name} without the {} bytes that were left", self.unread);
        }
        let last = matches!(event, Event::Refused(_) | Event::Close(_));
        assert!(last || unread >= self.unread, "unconsumed bytes are missing in {name}");
        match event {
            Event::Receive => {
                assert!(!self.peer_closed, "receive after peer_closed");
                assert!(unread > self.unread, "receive without new bytes");
            }
            Event::PeerClosed => assert!(!self.peer_closed, "peer_closed twice"),
            Event::Sent => {
                assert!(self.unsent, "sent with nothing queued before");
                assert!(queued == 0, "sent with {queued} bytes still queued");
            }
            Event::Writable => assert!(self.armed, "writable without a refused send before"),
            Event::Timeout => {
                assert!(self.deadline, "timeout without a deadline");
                assert!(!has_deadline, "the deadline is still set in its timeout");
            }
            _ => {}
        }
    }
}

/// A callback runs; over also when it panics, as engines that catch that go on with other sockets.
struct Inside<'a>(&'a mut bool);

impl<'a> Inside<'a> {
    fn enter(inside: &'a mut bool) -> Self {
        *inside = true;
        Self(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        *self.0 = false;
    }
}

impl<H: Handler> Handler for ContractChecker<H> {
    type Data = Checked<H::Data>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        assert!(!self.inside, "admit within a callback");
        let inner = self.inner.admit(origin, peer)?;
        self.alive += 1;
        Some(Checked {
            inner,
            connecting: matches!(origin, Origin::Connecting { .. }),
            opened: false,
            ended: false,
            peer_closed: false,
            closing: false,
            armed: false,
            unsent: false,
            unread: 0,
            deadline: false,
        })
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a rule names the events it is about")]
    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        assert!(!self.inside, "{} within a callback", event.name());
        let (unread, queued) = (socket.bytes().len(), socket.queued());
        let now = Now { unread, queued, deadline: socket.deadline().is_some() };
        socket.data.before(&event, &now);
        match event {
            Event::Open => socket.data.opened = true,
            Event::PeerClosed => socket.data.peer_closed = true,
            Event::Writable => socket.data.armed = false,
            Event::Sent => socket.data.unsent = false,
            Event::Close(_) | Event::Refused(_) => {
                socket.data.ended = true;
                self.alive -= 1;
            }
            _ => {}
        }
        {
            let _inside = Inside::enter(&mut self.inside);
            self.inner.event(&mut socket.project(|checked| &mut checked.inner), event, cx);
        }
        let (closing, armed) = (socket.closing(), socket.stream.owes_writable());
        let (queued, unread) = (socket.queued(), socket.bytes().len());
        let deadline = socket.deadline().is_some();
        let data = &mut *socket.data;
        data.closing = closing;
        data.armed = armed;
        data.unsent |= queued > 0;
        data.unread = unread;
        data.deadline = deadline;
    }
}
