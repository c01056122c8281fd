//! The timers of a poller, which belong to no socket.

#![expect(clippy::cast_possible_truncation, reason = "`Config::check` limits the number of timers")]

use core::fmt;
use core::mem::MaybeUninit;
use core::time::Duration;

use crate::config::Config;
use crate::storage::StorageError;
use crate::table::Table;
use crate::time::Instant;
use crate::timer::{HORIZON, TimerLink, TimerLinks, Wheel};
use crate::token::{PollerId, Token};

/// The identity of one timer that [`Context::set_timer`](crate::Context::set_timer) has set.
///
/// The id of a timer that has fired or was cancelled is stale, and does not become that of another timer: an id
/// contains the number of its poller, and those of one poller repeat only after one slot was used 2^32 times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(Token);

impl TimerId {
    /// Returns the poller that has the timer.
    #[must_use]
    pub const fn poller(self) -> PollerId {
        self.0.poller()
    }

    /// Returns the id as one word, for example to store it in place of the id.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// Returns the id for a word from [`to_bits`](Self::to_bits). A word that was never issued makes a stale id.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(Token::from_bits(bits))
    }
}

/// Formats as `poller:index#generation`.
impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerId({})", self.0)
    }
}

/// Formats as `Debug` does.
#[cfg(feature = "defmt")]
impl defmt::Format for TimerId {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self(id) = self;
        defmt::write!(f, "TimerId({=u8}:{=u32}#{=u32})", id.poller().0, id.index(), id.generation());
    }
}

/// The reason why a timer was not set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TimerError {
    /// As many timers as [`Config::timers`] allows are set.
    Full,
    /// The callback does not run on a poller with timers: [`Config::timers`] is 0, or it runs on a worker.
    Unsupported,
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "all timers of the poller are set",
            Self::Unsupported => "the poller has no timers",
        })
    }
}

impl core::error::Error for TimerError {}

/// A timer's entry in the memory lent to a poller.
#[derive(Debug)]
pub struct TimerSlot {
    link: TimerLink,
    generation: u32,
    tag: u64,
}

static_assertions::const_assert!(size_of::<TimerSlot>() <= 24);

/// The timer wheel of a poller: the lists in which it files its timers. They take about 3 KB for any number of timers.
#[derive(Debug)]
pub struct TimerWheel(Wheel);

impl TimerWheel {
    /// Creates an empty wheel.
    #[must_use]
    pub const fn new() -> Self {
        Self(Wheel::new(0))
    }
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory for the timers of a poller.
///
/// ```
/// use core::mem::MaybeUninit;
/// use lightcone_core::{TimerStorage, TimerWheel};
///
/// let (mut wheel, mut slots) = (TimerWheel::new(), [const { MaybeUninit::uninit() }; 8]);
/// let timers = TimerStorage::new(&mut wheel, &mut slots); // a part of `PollerStorage`
/// ```
#[derive(Default)]
pub struct TimerStorage<'s> {
    wheel: Option<&'s mut TimerWheel>,
    slots: &'s mut [MaybeUninit<TimerSlot>],
}

impl<'s> TimerStorage<'s> {
    /// Returns the storage of a poller without timers.
    #[must_use]
    pub const fn none() -> Self {
        Self { wheel: None, slots: &mut [] }
    }

    /// Lends a wheel, and at least [`Config::timers`] slots.
    pub const fn new(wheel: &'s mut TimerWheel, slots: &'s mut [MaybeUninit<TimerSlot>]) -> Self {
        Self { wheel: Some(wheel), slots }
    }

    /// Returns how many bytes of memory this number of timers takes.
    #[must_use]
    pub const fn bytes(timers: usize) -> usize {
        let wheel = if timers > 0 { size_of::<TimerWheel>() } else { 0 };
        size_of::<TimerSlot>().saturating_mul(timers).saturating_add(wheel)
    }

    /// Returns the number of slots.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.slots.len()
    }
}

impl fmt::Debug for TimerStorage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerStorage").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

/// The timers of one poller. Setting and cancelling one costs the same for any number of timers.
///
/// They are part of a [`Poller`](crate::poller::Poller). Only a custom loop needs this type: its
/// [`Outbox`](crate::Outbox) forwards the calls of handlers to it, and the loop delivers the timers that are
/// [due](Self::pop_due) by [`Handler::poller_event`](crate::Handler::poller_event).
pub struct Timers<'s> {
    wheel: Option<&'s mut Wheel>,
    slots: Table<'s, TimerSlot>,
    /// The maximum number of slots in use.
    most: usize,
    /// The index of the first free slot, plus one; 0 means none.
    free: u32,
    /// The id of slot 0 in generation 0, from which all ids are derived.
    id: Token,
}

