//! Sizes and timeouts of a shard, checked once when it is built.

use crate::buffer::LINK_BYTES;
use crate::poller::ROOM_REQUESTS_MAX;
use crate::shard::Shard;
use crate::slot::Slot;
use crate::storage::{NOTE_BYTES, WINDOW_BYTES};
use crate::time::millis_ceil;
use crate::timer::HORIZON;
use crate::token::{PollerId, Token};
use crate::token_bucket::Rate;
use crate::wait_queue::WAIT_LINK_BYTES;
use core::fmt;
use core::time::Duration;

/// The timeouts of a socket, by phase. `None` disables one. Each is at most 12 days.
///
/// They never fire early and, on a driver that keeps up, at most two milliseconds late.
///
/// By default, a peer "takes" output when the operating system takes it from the engine. If the driver
/// [reports](crate::poller::Transport::undelivered) how much of that has not been delivered, a delivery counts as well.
/// A peer that reads slowly is then not cut off, however large the system's buffers are. The driver is queried eight
/// times per timeout, so `write_stall` and `drain` may fire up to an eighth of their span late.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timeouts {
    /// The time from the start of a connect to its success. Default 10 s.
    pub connect: Option<Duration>,
    /// The time from `open` of an accepted socket to the peer's first byte or end of stream. If this is `None`, `idle`
    /// applies instead. Default 30 s.
    pub first_byte: Option<Duration>,
    /// The time without a received or sent byte, unless the handler has declared the socket
    /// [active](crate::Stream::set_active). Default 75 s.
    pub idle: Option<Duration>,
    /// The time for which queued output waits while the peer takes none of it. Replaces `idle` meanwhile. Default 30 s.
    pub write_stall: Option<Duration>,
    /// The time after `close` for which queued output waits while the peer takes none of it. It does not bound a peer
    /// that reads slowly; the amount of queued output does. Default 10 s.
    pub drain: Option<Duration>,
    /// The time for which a staged close waits for the peer's end of stream, once everything has been delivered. Before
    /// that, it waits for the longer of this and `drain` while the peer takes nothing. Default 2 s.
    pub linger: Option<Duration>,
    /// The rate at which the peer has to take queued output. A peer that takes any output at all puts off `write_stall`
    /// and `drain`, so without this, one that takes a byte at a time may stay for as long as there is output. Default
    /// none.
    pub write_rate: Option<WriteRate>,
}

/// A minimum rate of output, set with [`Timeouts::write_rate`].
///
/// The rate is averaged over windows, which run only while output waits: when the system takes no more of it, and,
/// after a staged close, while the system has not delivered all of it. So the rate does not apply to a socket that has
/// nothing to send. At the end of a window, a socket whose peer has taken fewer bytes than the rate requires ends with
/// [`Timeout::WriteRate`](crate::Timeout::WriteRate), or, if only a staged close keeps it open, as when that has waited
/// long enough. Otherwise the next window begins. A peer may pause if its average over the window is sufficient.
///
/// A socket is checked eight times per window. The first check begins a window, and one that finds nothing queued ends
/// it without a verdict. So a peer that is too slow from the start is cut off between one and one and a quarter `per`
/// after the system took no more, and a peer that slows down later after at most two and a quarter. A check that comes
/// late by more than a quarter of a window, as after a callback that took long, begins a new window without a verdict
/// on the last: in that time nothing was sent that the peer could take. In a staged close, checks are
/// [`linger`](Timeouts::linger) apart, and the cut is later by up to that time.
///
/// Where the driver does not [report](crate::poller::Transport::undelivered) what the system has not delivered, the
/// peer "takes" what the system takes. Then `per` has to be long enough for the system to take more, which it may do in
/// large steps.
///
/// A limit costs 12 bytes for each of [`Config::sockets`], which are not touched before the socket's output waits.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::{Timeouts, WriteRate};
///
/// let rate = WriteRate { bytes: 10_000, per: Duration::from_secs(10) }; // 1 KB/s
/// let timeouts = Timeouts { write_rate: Some(rate), ..Timeouts::DEFAULT };
/// # assert_ne!(timeouts, Timeouts::DEFAULT);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WriteRate {
    /// The number of bytes that the peer has to take, 1 or more.
    pub bytes: u32,
    /// The time in which it has to take them: the length of a window. At most 12 days.
    pub per: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Timeouts {
    /// The default timeouts, as a constant.
    pub const DEFAULT: Self = Self {
        connect: Some(Duration::from_secs(10)),
        first_byte: Some(Duration::from_secs(30)),
        idle: Some(Duration::from_secs(75)),
        write_stall: Some(Duration::from_secs(30)),
        drain: Some(Duration::from_secs(10)),
        linger: Some(Duration::from_secs(2)),
        write_rate: None,
    };

    /// All timeouts disabled.
    pub const NONE: Self = Self {
        connect: None,
        first_byte: None,
        idle: None,
        write_stall: None,
        drain: None,
        linger: None,
        write_rate: None,
    };
}

