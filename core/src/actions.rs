//! Carrying out what a socket's state machine asks of its driver: the one loop over [`Next`].

use crate::error::ErrorKind;
use crate::handler::Context;
use crate::interest::Interest;
use crate::port::{Next, Port};

/// The most sends for one socket in a row. Then the others come first.
pub const SENDS_IN_A_ROW: usize = 4;

/// The most pieces of one vectored send.
pub const PIECES_MAX: usize = 16;

/// What became of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// This number of bytes was taken. After fewer than were offered the socket waits until it is writable.
    Bytes(usize),
    /// No byte was taken. The socket waits until it is writable.
    WouldBlock,
    /// The send completes later. Until [`Port::sent`] says what became of it the bytes stay where they are.
    InFlight,
    /// The connection failed.
    Failed(ErrorKind),
}

/// The calls of one connection by which [`carry_out`] does what its socket needs.
pub trait Calls {
    /// Sends the front of the queue, which is not empty.
    fn send(&mut self, bytes: &[u8]) -> Sent;

    /// Sends several pieces in one call, as if they were one. The default sends them one by one.
    fn send_vectored(&mut self, pieces: &[&[u8]]) -> Sent {
        send_one_by_one(pieces, |piece| self.send(piece))
    }

    /// Sends the front of a port's queue, by one call. Returns how many bytes were offered, and what became of them.
    ///
    /// The default offers up to [`PIECES_MAX`] pieces. It is replaced where more of them are taken at once, or where
    /// those in front have been taken before.
    #[inline(always)]
    fn send_from_queue<D>(&mut self, port: &Port<'_, '_, D>) -> (usize, Sent)
    where
        Self: Sized,
    {
        send_queued(port, self)
    }

    /// Shuts down writing.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn shutdown_write(&mut self) -> Result<(), ErrorKind>;

    /// Cancels the send that is in flight. Returns how many bytes were sent; `None` if that is told later, by
    /// [`Port::sent`]. It may be called again before that.
    ///
    /// The default is for sends that are over when their call returns.
    fn cancel_send(&mut self) -> Option<usize> {
        Some(0)
    }
}

/// The calls of one connection, and the context of its callbacks, which often borrows what they borrow.
pub trait ContextCalls<M>: Calls {
    /// Creates what a callback is given beside its socket.
    fn context(&mut self) -> Context<'_, M>;
}

/// Sends pieces one by one, as if they were one, until one of them is not taken whole.
pub fn send_one_by_one(pieces: &[&[u8]], mut send: impl FnMut(&[u8]) -> Sent) -> Sent {
    let mut total = 0;
    for piece in pieces {
        match send(piece) {
            Sent::Bytes(n) => {
                total += n;
                if n < piece.len() {
                    break;
                }
            }
            // what went before is told first; the next send meets the same
            Sent::WouldBlock | Sent::Failed(_) | Sent::InFlight if total > 0 => break,
            first @ (Sent::WouldBlock | Sent::Failed(_) | Sent::InFlight) => return first,
        }
    }
    Sent::Bytes(total)
}

/// How [`carry_out`] leaves a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the socket stalls when it is not watched"]
pub enum Settled {
    /// It waits for this.
    Waiting(Interest),
    /// It has sent [as often as it may](SENDS_IN_A_ROW), and goes on in the next turn.
    Deferred,
    /// It is closed as soon as the send in flight has been cancelled.
    Cancelling,
    /// It is gone: close the connection.
    /// [`Shard::breaks_off`](crate::Shard::breaks_off) says how.
    Closed,
}

/// Carries out a socket's orders, one after the other, until there is nothing to do but to wait.
///
/// `next` is what the port's last run returned, and `sends` how many sends in a row came before it. After each order
/// `run` delivers what is due, by [`Port::run`] with the handler or by [`Port::next_event`] and [`Port::finish`], and
/// returns the next order. It is given the calls back, since the [`Context`] of a callback often borrows what they
/// borrow.
///
/// A [`Poller`](crate::poller::Poller) calls this. A program that drives a [`Shard`](crate::Shard) by itself does so
/// each time it has told a port something:
///
/// ```
/// use lightcone_core::{Calls, ErrorKind, Handler, NoOutbox, Port, Sent, Settled, carry_out};
/// use lightcone_core::{Context, Instant, PollerId};
///
/// /// A connection that takes everything at once.
/// struct Memory(Vec<u8>);
///
/// impl Calls for Memory {
///     fn send(&mut self, bytes: &[u8]) -> Sent {
///         self.0.extend_from_slice(bytes);
///         Sent::Bytes(bytes.len())
///     }
///
///     fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
///         Ok(())
///     }
/// }
///
/// /// Delivers what is due for a socket, and does what follows from it.
/// fn run<H: Handler>(port: &mut Port<'_, '_, H::Data>, handler: &mut H, to: &mut Memory, now: Instant) -> Settled {
///     let mut run = |port: &mut Port<'_, '_, H::Data>, _: &mut Memory| {
///         let mut outbox = NoOutbox;
///         port.run(handler, &mut Context::new(now, None, PollerId(0), &mut outbox))
///     };
///     let next = run(port, to);
///     carry_out(port, next, 0, to, run)
/// }
/// ```
pub fn carry_out<'p, 's, D, C: Calls>(
    port: &mut Port<'p, 's, D>,
    mut next: Next,
    mut sends: usize,
    calls: &mut C,
    mut run: impl FnMut(&mut Port<'p, 's, D>, &mut C) -> Next,
) -> Settled {
    loop {
        match next {
            Next::Wait(interest) => return Settled::Waiting(interest),
            Next::Close => return Settled::Closed,
            Next::Send if sends >= SENDS_IN_A_ROW => {
                port.put_off();
                return Settled::Deferred;
            }
            Next::Send => {
                sends += 1;
                let (offered, sent) = calls.send_from_queue(port);
                tell_sent(port, offered, sent);
            }
            Next::Shut => match calls.shutdown_write() {
                Ok(()) => port.shut(),
                Err(kind) => port.failed(kind),
            },
            Next::Cancel => match calls.cancel_send() {
                Some(n) => port.sent(n),
                None => return Settled::Cancelling,
            },
        }
        next = run(port, calls);
    }
}

/// Sends what is queued, by one call. Returns how many bytes were offered, and what became of them, which
/// [`tell_sent`] is to be told.
#[inline(always)]
pub fn send_queued<D>(port: &Port<'_, '_, D>, calls: &mut impl Calls) -> (usize, Sent) {
    match port.output() {
        (piece, true) => (piece.len(), calls.send(piece)),
        _ => send_pieces(port, calls),
    }
}

/// Tells a port what became of the bytes that were offered.
#[inline(always)]
pub fn tell_sent<D>(port: &mut Port<'_, '_, D>, offered: usize, sent: Sent) {
    match sent {
        Sent::Bytes(n) => {
            port.sent(n);
            if n < offered {
                port.blocked();
            }
        }
        Sent::WouldBlock => port.blocked(),
        Sent::InFlight => port.send_started(),
        Sent::Failed(kind) => port.failed(kind),
    }
}

#[inline(never)]
fn send_pieces<D>(port: &Port<'_, '_, D>, calls: &mut impl Calls) -> (usize, Sent) {
    let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
    let count = port.outputs(&mut pieces);
    let pieces = pieces.get(..count).unwrap_or_default();
    debug_assert_eq!(pieces.first(), Some(&port.output().0), "the two views of the queue agree");
    (pieces.iter().map(|piece| piece.len()).sum(), calls.send_vectored(pieces))
}
