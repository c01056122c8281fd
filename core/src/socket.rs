//! The view of a socket in a callback.

use crate::address::{Address, PackedAddress};
use crate::buffer::{Input, Output, PoolMut, consumed_too_much};
use crate::error::Full;
use crate::slot::{ControlBlock, Flags, Pending, Requests};
use crate::time::Instant;
use crate::token::Token;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

/// A callback's view of a socket: its [`Stream`] and the user data.
///
/// Both fields are public so that they can be borrowed at the same time:
/// `let Socket { stream, data } = socket;`
///
/// ```
/// use lightcone_core::Socket;
///
/// /// Counts the bytes that have arrived, and closes the socket after the end of a line.
/// fn count(socket: &mut Socket<'_, usize>) {
///     let (mut input, _, total) = socket.split();
///     let arrived = input.bytes().len();
///     let is_line = input.bytes().ends_with(b"\n");
///     *total += arrived;
///     input.consume(arrived);
///     if is_line {
///         socket.close(); // a method of the stream
///     }
/// }
/// ```
pub struct Socket<'a, D> {
    /// Everything except the user data: buffers, closing, timers.
    pub stream: Stream<'a>,
    /// The user data, created by `admit`.
    pub data: &'a mut D,
}

impl<'a, D> Socket<'a, D> {
    /// Borrows input, output and user data at once, so that a handler can parse the input, write a response
    /// to the output and update the data without copying the input first.
    pub fn split(&mut self) -> (Input<'_>, Output<'_>, &mut D) {
        let (input, output) = self.stream.split();
        (input, output, self.data)
    }

    /// Returns a view of the same socket with a part of its data, for a handler that wraps another.
    pub fn project<E>(&mut self, part: impl FnOnce(&mut D) -> &mut E) -> Socket<'_, E> {
        Socket { stream: self.stream.reborrow(), data: part(self.data) }
    }
}

impl<'a, D> Deref for Socket<'a, D> {
    type Target = Stream<'a>;
    fn deref(&self) -> &Stream<'a> {
        &self.stream
    }
}

impl<D> DerefMut for Socket<'_, D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.stream
    }
}

impl<D: fmt::Debug> fmt::Debug for Socket<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("stream", &self.stream).field("data", &self.data).finish()
    }
}

/// A callback's view of a socket without the user data: input, output, closing and timers.
///
/// Requests such as [`close`](Self::close) take effect when the callback returns.
pub struct Stream<'a> {
    pub(crate) control: &'a mut ControlBlock,
    pub(crate) pool: PoolMut<'a>,
    pub(crate) bytes: &'a mut [u8],
    pub(crate) consumed: &'a mut usize,
    pub(crate) shared: &'a SharedView,
    pub(crate) index: u32,
}

