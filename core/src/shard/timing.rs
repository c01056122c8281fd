//! When something is due for a socket, and what happens then.

use super::{STOP_LINGER, Shard};
use crate::config::Config;
use crate::error::{CloseReason, Timeout};
use crate::life::{State, Transition};
use crate::slot::{ControlBlock, Flags, Pending};
use crate::time::{at_or_before, millis_ceil};
use core::time::Duration;

/// The timeouts in ticks, rounded up, plus one because `now` may be almost a tick old. 0 means disabled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    pub(super) connect: u32,
    pub(super) first_byte: u32,
    pub(super) idle: u32,
    pub(super) write_stall: u32,
    pub(super) drain: u32,
    pub(super) linger: u32,
    /// The time from one check of the rate of output to the next. 0 means disabled.
    pub(super) rate: u32,
}

impl<D> Shard<'_, D> {
    /// Files the socket's timer if it is now due earlier than it is filed for. If it is due later, the timer
    /// is left, and refiled when it fires: progress thus costs nothing.
    pub(crate) fn rearm_timer(&mut self, index: u32) {
        let now = self.now.tick();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.control.flags.clear(Flags::TIMES);
        let idle_at = if self.idle.is_on() { self.note_idle(index, now) } else { None };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let (filed, lingers) = (slot.control.timer.due(), slot.control.state == State::Lingering);
        let due = self.ticks.due(&slot.control);
        let looks = (self.asks && due.is_some()) || (self.windows.is_on() && !lingers);
        let look = self.ticks.look(&slot.control).filter(|_| looks);
        let look_at = look.map(|span| now.wrapping_add(span));
        let Some(at) = soonest(soonest(due.map(|(due, _)| due), look_at), idle_at) else { return };
        if lingers {
            self.note(index, 0); // the earlier checks were in another state
        }
        if filed.is_some_and(|filed| at_or_before(filed, at)) {
            return;
        }
        // A timeout that has already passed puts the socket into the ready queue, for the next turn: from the
        // wheel it could expire again and again within this turn.
        let asks = |whose: TimerKind| match whose {
            TimerKind::Connect => true,
            // a peer that takes output puts these off: the driver is first asked how much it has taken
            TimerKind::Linger | TimerKind::Engine(Timeout::WriteStall | Timeout::Drain | Timeout::Idle) => {
                self.asks && look.is_some()
            }
            TimerKind::Handler
            | TimerKind::Engine(Timeout::Connect | Timeout::FirstByte | Timeout::WriteRate) => false,
        };
        if due.is_some_and(|(due, whose)| at_or_before(due, now) && !asks(whose)) {
            self.expire_unasked(index);
            self.queue(index);
        } else {
            self.wheel.set(&mut self.slots, index, at);
        }
    }

    /// Files the timer of a socket for this tick, unless it is filed for an earlier one.
    pub(super) fn file_by(&mut self, index: u32, at: u32) {
        let filed = self.slots.get(index).and_then(|slot| slot.control.timer.due());
        if filed.is_none_or(|filed| !at_or_before(filed, at)) {
            self.wheel.set(&mut self.slots, index, at);
        }
    }

    /// Appends a socket to the idle queue if it had been idle for long enough at the tick `now`, and removes it if it
    /// had not. Returns when it will have been, if nothing happens before.
    #[cold]
    pub(super) fn note_idle(&mut self, index: u32, now: u32) -> Option<u32> {
        if self.idle.is_exempt(index) {
            return None;
        }
        let control = &mut self.slots.get_mut(index)?.control;
        let at = control.is_idle().then(|| self.idle.due(control.seen));
        let later = at.filter(|at| !at_or_before(*at, now));
        if at.is_some() && later.is_none() {
            self.idle.insert(index);
        } else {
            self.idle.remove(index);
        }
        // in the queue or busy: its next run checks again
        if later.is_none() && control.state.is_live() {
            control.flags.set(Flags::TIMES);
        }
        later
    }

    /// Clears the request for a call of the driver, if it is for this socket. Returns whether it was.
    pub(crate) fn take_asked(&mut self, index: u32) -> bool {
        self.asked.take_if(|asked| *asked == index).is_some()
    }

    /// Records the undelivered bytes of a socket, plus one; 0 if they are not known.
    pub(crate) fn note(&mut self, index: u32, left: u32) {
        if let Some(noted) = self.noted.get_mut(index as usize).filter(|_| self.asks) {
            *noted = left.to_ne_bytes();
        }
    }

    /// Checks a socket whose peer seems to take nothing, or takes it slowly, given its undelivered bytes. If they are
    /// fewer than at the last check, the peer has made progress, and its timeout starts again. Returns whether
    /// something is due.
    #[cold]
    pub(crate) fn look(&mut self, index: u32, undelivered: Option<usize>) -> bool {
        self.take_asked(index);
        let now = self.now.tick();
        let before = self.noted.get(index as usize).map_or(0, |noted| u32::from_ne_bytes(*noted));
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let control = &mut slot.control;
        let (due, lingers) = (self.ticks.due_at(control), control.state == State::Lingering);
        let is_due = due.is_some_and(|due| at_or_before(due, now));
        // a lingering socket is checked only when its timeout has passed
        let Some(span) = self.ticks.look(control).filter(|_| is_due || !lingers) else {
            return self.expire_unasked(index);
        };
        // of a lingering socket, the end of the stream may count as one undelivered byte
        let waits = !lingers || undelivered.is_some_and(|bytes| bytes > 1);
        if waits && self.windows.is_too_slow(control, index, undelivered.unwrap_or(0), now) {
            if !lingers {
                control.set_close_reason(CloseReason::TimedOut(Timeout::WriteRate));
            }
            return control.step(Transition::Expire, now);
        }
        let rated = self.windows.is_on().then_some(now.wrapping_add(span));
        let Some(undelivered) = undelivered else {
            let expires = self.expire_unasked(index);
            if let Some(at) = soonest(due, rated).filter(|_| !is_due && rated.is_some()) {
                self.wheel.set(&mut self.slots, index, at);
            }
            return expires;
        };
        let left = u32::try_from(undelivered).unwrap_or(u32::MAX).saturating_add(1);
        // without an earlier check, the peer may have taken something since the stall began
        let takes = before == 0 || left < before;
        // The end of the stream may count as one undelivered byte. The peer could not respond to it before
        // everything else was delivered, so the linger timeout restarts when a check first finds that.
        let delivered = left <= 2;
        let progress = if lingers && delivered { before > 2 } else { takes };
        if progress {
            control.progressed(now, self.shared.first_byte);
        }
        let until = if lingers && !delivered {
            Some(control.seen.wrapping_add(self.ticks.drain.max(self.ticks.linger)))
        } else {
            self.ticks.due_at(control)
        };
        self.note(index, left);
        match until {
            Some(until) if at_or_before(until, now) => return self.expire_unasked(index),
            None if rated.is_none() => return false,
            Some(_) | None => {}
        }
        if let Some(at) = soonest(until, Some(now.wrapping_add(span))) {
            self.wheel.set(&mut self.slots, index, at);
        }
        false
    }

    /// Handles a timer that has fired. Returns whether the socket is due for a turn or a check; otherwise its
    /// timer may be filed again for later.
    pub(super) fn expire(&mut self, index: u32) -> bool {
        let (now, rated) = (self.now.tick(), self.windows.is_on());
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let control = &mut slot.control;
        let lingers = control.state == State::Lingering;
        if control.chain.is_empty() && !lingers {
            control.flags.clear(Flags::RATED);
        }
        let due = self.ticks.due_at(control);
        let in_time =
            if lingers { due.is_some_and(|due| at_or_before(due, now)) } else { due.is_some() || rated };
        let looks = in_time && self.ticks.look(control).is_some();
        if looks && self.asks {
            self.asked = Some(index);
            return true;
        }
        if looks && rated && !lingers { self.look(index, None) } else { self.expire_unasked(index) }
    }

    fn expire_unasked(&mut self, index: u32) -> bool {
        let now = self.now.tick();
        let Some(slot) = self.slots.get_mut(index) else { return false };
        match self.ticks.due(&slot.control) {
            None => return false,
            Some((due, _)) if !at_or_before(due, now) => {
                self.wheel.set(&mut self.slots, index, due);
                return false;
            }
            Some((_, TimerKind::Handler)) => {
                slot.control.flags.clear(Flags::DEADLINE);
                slot.control.pending.set(Pending::TIMEOUT);
                slot.control.flags.set(Flags::TIMES);
            }
            // the handler's deadline was earlier: `timeout` is delivered first, then this is checked again
            Some(_) if slot.control.pending.has(Pending::TIMEOUT) => {
                slot.control.flags.set(Flags::TIMES);
                return false;
            }
            Some((_, TimerKind::Engine(which))) => {
                slot.control.set_close_reason(CloseReason::TimedOut(which));
                slot.control.step(Transition::Expire, now);
            }
            // a staged close has waited long enough; its reason does not change
            Some((_, TimerKind::Linger)) => {
                slot.control.step(Transition::Expire, now);
            }
            Some((_, TimerKind::Connect)) => {
                slot.control.flags.clear(Flags::DEADLINE);
                slot.control.flags.set(Flags::TIMES);
                self.asked = Some(index);
            }
        }
        true
    }
}

