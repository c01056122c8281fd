//! A hierarchical timer wheel in fixed memory: set and cancel take O(1), without allocation.
//!
//! Six levels of 64 lists cover all 32 bits of a tick (a millisecond). A timer is on the level of the highest bit in
//! which its due tick differs from the wheel's, and moves to lower levels as the wheel approaches it. The lists are
//! doubly linked through the slots themselves, so the wheel's own memory is the same for one socket and for a million.

#![expect(clippy::cast_possible_truncation, reason = "levels and lists are few")]

use crate::time::at_or_before;

const LEVELS: usize = 6;
const BITS: u32 = 6;
const LISTS: usize = 1 << BITS;

/// The maximum distance of a timer, so that the signed distance of ticks stays meaningful.
pub(crate) const HORIZON: u32 = 1 << 30;

/// The maximum distance from the tick that a wheel has reached to the current one, about 6 days. Together with
/// [`HORIZON`], it is less than the distance at which a tick would seem to be in the past.
const LAG_MAX: u32 = HORIZON / 2;

/// A timer's links in the wheel; part of every slot. Indices are stored plus one, so that 0 means none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct TimerLink {
    next: u32,
    /// [`HEAD`] for the first timer of a list; 0 if the timer is not filed.
    prev: u32,
    due: u32,
}

const HEAD: u32 = u32::MAX;

impl TimerLink {
    const fn is_filed(&self) -> bool {
        self.prev != 0
    }

    pub(crate) fn due(&self) -> Option<u32> {
        self.is_filed().then_some(self.due)
    }

    /// Sets the next slot of the free list. Free slots have no timer, so that list uses the same field.
    pub(crate) fn set_next(&mut self, next: u32) {
        debug_assert!(!self.is_filed());
        self.next = next;
    }

    pub(crate) fn take_next(&mut self) -> u32 {
        debug_assert!(!self.is_filed());
        core::mem::take(&mut self.next)
    }
}

/// Access to the timer links of the slots.
pub(crate) trait TimerLinks {
    fn link(&mut self, index: u32) -> &mut TimerLink;
}

#[derive(Debug)]
pub(crate) struct Wheel {
    now: u32,
    /// The number of filed timers.
    filed: u32,
    /// While any timer is filed, none is due before this tick. Most turns check nothing else.
    soonest: u32,
    /// For each level, a bit for each list that is not empty.
    occupied: [u64; LEVELS],
    heads: [[u32; LISTS]; LEVELS],
    /// No timer of a list is due before this tick, so that the poller does not wake only to move timers to a lower
    /// level.
    earliest: [[u32; LISTS]; LEVELS],
}

impl Wheel {
    pub(crate) const fn new(now: u32) -> Self {
        Self {
            now,
            filed: 0,
            soonest: 0,
            occupied: [0; LEVELS],
            heads: [[0; LISTS]; LEVELS],
            earliest: [[0; LISTS]; LEVELS],
        }
    }

    /// Removes all timers and returns to tick 0. In place, because a wheel is large for the call stack of a device.
    pub(crate) const fn reset(&mut self) {
        (self.now, self.filed, self.soonest) = (0, 0, 0);
        self.occupied = [0; LEVELS];
        self.heads = [[0; LISTS]; LEVELS]; // `earliest` is set with the first timer of a list
    }

    /// Moves a wheel without timers to tick `now`.
    pub(crate) const fn skip_to(&mut self, now: u32) {
        if self.filed == 0 {
            self.now = now;
        }
    }

    /// Returns the level and the list for a timer.
    fn place(&self, due: u32) -> (usize, usize) {
        // with the low bits set, so that a timer that is due now is on level 0, too
        let differs = (due ^ self.now) | (LISTS as u32 - 1);
        let level = (31 - differs.leading_zeros()) / BITS;
        (level as usize, ((due >> (level * BITS)) as usize) % LISTS)
    }

    /// Files the timer of slot `index` for tick `due`. A tick in the past is due now.
    pub(crate) fn set(&mut self, links: &mut impl TimerLinks, index: u32, due: u32) {
        self.cancel(links, index);
        let due = if at_or_before(due, self.now) { self.now } else { due };
        self.file(links, index, due);
        if self.filed == 1 || at_or_before(due, self.soonest) {
            self.soonest = due;
        }
    }