/// What the views of all sockets of a shard have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedView {
    pub(crate) now: Instant,
    /// The token of slot 0 in generation 0, from which all tokens of the shard are derived.
    pub(crate) token: Token,
    pub(crate) capacity: u32,
    pub(crate) output_limit: u16,
    /// Whether the first byte timeout is enabled.
    pub(crate) first_byte: bool,
    /// Whether the write stall timeout is enabled.
    pub(crate) write_stall: bool,
    /// Whether the engine is shutting down.
    pub(crate) stopping: bool,
    /// How many ticks a socket has to be idle before it may be evicted; 0 if none is evicted, or `UNKNOWN`.
    pub(crate) evict_after: u32,
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("token", &self.token())
            .field("state", &self.control.state)
            .field("bytes", &self.bytes().len())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl<'a> Stream<'a> {
    /// Returns the socket's identity, which is the destination of messages to it.
    #[must_use]
    pub fn token(&self) -> Token {
        self.shared.token.at(self.index, self.control.generation)
    }

    /// Returns the time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.now
    }

    /// Returns the address of the peer.
    #[must_use]
    pub fn peer(&self) -> Address {
        self.control.peer.unpack()
    }

    /// Returns the address of the peer in its packed form, to be unpacked when needed.
    #[inline]
    #[must_use]
    pub fn packed_peer(&self) -> PackedAddress {
        self.control.peer
    }

    /// Returns the unconsumed bytes, as one slice. It borrows the whole view: to send at the same time, use
    /// [`split`](Self::split).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(*self.consumed..).unwrap_or_default()
    }

    /// Returns the unconsumed bytes, to be modified in place, for example to decrypt or unmask them. Modified
    /// bytes that are left unconsumed stay modified.
    ///
    /// ```
    /// use lightcone_core::Stream;
    ///
    /// /// Removes a mask from the unconsumed bytes and returns their number.
    /// fn unmask(stream: &mut Stream<'_>, mask: u8) -> usize {
    ///     stream.bytes_mut().iter_mut().for_each(|byte| *byte ^= mask);
    ///     stream.bytes().len()
    /// }
    /// ```
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(*self.consumed..).unwrap_or_default()
    }

    /// Consumes the first `n` bytes.
    ///
    /// # Panics
    ///
    /// If there are fewer than `n` bytes.
    pub fn consume(&mut self, n: usize) {
        let there = self.bytes.len() - *self.consumed;
        if n > there {
            consumed_too_much(n, there);
        }
        *self.consumed += n;
    }

    /// Consumes all bytes.
    ///
    /// ```
    /// use lightcone_core::{Full, Stream};
    ///
    /// /// Responds to a line of any content.
    /// fn acknowledge(stream: &mut Stream<'_>) -> Result<(), Full> {
    ///     if stream.bytes().ends_with(b"\n") {
    ///         stream.consume_all();
    ///         stream.send(b"ok\n")?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn consume_all(&mut self) {
        *self.consumed = self.bytes.len();
    }

    /// Returns the maximum number of unconsumed bytes. A handler must not wait for more: while that many
    /// bytes are unconsumed, the socket is not read.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.capacity as usize
    }

    /// Queues all of `bytes`, or none.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is not enough room for all of them. `writable` follows, unless `bytes` are longer than
    /// the [limit](Output::limit) of the output, for which there is never room. After `finish`, `close`,
    /// `linger` or `abort` the result is always [`Full`], and `writable` does not follow.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.output().send(bytes)
    }

    /// Borrows input and output at once.
    #[inline]
    pub fn split(&mut self) -> (Input<'_>, Output<'_>) {
        let most = self.most();
        let ended = self.control.flags.has(Flags::PEER_ENDED);
        let input = Input {
            bytes: &mut *self.bytes,
            consumed: self.consumed,
            capacity: self.shared.capacity,
            ended,
            here: PhantomData,
        };
        (input, Output { pool: self.pool.reborrow(), chain: &mut self.control.chain, most })
    }

    fn output(&mut self) -> Output<'_> {
        let most = self.most();
        Output { pool: self.pool.reborrow(), chain: &mut self.control.chain, most }
    }

    fn most(&self) -> u16 {
        if self.control.state.writes() && self.control.asked.is_empty() {
            self.shared.output_limit
        } else {
            0
        }
    }

    /// Returns the number of bytes that wait to be sent; in the `close` event, the number of bytes that were
    /// never sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.control.chain.queued()
    }

    /// Returns the number of bytes that [`send`](Self::send) accepts now.
    #[must_use]
    pub fn room(&mut self) -> usize {
        self.output().room()
    }

    /// Sends the queued output, then closes.
    ///
    /// If input is known to be unread, the socket closes in stages, as with [`linger`](Self::linger). Otherwise
    /// the kernel would reset the connection and discard output that the peer has not received yet.
    pub fn close(&mut self) {
        self.control.chain.release_tail(&self.pool);
        self.control.asked.set(Requests::CLOSE);
    }

    /// Sends the queued output, shuts down writing, then reads and discards input until the peer ends its
    /// stream or [`Timeouts::linger`](crate::Timeouts::linger) expires. Use it to reject a peer that is still
    /// sending.
    pub fn linger(&mut self) {
        self.control.chain.release_tail(&self.pool);
        self.control.asked.set(Requests::LINGER);
    }

    /// Sends the queued output, then shuts down writing. Receiving continues. When the peer has ended its
    /// stream too, the socket closes.
    pub fn finish(&mut self) {
        self.control.chain.release_tail(&self.pool);
        self.control.asked.set(Requests::FINISH);
    }

    /// Closes immediately. Queued output is lost, and the peer sees a reset if the driver can send one.
    ///
    /// In the `close` event, the only effect is the reset. This is for a protocol in which the end of the
    /// stream also ends a message: with a reset, the peer does not take a truncated message for a whole one.
    pub fn abort(&mut self) {
        self.control.asked.set(Requests::ABORT);
    }

    /// Returns whether the socket is ending: `close`, `linger` or `abort` was called, or this is its last
    /// event.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.control.asked.has(Requests::ENDS) || self.control.flags.has(Flags::CLOSING.with(Flags::ENDED))
    }

    /// Pauses reading. Bytes already in transit may still be delivered once.
    pub fn pause(&mut self) {
        self.control.flags.set(Flags::PAUSED);
    }

    /// Resumes reading.
    pub fn resume(&mut self) {
        self.control.flags.clear(Flags::PAUSED);
    }

    /// Returns whether reading is paused by [`pause`](Self::pause).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.control.flags.has(Flags::PAUSED)
    }

    /// Sets or clears the deadline of the socket, and replaces an earlier one. The `timeout` event comes once
    /// when the deadline passes, never early. A deadline more than 12 days ahead is shortened to 12 days.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_core::Stream;
    ///
    /// /// Allows the peer ten seconds for its next line. After that, `timeout` aborts the socket by default.
    /// fn expect_line(stream: &mut Stream<'_>) {
    ///     let at = stream.now() + Duration::from_secs(10);
    ///     stream.set_deadline(Some(at));
    /// }
    /// ```
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.control.pending.clear(Pending::TIMEOUT); // of the previous deadline
        let Some(at) = at else { return self.control.flags.clear(Flags::DEADLINE) };
        // keep the tick within the horizon of the timer wheel: ticks are compared by signed distance
        let most = self.shared.now.as_millis().saturating_add(u64::from(crate::timer::HORIZON) - 1);
        self.control.deadline = Instant::from_millis(at.as_millis().min(most)).tick();
        if at < self.shared.now {
            self.control.deadline = self.shared.now.tick();
        }
        self.control.flags.set(Flags::DEADLINE.with(Flags::TIMES));
    }

    /// Returns the deadline, if one is set and its `timeout` has not come yet.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let set = self.control.flags.has(Flags::DEADLINE) || self.control.pending.has(Pending::TIMEOUT);
        set.then(|| self.shared.now.near(self.control.deadline))
    }

    /// Returns whether `writable` is pending: a send was refused or accepted only in part, or
    /// [`request_writable`](Output::request_writable) was called, and `writable` has not come since.
    #[must_use]
    pub fn is_writable_pending(&self) -> bool {
        self.control.chain.armed || self.control.pending.has(Pending::WRITABLE)
    }

    /// Declares whether the socket is active: in the middle of something, such as a request that is being
    /// received or answered.
    ///
    /// While the socket is active, it is not [evicted](crate::Config::evict_after), and the
    /// [idle](crate::Timeouts::idle) timeout does not run; it restarts when the socket becomes inactive. The
    /// handler should bound the active time itself, by a [deadline](Self::set_deadline). The [first
    /// byte](crate::Timeouts::first_byte) and [write stall](crate::Timeouts::write_stall) timeouts run
    /// regardless. If the write stall timeout is disabled, the idle timeout runs in its place while the peer
    /// accepts none of the queued output.
    pub fn set_active(&mut self, active: bool) {
        let flags = &mut self.control.flags;
        if active == flags.has(Flags::ACTIVE) {
            return;
        }
        flags.set(Flags::TIMES);
        if active {
            flags.set(Flags::ACTIVE);
            return;
        }
        flags.clear(Flags::ACTIVE);
        // while another timeout runs, `seen` is the start of that one: it must not be postponed
        let first_byte = flags.has(Flags::SILENT) && self.shared.first_byte;
        let write_stall = flags.has(Flags::STALLED) && self.shared.write_stall;
        if !first_byte && !write_stall {
            self.control.seen = self.shared.now.tick();
        }
    }

    /// Returns whether the socket was declared [active](Self::set_active).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.control.flags.has(Flags::ACTIVE)
    }

    /// Returns whether the engine is shutting down. Input that has already arrived is delivered before the
    /// `shutdown` event; the result is `true` in these callbacks as well, so that a protocol can announce the
    /// end of the connection in its last response.
    #[must_use]
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping
    }

    /// Returns whether this is an accepted socket that has not received a byte yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.control.flags.has(Flags::SILENT)
    }

    /// Returns the time since the socket last made progress, that is, was opened, received or sent bytes.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        Duration::from_millis(self.shared.now.tick().wrapping_sub(self.control.seen).into())
    }

    /// Returns whether the peer has ended its stream.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.control.flags.has(Flags::PEER_ENDED)
    }

    /// Reborrows the stream for a shorter lifetime.
    pub fn reborrow(&mut self) -> Stream<'_> {
        Stream {
            control: self.control,
            pool: self.pool.reborrow(),
            bytes: &mut *self.bytes,
            consumed: self.consumed,
            shared: self.shared,
            index: self.index,
        }
    }

    /// Returns a view of the same socket with other data, for a handler that wraps another.
    pub fn with<'b, D>(&'b mut self, data: &'b mut D) -> Socket<'b, D> {
        Socket { stream: self.reborrow(), data }
    }
}
