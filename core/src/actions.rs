//! Carrying out the actions of a socket: the only loop over [`Action`].

use crate::connection::{Action, Connection};
use crate::error::ErrorKind;
use crate::handler::Context;
use crate::interest::Interest;

/// The maximum number of consecutive sends for one socket, before other sockets get a turn.
pub const SENDS_IN_A_ROW: usize = 4;

/// The maximum number of pieces of one vectored send.
pub const PIECES_MAX: usize = 16;

/// The result of a send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    /// This number of bytes was taken. If fewer than offered, the socket waits until it is writable.
    Bytes(usize),
    /// No byte was taken. The socket waits until it is writable.
    WouldBlock,
    /// The send completes later. The bytes stay in place until [`Connection::sent`] reports the result.
    InFlight,
    /// The connection failed.
    Failed(ErrorKind),
}

/// The calls on one connection that [`carry_out`] needs.
pub trait Calls {
    /// Sends bytes from the front of the queue, at least one.
    fn send(&mut self, bytes: &[u8]) -> Sent;

    /// Sends several pieces in one call, as if they were contiguous. The default sends them one by one.
    fn send_vectored(&mut self, pieces: &[&[u8]]) -> Sent {
        send_one_by_one(pieces, |piece| self.send(piece))
    }

    /// Sends the front of a connection's queue in one call. Returns the number of bytes offered and the result.
    ///
    /// The default offers up to [`PIECES_MAX`] pieces. Override it if a call takes more pieces, or if earlier
    /// calls have already taken the pieces at the front.
    #[inline(always)]
    fn send_from_queue<D>(&mut self, conn: &Connection<'_, '_, D>) -> (usize, Sent)
    where
        Self: Sized,
    {
        send_queued(conn, self)
    }

    /// Shuts down writing.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn shutdown_write(&mut self) -> Result<(), ErrorKind>;

    /// Cancels the send in flight. Returns the number of bytes sent, or `None` if [`Connection::sent`] reports it
    /// later. It may be called again before that.
    ///
    /// The default is for sends that are complete when their call returns.
    fn cancel_send(&mut self) -> Option<usize> {
        Some(0)
    }
}

/// The calls on one connection, and the context of its callbacks. They are one trait because the context
/// often borrows the same data as the calls.
pub trait ContextCalls<M>: Calls {
    /// Creates the context that is passed to a callback.
    fn context(&mut self) -> Context<'_, M>;
}

/// Sends pieces one by one, as if they were contiguous, until one of them is not taken completely.
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
            // report the bytes already sent; the next send runs into the same condition
            Sent::WouldBlock | Sent::Failed(_) | Sent::InFlight if total > 0 => break,
            first @ (Sent::WouldBlock | Sent::Failed(_) | Sent::InFlight) => return first,
        }
    }
    Sent::Bytes(total)
}

/// The state in which [`carry_out`] leaves a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "the socket stalls unless it is watched"]
pub enum Settled {
    /// The socket waits for this interest.
    Waiting(Interest),
    /// The socket has used up its [consecutive sends](SENDS_IN_A_ROW) and continues in the next turn.
    Deferred,
    /// The socket closes once the send in flight is cancelled.
    Cancelling,
    /// The socket has ended: close the connection. [`Shard::needs_reset`](crate::Shard::needs_reset) returns
    /// whether to reset it.
    Closed,
}

/// Carries out the actions of a socket, one after the other, until it has to wait.
///
/// `next` is the action returned by the connection's last run, and `sends` is the number of consecutive sends
/// before it. After each action, `run` delivers the pending events, by [`Connection::run`] with the handler or by
/// [`Connection::next_event`] and [`Connection::finish`], and returns the next action. The calls are passed to `run`
/// because the [`Context`] of a callback often borrows the same data.
///
/// A [`Poller`](crate::poller::Poller) calls this function. A program that drives a [`Shard`](crate::Shard)
/// itself calls it each time it has passed input to a connection:
///
/// ```
/// use lightcone_core::{Calls, ErrorKind, Handler, NoOutbox, Connection, Sent, Settled, carry_out};
/// use lightcone_core::{Context, Instant, PollerId};
///
/// /// A connection that takes all bytes immediately.
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
/// /// Delivers the pending events of a socket and carries out its actions.
/// fn run<H: Handler>(conn: &mut Connection<'_, '_, H::Data>, handler: &mut H, to: &mut Memory, now: Instant) -> Settled {
///     let mut run = |conn: &mut Connection<'_, '_, H::Data>, _: &mut Memory| {
///         let mut outbox = NoOutbox;
///         conn.run(handler, &mut Context::new(now, None, PollerId(0), &mut outbox))
///     };
///     let next = run(conn, to);
///     carry_out(conn, next, 0, to, run)
/// }
/// ```
pub fn carry_out<'p, 's, D, C: Calls>(
    conn: &mut Connection<'p, 's, D>,
    mut next: Action,
    mut sends: usize,
    calls: &mut C,
    mut run: impl FnMut(&mut Connection<'p, 's, D>, &mut C) -> Action,
) -> Settled {
    loop {
        match next {
            Action::Wait(interest) => return Settled::Waiting(interest),
            Action::Close => return Settled::Closed,
            Action::Send if sends >= SENDS_IN_A_ROW => {
                // fairness: a socket with a long queue must not starve the others
                conn.defer();
                return Settled::Deferred;
            }
            Action::Send => {
                sends += 1;
                let (offered, sent) = calls.send_from_queue(conn);
                report_sent(conn, offered, sent);
            }
            Action::ShutdownWrite => match calls.shutdown_write() {
                Ok(()) => conn.write_shut_down(),
                Err(kind) => conn.failed(kind),
            },
            Action::CancelSend => match calls.cancel_send() {
                Some(n) => conn.sent(n),
                // the driver runs the connection again when it reports the cancelled send by `Connection::sent`
                None => return Settled::Cancelling,
            },
        }
        next = run(conn, calls);
    }
}

/// Sends the front of the queue in one call. Returns the number of bytes offered and the result, to be passed
/// to [`report_sent`].
#[inline(always)]
pub fn send_queued<D>(conn: &Connection<'_, '_, D>, calls: &mut impl Calls) -> (usize, Sent) {
    match conn.output() {
        (piece, true) => (piece.len(), calls.send(piece)),
        _ => send_pieces(conn, calls),
    }
}

/// Reports the result of a send of `offered` bytes to its connection.
#[inline(always)]
pub fn report_sent<D>(conn: &mut Connection<'_, '_, D>, offered: usize, sent: Sent) {
    match sent {
        Sent::Bytes(n) => {
            conn.sent(n);
            if n < offered {
                conn.would_block();
            }
        }
        Sent::WouldBlock => conn.would_block(),
        Sent::InFlight => conn.send_started(),
        Sent::Failed(kind) => conn.failed(kind),
    }
}

#[inline(never)]
fn send_pieces<D>(conn: &Connection<'_, '_, D>, calls: &mut impl Calls) -> (usize, Sent) {
    let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
    let count = conn.outputs(&mut pieces);
    let pieces = pieces.get(..count).unwrap_or_default();
    debug_assert_eq!(pieces.first(), Some(&conn.output().0), "the two views of the queue agree");
    (pieces.iter().map(|piece| piece.len()).sum(), calls.send_vectored(pieces))
}