/// The configuration of one shard. All sizes are fixed once the shard is built.
///
/// The default suits a small device: 16 sockets in about 40 KiB. Drivers for hosts have larger defaults.
///
/// Set some fields and take the others from [`Config::DEVICE`] or [`Config::default`]: later versions add fields.
///
/// ```
/// use lightcone_core::Config;
///
/// let config = Config { sockets: 4, input_blocks: 4, output_blocks: 8, block_size: 512, ..Config::default() };
/// assert!(config.check().is_ok());
/// assert!(config.memory() < 12 * 1024);
/// let error = Config { block_size: 1000, ..config }.check().unwrap_err();
/// assert_eq!(error.to_string(), "block_size is 1000; allowed: a power of two from 64 to 16777216");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// The number of the shard's poller within its engine.
    pub poller: PollerId,
    /// The first generation of each slot. Engines in one process use different seeds, so that a token of one engine is
    /// stale in another.
    pub generation_seed: u32,
    /// The maximum number of sockets: 1 to 2^24.
    pub sockets: usize,
    /// The size in bytes of an input or output block: a power of two from 64 to 2^24.
    pub block_size: usize,
    /// The number of blocks for input that handlers leave unconsumed, 1 or more. A socket holds one while it has
    /// unconsumed bytes. With as many blocks as sockets, one is always free. With fewer, a socket that finds none does
    /// not receive until blocks are returned; the waiting sockets are served in FIFO order.
    pub input_blocks: usize,
    /// The number of blocks for output, 1 or more, which no socket can exhaust alone. The first block of a socket may
    /// be any free one. To lease further blocks, a socket may hold no more blocks than are free beyond a reserve for
    /// sockets that hold none. The reserve is as large as the number of other sockets, but at most half of the blocks,
    /// and leaves [`output_limit`](Self::output_limit) blocks to a single socket. A block for a small response is
    /// therefore always free if there are at least twice as many blocks as sockets, and at least `output_limit` more
    /// blocks than sockets.
    ///
    /// A socket that finds no block waits in a FIFO queue. It is granted one after as many blocks were returned as
    /// there were sockets before it, regardless of what other sockets send. A [`send`](crate::Output::send) of more
    /// than a block may wait longer, until other sockets hold fewer. [`send_some`](crate::Output::send_some) queues
    /// what there is room for.
    pub output_blocks: usize,
    /// The maximum number of output blocks that one socket may hold: 1 to 65535. A value above `output_blocks` counts
    /// as `output_blocks`.
    pub output_limit: usize,
    /// The size in bytes of a large input block: a power of two, at least `block_size`. This is the maximum number of
    /// bytes that a socket receives at once, and that it can leave unconsumed. If `receive_blocks` is 0, this field is
    /// ignored, and the maximum is `block_size`.
    pub receive_size: usize,
    /// The number of large input blocks. A socket leases one when more bytes remain than a small block holds. A socket
    /// that has filled a small block and finds no large one waits in a FIFO queue. It gets one after as many were
    /// returned as there were sockets before it.
    pub receive_blocks: usize,
    /// The maximum number of timers that the handler of a [`Poller`](crate::poller::Poller) can have set at the same
    /// time by [`Context::set_timer`](crate::Context::set_timer): from 0, for none, to 2^24. A shard without a poller
    /// ignores this field.
    pub timers: usize,
    /// The maximum number of [`Context::request_room`](crate::Context::request_room) that wait on the
    /// [`Poller`](crate::poller::Poller) at the same time: from 0, for none, to 1,024. A shard without a poller ignores
    /// this field.
    pub room_requests: usize,
    /// The maximum number of subscriptions of all sockets together to topics, by
    /// [`Context::subscribe`](crate::Context::subscribe): from 0, for none, to 2^24. A shard without a poller ignores
    /// this field.
    pub subscriptions: usize,
    /// The rate at which the [`Poller`](crate::poller::Poller) admits connections that it accepts; one beyond the rate
    /// is closed at once and counted in [`Stats::over_rate`](crate::Stats::over_rate). Default `None`: no limit. A
    /// shard without a poller ignores this field. In an engine, each poller that accepts has the rate for itself.
    ///
    /// A connection counts when it is accepted, also if [`Handler::admit`](crate::Handler::admit) rejects it then. So a
    /// peer beyond a limit of its own, as of [`LimitPeers`](crate::LimitPeers), can use the rate up for others; a
    /// filter of the driver decides before.
    pub accept_rate: Option<Rate>,
    /// The timeouts of the sockets.
    pub timeouts: Timeouts,
    /// How long a socket has to be idle before it may be evicted, at most 12 days. Default `None`: no socket is
    /// evicted, and further connections wait until a socket ends.
    ///
    /// If all sockets are in use and a connection waits to be accepted, the socket that has been idle longest makes
    /// room for it and ends with [`CloseReason::Evicted`](crate::CloseReason::Evicted). So a few idle connections
    /// cannot keep a small device from serving others. The length of this span protects clients that pause between
    /// two requests: choose it longer than their pauses, for example a few seconds. Then new connections evict none of
    /// them, however many there are.
    ///
    /// A socket is idle while its [`idle`](Timeouts::idle) or [`first_byte`](Timeouts::first_byte) timeout runs, or
    /// would run if it were enabled. A handler protects a socket by declaring it
    /// [active](crate::Stream::set_active), for example during a request, or for as long as its peer only listens. A
    /// socket with queued or held output, with input that the handler has left, or that is not read (it is paused, or
    /// `writable` is pending) is never evicted. Neither is one that the program has connected, and none is evicted to
    /// make room for a connect.
    ///
    /// Before a socket is evicted, the poller looks whether a request has just arrived, for which it needs a free input
    /// block: with fewer [`input_blocks`](Self::input_blocks) than sockets, peers that hold all of them prevent
    /// eviction. Eviction frees a slot, and with it whatever else a socket occupies, but a process that is out of
    /// descriptors does not learn that a connection waits.
    ///
    /// Eviction costs 8 bytes for each of [`sockets`](Self::sockets), and one more expiry of a socket's timer each time
    /// that the socket becomes idle.
    pub evict_after: Option<Duration>,
}