/// The kind of a deadline.
#[derive(Clone, Copy, Debug)]
enum TimerKind {
    Handler,
    Engine(Timeout),
    Linger,
    /// The time of the next connect attempt.
    Connect,
}

/// The number of checks within the timeout of a socket whose peer takes nothing.
const LOOKS: u32 = 8;

impl Ticks {
    pub(super) fn new(config: &Config, look: u32) -> Self {
        let ticks = |span: Option<Duration>| span.map_or(0, |span| millis_ceil(span) as u32 + 1);
        let timeouts = &config.timeouts;
        Self {
            connect: ticks(timeouts.connect),
            first_byte: ticks(timeouts.first_byte),
            idle: ticks(timeouts.idle),
            write_stall: ticks(timeouts.write_stall),
            drain: ticks(timeouts.drain),
            linger: ticks(timeouts.linger),
            rate: look,
        }
    }

    /// Returns the time until the next check of a socket that ends if its peer takes nothing; `None` for
    /// other sockets.
    pub(super) fn look(&self, control: &ControlBlock) -> Option<u32> {
        let stalled = control.flags.has(Flags::STALLED);
        let rated = |span: u32| match (span, self.rate) {
            (span, 0) => span,
            (0, rate) => rate,
            (span, rate) => span.min(rate),
        };
        let span = match control.state {
            State::Draining | State::PreLinger if stalled => rated(self.drain / LOOKS),
            State::Lingering => self.linger,
            State::Open | State::Finishing | State::Finished | State::PeerClosed if stalled => {
                let stall = if self.write_stall > 0 { self.write_stall } else { self.idle };
                rated(stall / LOOKS)
            }
            State::Free
            | State::Reserved
            | State::Connecting
            | State::Open
            | State::Finishing
            | State::Finished
            | State::PeerClosed
            | State::Draining
            | State::PreLinger
            | State::Closed => return None,
        };
        Some(span.max(1))
    }

