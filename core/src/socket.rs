//! What a callback sees of its socket.

use crate::address::{Address, Packed};
use crate::buffer::{Input, Lent, Output, consumed_too_much};
use crate::error::Full;
use crate::slot::{Asked, Control, Flags, Pending};
use crate::time::Instant;
use crate::token::Token;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

/// A socket within a callback: its [`Stream`] and the user's data.
///
/// The two fields are public so that both can be used at once:
/// `let Socket { stream, data } = socket;`
pub struct Socket<'a, D> {
    /// Buffers, closing, times: everything but the user's data.
    pub stream: Stream<'a>,
    /// What `admit` made.
    pub data: &'a mut D,
}

impl<'a, D> Socket<'a, D> {
    /// Input, output and data at once, so that a handler can parse from the input, answer into the
    /// output and remember in between, without a copy.
    pub fn split(&mut self) -> (Input<'_>, Output<'_>, &mut D) {
        let (input, output) = self.stream.split();
        (input, output, self.data)
    }

    /// The same socket with a part of its data, for a handler that wraps another.
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

/// Everything of a socket but the user's data. What is asked for takes effect after the callback.
pub struct Stream<'a> {
    pub(crate) control: &'a mut Control,
    pub(crate) pool: Lent<'a>,
    pub(crate) bytes: &'a mut [u8],
    pub(crate) consumed: &'a mut usize,
    pub(crate) shared: &'a Shared,
    pub(crate) index: u32,
}