impl Config {
    /// The default configuration, as a constant.
    pub const DEVICE: Self = Self {
        poller: PollerId(0),
        generation_seed: 0,
        sockets: 16,
        block_size: 1024,
        input_blocks: 16,
        output_blocks: 16,
        output_limit: 4,
        receive_size: 4096,
        receive_blocks: 1,
        timers: 0,
        room_requests: 0,
        subscriptions: 0,
        accept_rate: None,
        timeouts: Timeouts::DEFAULT,
        evict_after: None,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEVICE
    }
}

/// An invalid setting and its allowed range.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct ConfigError {
    /// The name of the field.
    pub field: &'static str,
    /// Its value; durations are in milliseconds.
    pub value: u64,
    /// The allowed values, in words.
    pub allowed: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; allowed: {}", self.field, self.value, self.allowed)
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks that every setting is within its range.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    #[expect(clippy::excessive_nesting, reason = "a constant function can't use `?`")]
    pub const fn check(&self) -> Result<(), ConfigError> {
        const fn within(
            field: &'static str,
            value: usize,
            most: u64,
            allowed: &'static str,
        ) -> Result<(), ConfigError> {
            if value == 0 || value as u64 > most {
                return Err(ConfigError { field, value: value as u64, allowed });
            }
            Ok(())
        }
        const fn block(field: &'static str, value: usize, least: usize) -> Result<(), ConfigError> {
            if value < least || value > 1 << 24 || !value.is_power_of_two() {
                let allowed = if least == 64 {
                    "a power of two from 64 to 16777216"
                } else {
                    "a power of two from block_size to 16777216"
                };
                return Err(ConfigError { field, value: value as u64, allowed });
            }
            Ok(())
        }
        macro_rules! all {
            ($($check:expr),+ $(,)?) => { $(if let Err(error) = $check { return Err(error); })+ };
        }
        all!(
            within("sockets", self.sockets, Token::MAX_INDEX as u64 + 1, "1 to 16777216"),
            block("block_size", self.block_size, 64),
            within("input_blocks", self.input_blocks, (1 << 31) - 2, "1 or more, 4 GiB together"),
            within("output_blocks", self.output_blocks, (1 << 31) - 2, "1 or more, 4 GiB together"),
            within("output_limit", self.output_limit, u16::MAX as u64, "1 to 65535"),
            pool("input_blocks", self.input_blocks, self.block_size),
            pool("output_blocks", self.output_blocks, self.block_size),
        );
        if self.receive_blocks > 0 {
            all!(
                block("receive_size", self.receive_size, self.block_size),
                pool("receive_blocks", self.receive_blocks, self.receive_size),
            );
        }
        all!(
            up_to("timers", self.timers, Token::MAX_INDEX as usize + 1, "0 to 16777216"),
            up_to("room_requests", self.room_requests, ROOM_REQUESTS_MAX, "0 to 1024"),
            up_to("subscriptions", self.subscriptions, Token::MAX_INDEX as usize + 1, "0 to 16777216"),
        );
        let Timeouts { connect, first_byte, idle, write_stall, drain, linger, write_rate } = self.timeouts;
        all!(
            timeout("timeouts.connect", connect),
            timeout("timeouts.first_byte", first_byte),
            timeout("timeouts.idle", idle),
            timeout("timeouts.write_stall", write_stall),
            timeout("timeouts.drain", drain),
            timeout("timeouts.linger", linger),
            timeout("evict_after", self.evict_after),
        );
        if let Some(WriteRate { bytes, per }) = write_rate {
            all!(timeout("timeouts.write_rate.per", Some(per)));
            if bytes == 0 {
                return Err(ConfigError {
                    field: "timeouts.write_rate.bytes",
                    value: 0,
                    allowed: "1 or more",
                });
            }
        }
        Ok(())
    }

    /// Returns the size in bytes of the buffer memory in [`Storage`](crate::Storage). Saturates at `usize::MAX`.
    #[must_use]
    pub const fn memory(&self) -> usize {
        const fn pool(count: usize, size: usize) -> usize {
            count.saturating_mul(size.saturating_add(LINK_BYTES))
        }
        let input = pool(self.input_blocks, self.block_size);
        let output = pool(self.output_blocks, self.block_size);
        let receive = pool(self.receive_blocks, self.receive_size);
        let window = if self.timeouts.write_rate.is_some() { WINDOW_BYTES } else { 0 };
        let idle = if self.evict_after.is_some() { WAIT_LINK_BYTES } else { 0 };
        let sockets = self.sockets.saturating_mul(WAIT_LINK_BYTES + NOTE_BYTES + window + idle);
        input.saturating_add(output).saturating_add(receive).saturating_add(sockets)
    }

    /// Returns how many output blocks are reserved for sockets that hold none: one for each other socket, but at most
    /// half of all, and few enough that a single socket can fill its queue to its limit.
    pub(crate) const fn output_reserve(&self) -> usize {
        let half = self.output_blocks / 2;
        let beyond = self.output_blocks.saturating_sub(self.output_limit);
        let others = self.sockets.saturating_sub(1);
        let most = if half < beyond { half } else { beyond };
        if most < others { most } else { others }
    }

    /// Returns how many blocks a socket may hold for each one that is free beyond the reserve, as the exponent of a
    /// power of two. It is 0, for one block, or more in a pool so small that a single socket could not fill its queue
    /// to its limit otherwise.
    pub(crate) const fn output_share(&self) -> u32 {
        let limit =
            if self.output_limit < self.output_blocks { self.output_limit } else { self.output_blocks };
        // what is free beyond the reserve when a single socket leases its last block
        let spare = self.output_blocks - self.output_reserve() - limit + 1;
        let mut share = 0;
        while spare << share < limit.saturating_sub(1) {
            share += 1;
        }
        share
    }
}