    /// Limits the linger timeout to [`STOP_LINGER`], even if it was disabled.
    pub(super) fn stop(&mut self) {
        let most = millis_ceil(STOP_LINGER) as u32 + 1;
        self.linger = if self.linger == 0 { most } else { self.linger.min(most) };
    }

    /// Returns the earliest tick at which something is due for the socket.
    fn due_at(&self, control: &ControlBlock) -> Option<u32> {
        self.due(control).map(|(due, _)| due)
    }

    /// Returns the earliest tick at which something is due for the socket, and what.
    fn due(&self, control: &ControlBlock) -> Option<(u32, TimerKind)> {
        let at = |from: u32, span: u32, due: TimerKind| (span > 0).then(|| (from.wrapping_add(span), due));
        let engine = |which| TimerKind::Engine(which);
        match control.state {
            State::Free | State::Reserved | State::Closed => None,
            State::Connecting => {
                // Before `open`, the handler can set no deadline: this one is the next attempt's.
                let again =
                    control.flags.has(Flags::DEADLINE).then_some((control.deadline, TimerKind::Connect));
                earliest(again, at(control.seen, self.connect, engine(Timeout::Connect)))
            }
            // from the close, or from when the peer last took output
            State::Draining | State::PreLinger => at(control.seen, self.drain, engine(Timeout::Drain)),
            State::Lingering => at(control.seen, self.linger, TimerKind::Linger),
            State::Open | State::Finishing | State::Finished | State::PeerClosed => {
                // While the first byte is awaited, `seen` is the time of opening, so a stall is measured from
                // the time noted in `kept`. Otherwise the write stall or the idle timeout runs, from `seen`.
                let quiet = if control.flags.has(Flags::SILENT) && self.first_byte > 0 {
                    let stalled = control.flags.has(Flags::STALLED);
                    let stall = at(control.kept.noted(), self.write_stall, engine(Timeout::WriteStall));
                    let first = at(control.seen, self.first_byte, engine(Timeout::FirstByte));
                    earliest(first, stall.filter(|_| stalled))
                } else if control.flags.has(Flags::STALLED) && self.write_stall > 0 {
                    at(control.seen, self.write_stall, engine(Timeout::WriteStall))
                } else if control.flags.has(Flags::ACTIVE) && !control.flags.has(Flags::STALLED) {
                    // an active socket is exempt from the idle timeout, unless its peer takes nothing
                    None
                } else {
                    at(control.seen, self.idle, engine(Timeout::Idle))
                };
                let own =
                    control.flags.has(Flags::DEADLINE).then_some((control.deadline, TimerKind::Handler));
                earliest(own, quiet)
            }
        }
    }
}

/// Returns the earlier of two ticks.
fn soonest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if at_or_before(a, b) { a } else { b }),
        (a, b) => a.or(b),
    }
}

fn earliest(a: Option<(u32, TimerKind)>, b: Option<(u32, TimerKind)>) -> Option<(u32, TimerKind)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if at_or_before(a.0, b.0) { a } else { b }),
        (a, b) => a.or(b),
    }
}