    #[expect(clippy::indexing_slicing, reason = "`place` returns a level < LEVELS and a list < LISTS")]
    fn file(&mut self, links: &mut impl TimerLinks, index: u32, due: u32) {
        self.filed += 1;
        let (level, list) = self.place(due);
        let head = &mut self.heads[level][list];
        let next = core::mem::replace(head, index + 1);
        let earliest = &mut self.earliest[level][list];
        if next == 0 || at_or_before(due, *earliest) {
            *earliest = due;
        }
        self.occupied[level] |= 1 << list;
        *links.link(index) = TimerLink { next, prev: HEAD, due };
        if next != 0 {
            links.link(next - 1).prev = index + 1;
        }
    }

    /// Removes the timer of slot `index`, if it is filed.
    #[expect(clippy::indexing_slicing, reason = "`place` returns a level < LEVELS and a list < LISTS")]
    pub(crate) fn cancel(&mut self, links: &mut impl TimerLinks, index: u32) {
        let link = core::mem::take(links.link(index));
        if !link.is_filed() {
            return;
        }
        self.filed -= 1;
        if link.next != 0 {
            links.link(link.next - 1).prev = link.prev;
        }
        if link.prev != HEAD {
            links.link(link.prev - 1).next = link.next;
            return;
        }
        let (level, list) = self.head_of(index, link.due);
        self.heads[level][list] = link.next;
        if link.next == 0 {
            self.occupied[level] &= !(1 << list);
        }
    }

    /// Returns the list whose first timer is that of slot `index`. A timer keeps the level on which it was filed while
    /// the wheel moves towards it, so its level cannot be computed from its distance.
    #[expect(clippy::indexing_slicing, reason = "the list is taken modulo LISTS")]
    fn head_of(&self, index: u32, due: u32) -> (usize, usize) {
        for (level, heads) in self.heads.iter().enumerate() {
            let list = ((due >> (level as u32 * BITS)) as usize) % LISTS;
            if heads[list] == index + 1 {
                return (level, list);
            }
        }
        unreachable!("a filed timer without a predecessor heads a list")
    }

    /// Returns the tick that the wheel has reached. While timers expire, it is that of the last one.
    pub(crate) const fn now(&self) -> u32 {
        self.now
    }

    /// Returns the tick to which the wheel must be advanced next: no timer is due before it. It may be that of a timer
    /// that was cancelled, or serve only to bring the wheel up to date. `None` if no timer is filed.
    pub(crate) const fn next(&self) -> Option<u32> {
        let latest = self.now.wrapping_add(LAG_MAX);
        match self.filed {
            0 => None,
            _ if at_or_before(latest, self.soonest) => Some(latest),
            _ => Some(self.soonest),
        }
    }

    /// Returns a tick before which no timer is due.
    fn find_soonest(&self) -> Option<u32> {
        let mut best = None;
        for (level, lists) in self.earliest.iter().enumerate() {
            let Some(list) = self.first_of(level) else { continue };
            let due = lists.get(list as usize).copied().unwrap_or(self.now);
            // `cancel` does not raise `earliest`, so it may lie in the past
            let due = if at_or_before(due, self.now) { self.now } else { due };
            if best.is_none_or(|other| at_or_before(due, other)) {
                best = Some(due);
            }
        }
        best
    }

    /// Returns the next list of a level that holds a timer.
    fn first_of(&self, level: usize) -> Option<u32> {
        let occupied = self.occupied.get(level).copied().filter(|lists| *lists != 0)?;
        let here = (self.now >> (level as u32 * BITS)) % LISTS as u32;
        // below the top level all occupied lists are at or ahead of `here`; on the top level they wrap around
        let ahead = occupied.rotate_right(here).trailing_zeros();
        Some((here + ahead) % LISTS as u32)
    }

    /// Returns the list that the wheel reaches next: its level, its number and its first tick.
    fn first(&self) -> Option<(usize, usize, u32)> {
        let mut best: Option<(usize, usize, u32)> = None;
        for level in 0..LEVELS {
            let Some(list) = self.first_of(level) else { continue };
            let shift = level as u32 * BITS;
            let above = if shift + BITS >= 32 { 0 } else { (self.now >> (shift + BITS)) << (shift + BITS) };
            let start = above | list << shift;
            let at = if at_or_before(start, self.now) { self.now } else { start };
            // on a tie the higher level comes first: it may hold timers that belong on the lower one
            if best.is_none_or(|(_, _, other)| at_or_before(at, other)) {
                best = Some((level, list as usize, at));
            }
        }
        best
    }