/// What views show that is the same for all sockets of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) now: Instant,
    /// The token of place 0 and generation 0.
    pub(crate) token: Token,
    pub(crate) capacity: u32,
    pub(crate) output_limit: u16,
    /// Whether these timeouts are switched on.
    pub(crate) first_byte: bool,
    pub(crate) write_stall: bool,
    /// Whether the engine is shutting down.
    pub(crate) stopping: bool,
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
    /// The socket's identity, to post messages to.
    #[must_use]
    pub fn token(&self) -> Token {
        self.shared.token.at(self.index, self.control.generation)
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.now
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Address {
        self.control.peer.unpack()
    }

    /// The same as it is kept, to be unpacked when it is needed.
    #[inline]
    #[must_use]
    pub fn packed_peer(&self) -> Packed {
        self.control.peer
    }

    /// The bytes that have come and are not consumed, in one piece. They borrow the whole view: to
    /// send at the same time, use [`split`](Self::split).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(*self.consumed..).unwrap_or_default()
    }

    /// The same bytes, to be changed in place: decrypted, unmasked. What is left unconsumed stays as it was changed.
    ///
    /// ```
    /// use lightcone_core::Stream;
    ///
    /// /// Removes a mask from what has come, and returns how much that is.
    /// fn unmask(stream: &mut Stream<'_>, mask: u8) -> usize {
    ///     stream.bytes_mut().iter_mut().for_each(|byte| *byte ^= mask);
    ///     stream.bytes().len()
    /// }
    /// ```
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(*self.consumed..).unwrap_or_default()
    }

    /// Takes the first `n` bytes away.
    ///
    /// # Panics
    ///
    /// When `n` is more than there is.
    pub fn consume(&mut self, n: usize) {
        let there = self.bytes.len() - *self.consumed;
        if n > there {
            consumed_too_much(n, there);
        }
        *self.consumed += n;
    }

    /// The most bytes that [`bytes`](Self::bytes) can ever hold. Who waits for more waits for ever:
    /// with so many unconsumed bytes the socket is not read from.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.capacity as usize
    }

    /// Queues all of `bytes`, or nothing.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is not room for all of it; `writable` will come. After `finish`, `close`,
    /// `linger` or `abort` always, and then it won't.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.output().send(bytes)
    }

    /// Input and output at once.
    #[inline]
    pub fn split(&mut self) -> (Input<'_>, Output<'_>) {
        let most = self.most();
        let ended = self.control.flags.has(Flags::PEER_ENDED);
        let input = Input { bytes: &mut *self.bytes, consumed: self.consumed, ended, here: PhantomData };
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

    /// How many bytes wait to be sent; in the `close` event, how many never will be.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.control.chain.queued()
    }

    /// How many bytes `send` takes now.
    #[must_use]
    pub fn room(&mut self) -> usize {
        self.output().room()
    }

    /// Sends what is queued, then closes. If input is known to be unread, the close is staged as by
    /// [`linger`](Self::linger), since closing at once would make the kernel reset the connection
    /// and destroy what was just sent.
    pub fn close(&mut self) {
        self.control.chain.release_tail(&self.pool);
        self.control.asked.set(Asked::CLOSE);
    }

    /// Sends what is queued, shuts down writing, then reads and discards until the peer ends or
    /// [`Timeouts::linger`](crate::Timeouts) passes. For a refusal to a peer that is still sending.
    pub fn linger(&mut self) {
        self.control.chain.release_tail(&self.pool);
        self.control.asked.set(Asked::LINGER);
    }

    /// Sends what is queued, then shuts down writing; receiving goes on. When the peer has ended
    /// too, the socket closes.
    pub fn finish(&mut self) {
        self.control.chain.release_tail(&self.pool);
        self.control.asked.set(Asked::FINISH);
    }

    /// Closes at once; what is queued is lost, and the peer sees a reset where the driver can send one. In `close` nothing
    /// but the latter: for a protocol in which the end of the connection would look like the end of a message.
    pub fn abort(&mut self) {
        self.control.asked.set(Asked::ABORT);
    }

    /// Whether the end is settled: `close`, `linger` or `abort` was asked for, or this is `close`.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.control.asked.has(Asked::ENDS) || self.control.flags.has(Flags::CLOSING.with(Flags::ENDED))
    }

    /// Stops reading; bytes already on their way may still come once.
    pub fn pause(&mut self) {
        self.control.flags.set(Flags::PAUSED);
    }

    /// Reads again.
    pub fn resume(&mut self) {
        self.control.flags.clear(Flags::PAUSED);
    }

    /// Whether reading is paused by [`pause`](Self::pause).
    #[must_use]
    pub fn paused(&self) -> bool {
        self.control.flags.has(Flags::PAUSED)
    }

    /// Sets or clears the socket's one deadline: `timeout` comes once when it passes, never early.
    /// One further ahead than 12 days is taken as 12 days.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.control.pending.clear(Pending::TIMEOUT); // of the deadline before
        let Some(at) = at else { return self.control.flags.clear(Flags::DEADLINE) };
        let most = self.shared.now.as_millis().saturating_add(u64::from(crate::timer::HORIZON) - 1);
        self.control.deadline = Instant::from_millis(at.as_millis().min(most)).tick();
        if at < self.shared.now {
            self.control.deadline = self.shared.now.tick();
        }
        self.control.flags.set(Flags::DEADLINE.with(Flags::TIMES));
    }

    /// The deadline, if one is set and `timeout` has not come for it.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let set = self.control.flags.has(Flags::DEADLINE) || self.control.pending.has(Pending::TIMEOUT);
        set.then(|| self.shared.now.near(self.control.deadline))
    }

    /// Whether `writable` will come: a send was refused or short, or `want` was called.
    #[must_use]
    pub fn owes_writable(&self) -> bool {
        self.control.chain.armed || self.control.pending.has(Pending::WRITABLE)
    }

    /// Declares whether the socket is in the middle of something, such as a request that is being read or answered. While
    /// it is, [`Timeouts::idle`](crate::Timeouts::idle) does not run; it counts anew from the end of that. The handler is
    /// to bound such a span itself, by a [deadline](Self::set_deadline). The timeouts of the first byte and of a write
    /// stall run all the same. While output waits for a peer that takes none of it and no write stall timeout is set,
    /// the idle timeout runs in its place.
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
        let first_byte = flags.has(Flags::SILENT) && self.shared.first_byte;
        let write_stall = flags.has(Flags::STALLED) && self.shared.write_stall;
        if !first_byte && !write_stall {
            self.control.seen = self.shared.now.tick();
        }
    }

    /// Returns whether the socket was declared to be [in the middle of something](Self::set_active).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.control.flags.has(Flags::ACTIVE)
    }

    /// Returns whether the engine is shutting down. It is so before `shutdown`, in callbacks that deliver what had come
    /// by then: a protocol can announce the end of the connection with its last answer.
    #[must_use]
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping
    }

    /// Returns whether this is an accepted socket from which no byte has come.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.control.flags.has(Flags::SILENT)
    }

    /// Returns how long ago the socket last made progress: opened, received or sent something.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        Duration::from_millis(self.shared.now.tick().wrapping_sub(self.control.seen).into())
    }

    /// Whether the peer has ended its side.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.control.flags.has(Flags::PEER_ENDED)
    }

    /// The same stream, for a shorter time.
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

    /// The same stream with other data, for a handler that wraps another.
    pub fn with<'b, D>(&'b mut self, data: &'b mut D) -> Socket<'b, D> {
        Socket { stream: self.reborrow(), data }
    }
}
