//! What is to happen, in the order of time; what falls on one moment, in the order that the seed picks.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Scheduled {
    /// A poller takes a turn, unless it has taken one since (its count of turns).
    Turn { poller: u32, since: u32 },
    /// A poller's timer goes off.
    Timer { poller: u32 },
    /// Something arrives at an end, if it is still the same use of it.
    Arrive { end: u32, uid: u32, what: Arrival },
    /// A scripted peer goes on, unless it has since (its count of steps).
    Peer { peer: u32, since: u32 },
    /// An engine is told to stop.
    Stop { engine: u32, grace_ms: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Arrival {
    Bytes(u32),
    End,
    Reset,
    /// The window is open again, so that the end can be sent to; it is the end that receives.
    Window,
    Connected,
    Refused,
    Unanswered,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at: u64,
    /// What the seed picked, then first come first served.
    order: u64,
    due: Scheduled,
}

#[derive(Default, Debug)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

const PICKED_SHIFT: u32 = 56;

impl Agenda {
    #[inline]
    pub(crate) fn add(&mut self, at: u64, picked: u8, due: Scheduled) {
        self.count += 1;
        let order = u64::from(picked) << PICKED_SHIFT | self.count;
        self.heap.push(Reverse(Entry { at, order, due }));
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<(u64, Scheduled)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.due))
    }

    pub(crate) fn when(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }
}