    /// Advances the wheel to tick `to` and returns one slot whose timer was due and is now removed. Returns `None` once
    /// no more timers are due.
    #[expect(clippy::indexing_slicing, reason = "`place` returns a level < LEVELS and a list < LISTS")]
    pub(crate) fn expired(&mut self, links: &mut impl TimerLinks, to: u32) -> Option<u32> {
        if self.filed > 0 && !at_or_before(self.soonest, to) && to.wrapping_sub(self.now) < LAG_MAX {
            // the common case: no list is searched, and the wheel stays where it is
            return None;
        }
        while let Some((level, list, at)) = self.first() {
            if !at_or_before(at, to) {
                break;
            }
            // only to the start of the list: the timers in it are filed again relative to that tick
            self.now = at;
            let index = self.heads[level][list] - 1;
            let due = links.link(index).due;
            self.cancel(links, index);
            if at_or_before(due, self.now) {
                return Some(index);
            }
            self.file(links, index, due); // not due yet: now on a lower level
        }
        if at_or_before(self.now, to) {
            self.now = to;
        }
        self.soonest = self.find_soonest().unwrap_or(to);
        None
    }
}

#[cfg(test)]
#[expect(
    clippy::excessive_nesting,
    clippy::cast_possible_wrap,
    reason = "a model is checked step by step alongside the code"
)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    struct Table(Vec<TimerLink>);
    impl TimerLinks for Table {
        fn link(&mut self, index: u32) -> &mut TimerLink {
            &mut self.0[index as usize]
        }
    }

    fn drain(wheel: &mut Wheel, table: &mut Table, to: u32) -> Vec<u32> {
        let mut out = Vec::new();
        while let Some(index) = wheel.expired(table, to) {
            out.push(index);
        }
        out.sort_unstable();
        out
    }

    #[test]
    fn agrees_with_a_sorted_map_across_the_wrap() {
        for start in [0_u32, 1_000, u32::MAX - 100_000, u32::MAX / 2] {
            let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
            let mut random = move |below: u32| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 33) as u32 % below
            };
            let mut table = Table(std::vec![TimerLink::default(); 200]);
            let mut wheel = Wheel::new(start);
            let mut oracle = BTreeMap::new(); // slot -> due, as distance from start
            let mut now = 0_u64;
            for _ in 0..20_000 {
                match random(10) {
                    0..6 => {
                        let index = random(200);
                        let span = [1, 50, 4_000, 300_000, HORIZON][random(5) as usize];
                        let ahead = u64::from(random(span));
                        wheel.set(&mut table, index, start.wrapping_add((now + ahead) as u32));
                        oracle.insert(index, now + ahead);
                    }
                    6 => {
                        let index = random(200);
                        wheel.cancel(&mut table, index);
                        oracle.remove(&index);
                    }
                    _ => {
                        if let (Some(next), Some(&first)) = (wheel.next(), oracle.values().min()) {
                            let next = next.wrapping_sub(start.wrapping_add(now as u32)).cast_signed();
                            assert!(now as i64 + i64::from(next) <= first as i64, "would sleep too long");
                        }
                        assert_eq!(wheel.next().is_none(), oracle.is_empty());
                        let span = [1, 100, 70_000][random(3) as usize];
                        now += u64::from(random(span));
                        let due: Vec<u32> =
                            oracle.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
                        assert_eq!(drain(&mut wheel, &mut table, start.wrapping_add(now as u32)), due);
                        oracle.retain(|_, at| *at > now);
                    }
                }
            }
        }
    }

    #[test]
    fn following_next_alone_reaches_a_timer_exactly() {
        for due in [1_u32, 63, 64, 65, 4_096, 262_144, 1 << 29] {
            let mut table = Table(std::vec![TimerLink::default(); 1]);
            let mut wheel = Wheel::new(0);
            wheel.set(&mut table, 0, due);
            let mut steps = 0;
            loop {
                let at = wheel.next().unwrap();
                assert!(at <= due);
                steps += 1;
                if wheel.expired(&mut table, at) == Some(0) {
                    assert_eq!(at, due);
                    break;
                }
            }
            assert_eq!(steps, 1, "wake-ups for one timer");
        }
    }

    #[test]
    fn a_clock_that_stops_or_goes_back_fires_no_timer_twice() {
        let mut table = Table(std::vec![TimerLink::default(); 2]);
        let mut wheel = Wheel::new(100);
        wheel.set(&mut table, 0, 100);
        wheel.set(&mut table, 1, 200);
        assert_eq!(drain(&mut wheel, &mut table, 100), [0]);
        assert_eq!(drain(&mut wheel, &mut table, 100), []);
        assert_eq!(drain(&mut wheel, &mut table, 50), []);
        assert_eq!(drain(&mut wheel, &mut table, 199), []);
        assert_eq!(drain(&mut wheel, &mut table, 200), [1]);
    }
}