impl fmt::Debug for Timers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl TimerLinks for Table<'_, TimerSlot> {
    #[expect(clippy::expect_used, reason = "the wheel holds only slots that were pushed")]
    fn link(&mut self, index: u32) -> &mut TimerLink {
        &mut self.get_mut(index).expect("a timer has a slot").link
    }
}

impl<'s> Timers<'s> {
    /// Creates the timers of a poller of this configuration.
    ///
    /// # Errors
    ///
    /// If the storage is too short for [`Config::timers`].
    pub fn new(storage: TimerStorage<'s>, config: &Config) -> Result<Self, StorageError> {
        let TimerStorage { wheel, slots } = storage;
        StorageError::check("TimerStorage::slots", slots.len(), config.timers)?;
        let wheel = wheel.map(|TimerWheel(wheel)| {
            wheel.reset();
            wheel
        });
        let id = Token::new(config.poller, 0, config.generation_seed);
        Ok(Self { wheel, slots: Table::new(slots), most: config.timers, free: 0, id })
    }

    /// Sets a timer, see [`Context::set_timer`](crate::Context::set_timer).
    ///
    /// # Errors
    ///
    /// [`TimerError::Full`] or [`TimerError::Unsupported`].
    pub fn set(&mut self, now: Instant, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        let Some(wheel) = self.wheel.as_deref_mut().filter(|_| self.most > 0) else {
            return Err(TimerError::Unsupported);
        };
        let index = match self.free.checked_sub(1) {
            Some(index) => {
                self.free = self.slots.link(index).take_next();
                index
            }
            None => {
                let index = self.slots.used();
                let slot = TimerSlot { link: TimerLink::default(), generation: 0, tag };
                if index >= self.most || self.slots.push(slot).is_err() {
                    return Err(TimerError::Full);
                }
                index as u32
            }
        };
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("the slot is in use") };
        slot.tag = tag;
        let id = self.id.at(index, slot.generation);
        // an empty wheel is not advanced, and ticks are compared by signed distance: it must not lag too far
        wheel.skip_to(now.tick());
        wheel.set(&mut self.slots, index, Self::due(now, at).tick());
        Ok(TimerId(id))
    }

    /// Returns when a timer fires that is set for `at` at the time `now`: in the next millisecond at the earliest, so
    /// that a handler that sets one timer after another cannot occupy its poller, and in 12 days at the latest.
    #[must_use]
    pub fn due(now: Instant, at: Instant) -> Instant {
        let most = now.as_millis().saturating_add(u64::from(HORIZON) - 1);
        at.max(now + Duration::from_millis(1)).min(Instant::from_millis(most))
    }

    /// Cancels a timer. Returns whether it was set.
    pub fn cancel(&mut self, TimerId(id): TimerId) -> bool {
        let index = id.index();
        let is_set = self.slots.get(index).is_some_and(|slot| self.id.at(index, slot.generation) == id);
        match &mut self.wheel {
            // free slots have the generation of their next timer, for which no id was issued
            Some(wheel) if is_set && self.slots.link(index).due().is_some() => {
                wheel.cancel(&mut self.slots, index);
                self.release(index);
                true
            }
            _ => false,
        }
    }

    /// Frees a slot whose timer is not filed any more. Returns the id and the tag of the timer.
    fn release(&mut self, index: u32) -> Option<(TimerId, u64)> {
        let slot = self.slots.get_mut(index)?;
        let id = self.id.at(index, slot.generation);
        slot.generation = slot.generation.wrapping_add(1);
        slot.link.set_next(core::mem::replace(&mut self.free, index + 1));
        Some((TimerId(id), slot.tag))
    }

    /// Returns the time before which no timer is due, or `now` if it has passed. It may be that of a cancelled timer.
    /// `None` if none is set.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.wheel.as_deref()?.next().map(|tick| now.near(tick).max(now))
    }

    /// Removes the timer that is due first at the time `now`, and returns its id and tag. `None` if none is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(TimerId, u64)> {
        let index = self.wheel.as_deref_mut()?.expired(&mut self.slots, now.tick())?;
        self.release(index)
    }
}