const fn pool(field: &'static str, count: usize, size: usize) -> Result<(), ConfigError> {
    if (count as u64).saturating_mul(size as u64) > u32::MAX as u64 {
        return Err(ConfigError {
            field,
            value: count as u64,
            allowed: "1 or more, less than 4 GiB together",
        });
    }
    Ok(())
}

const fn up_to(
    field: &'static str,
    value: usize,
    most: usize,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if value > most { Err(ConfigError { field, value: value as u64, allowed }) } else { Ok(()) }
}

const fn timeout(field: &'static str, span: Option<Duration>) -> Result<(), ConfigError> {
    if let Some(span) = span {
        let millis = millis_ceil(span);
        if millis == 0 || millis >= HORIZON as u64 {
            return Err(ConfigError {
                field,
                value: millis,
                allowed: "more than 0, less than 12 days (1073741824 ms)",
            });
        }
    }
    Ok(())
}

/// The memory cost of a configuration in bytes, as returned by [`footprint`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Footprint {
    /// The shard itself, including its timer wheel.
    pub shard: usize,
    /// The poller without its shard, but with its handler and transport; 0 for a shard alone.
    pub poller: usize,
    /// The storage lent to a poller in addition to its shard's storage: connections, listeners, the receive buffer,
    /// timers and requests for room.
    pub poller_storage: usize,
    /// One slot, including user data. An idle socket holds no block.
    pub slot: usize,
    /// All slots.
    pub slots: usize,
    /// All blocks, with their bookkeeping.
    pub memory: usize,
}

