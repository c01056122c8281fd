//! Pending simulated events, ordered by time; simultaneous ones in an order drawn from the seed.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// A pending simulated event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Scheduled {
    /// A poller takes a turn, unless its turn count has changed from `since`.
    Turn { poller: u32, since: u32 },
    /// A poller's timer fires.
    Timer { poller: u32 },
    /// Something arrives at an endpoint, unless its descriptor number has been reused.
    Arrive { end: u32, uid: u32, what: Arrival },
    /// A scripted peer continues, unless its step count has changed from `since`.
    Peer { peer: u32, since: u32 },
    /// An engine begins to stop.
    Stop { engine: u32, grace_ms: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Arrival {
    Bytes(u32),
    End,
    Reset,
    /// The window of this endpoint has reopened, so that the other one may send again.
    Window,
    Connected,
    Refused,
    Unanswered,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at: u64,
    /// The drawn order in the high bits, then the order of insertion.
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