impl Footprint {
    /// Returns the total.
    #[must_use]
    pub const fn total(&self) -> usize {
        let poller = self.poller.saturating_add(self.poller_storage);
        self.shard.saturating_add(poller).saturating_add(self.slots).saturating_add(self.memory)
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, poller, poller_storage, slot, slots, memory } = self;
        write!(f, "{} bytes: shard {shard}, slots {slots} ({slot} each), blocks {memory}", self.total())?;
        if *poller > 0 {
            write!(f, ", poller {poller} and its storage {poller_storage}")?;
        }
        Ok(())
    }
}

/// Returns the memory cost of a shard of this configuration, with user data `D` in every socket.
/// [`Poller::footprint`](crate::poller::Poller::footprint) adds the cost of a poller.
///
/// ```
/// use lightcone_core::{Config, footprint};
///
/// const CONFIG: Config = Config { sockets: 4, input_blocks: 4, output_blocks: 8, ..Config::DEVICE };
/// const COST: usize = footprint::<u32>(&CONFIG).total();
/// const { assert!(COST < 24 * 1024) };
/// ```
#[must_use]
pub const fn footprint<D>(config: &Config) -> Footprint {
    let slot = size_of::<Slot<D>>();
    Footprint {
        shard: size_of::<Shard<'_, D>>(),
        poller: 0,
        poller_storage: 0,
        slot,
        slots: slot.saturating_mul(config.sockets),
        memory: config.memory(),
    }
}
