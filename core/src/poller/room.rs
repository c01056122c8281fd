//! The handlers' requests to be notified when a mailbox has room.
//!
//! A request waits in the queue of its poller. That poller sends the one whose mailbox is full one command for all of
//! its requests. The other one answers once it has room, by setting a bit, which needs no room itself. The invariant:
//! between turns, for each poller that a queued request names, an ask is on its way there, is kept there, or is answered;
//! or the next turn asks again.

use core::mem::MaybeUninit;

use crate::table::Table;
use crate::{Instant, PollerId, RoomError, Token};

/// The maximum of [`Config::room_requests`](crate::Config).
pub(crate) const ROOM_REQUESTS_MAX: usize = 1_024;

/// A handler's request to be notified of room, in the memory lent to a poller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomRequest {
    /// The poller whose mailbox was full.
    pub(crate) at: PollerId,
    /// The socket to notify; `None` for the poller itself.
    pub(crate) socket: Option<Token>,
}

/// The requests of one poller, the oldest first.
pub(crate) struct RoomQueue<'s> {
    places: Table<'s, RoomRequest>,
    capacity: usize,
    len: u32,
    /// The requests that are still to be looked at in this round: from this place on, and before that one.
    round: (u32, u32),
    /// When the poller next has to ask for requests that it has not asked for; `None` if there are none.
    pub(crate) ask_at: Option<Instant>,
}

impl<'s> RoomQueue<'s> {
    /// Creates an empty queue of at most `capacity` requests.
    pub(crate) fn new(memory: &'s mut [MaybeUninit<RoomRequest>], capacity: usize) -> Self {
        let capacity = capacity.min(ROOM_REQUESTS_MAX);
        Self { places: Table::new(memory), capacity, len: 0, round: (0, 0), ask_at: None }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Returns the request at a place from 0, the oldest, to the length.
    pub(crate) fn get(&self, place: u32) -> Option<RoomRequest> {
        if place < self.len { self.places.get(place).copied() } else { None }
    }

    /// Appends a request, unless it is there already. Requests of sockets that have ended make room for it.
    pub(crate) fn push(
        &mut self,
        request: RoomRequest,
        now: Instant,
        lives: impl Fn(Token) -> bool,
    ) -> Result<(), RoomError> {
        if self.capacity == 0 {
            return Err(RoomError::Unsupported);
        }
        if (0..self.len).any(|place| self.get(place) == Some(request)) {
            return Ok(());
        }
        if self.len as usize == self.capacity {
            self.remove_all(|socket| !lives(socket));
        }
        if self.len as usize >= self.capacity {
            return Err(RoomError::Full);
        }
        match self.places.get_mut(self.len) {
            Some(place) => *place = request,
            None => self.places.push(request).map_err(|_| RoomError::Full)?,
        }
        self.len += 1;
        self.ask_at = Some(now);
        Ok(())
    }

    /// Removes the requests of some sockets.
    #[cold]
    fn remove_all(&mut self, which: impl Fn(Token) -> bool) {
        for place in (0..self.len).rev() {
            if self.get(place).and_then(|request| request.socket).is_some_and(&which) {
                self.remove(place);
            }
        }
    }

    /// Begins a round over the requests that are there now. Those that are made meanwhile wait for the next one.
    pub(crate) const fn begin_round(&mut self) {
        self.round = (0, self.len);
    }

    /// Removes and returns the next request of the round whose poller has answered.
    pub(crate) fn take(&mut self, has_answer: impl Fn(PollerId) -> bool) -> Option<RoomRequest> {
        while self.round.0 < self.round.1 {
            let request = self.get(self.round.0)?;
            if has_answer(request.at) {
                self.remove(self.round.0);
                return Some(request);
            }
            self.round.0 += 1;
        }
        None
    }

    /// Removes the request at a place. Those after it move up, and so does the round over them.
    fn remove(&mut self, place: u32) {
        let (next, end) = self.round;
        self.round = (next - u32::from(place < next), end - u32::from(place < end));
        for after in place + 1..self.len {
            if let (Some(request), Some(to)) = (self.get(after), self.places.get_mut(after - 1)) {
                *to = request;
            }
        }
        self.len = self.len.saturating_sub(1);
    }
}

/// The result of asking another poller for an answer when its mailbox has room.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RoomAsk {
    /// The answer will come.
    Asked,
    /// There is no room for the question either: ask again later.
    Busy,
    /// There is no such poller, or it has ended. Its answer is there.
    Gone,
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::vec::Vec;

    use super::*;

    const NOW: Instant = Instant::from_millis(5);

    fn request(at: u8, socket: u64) -> RoomRequest {
        RoomRequest { at: PollerId(at), socket: Some(Token::from_bits(socket)) }
    }

    fn all(queue: &RoomQueue<'_>) -> Vec<RoomRequest> {
        (0..queue.len()).filter_map(|place| queue.get(place)).collect()
    }

    #[test]
    fn requests_keep_their_order_and_each_is_there_once() {
        let mut memory = [const { MaybeUninit::uninit() }; 4];
        let mut queue = RoomQueue::new(&mut memory, 4);
        for socket in [7, 5, 7, 6, 5] {
            assert_eq!(queue.push(request(1, socket), NOW, |_| true), Ok(()));
        }
        assert_eq!(all(&queue), [request(1, 7), request(1, 5), request(1, 6)]);
        queue.remove(1);
        assert_eq!(queue.push(request(2, 7), NOW, |_| true), Ok(()));
        assert_eq!(all(&queue), [request(1, 7), request(1, 6), request(2, 7)]);
    }

    #[test]
    fn a_full_queue_refuses_one_more_and_takes_it_after_one_left() {
        let mut memory = [const { MaybeUninit::uninit() }; 4];
        let mut queue = RoomQueue::new(&mut memory, 3);
        for socket in 0..3 {
            assert_eq!(queue.push(request(0, socket), NOW, |_| true), Ok(()));
        }
        assert_eq!(queue.push(request(0, 3), NOW, |_| true), Err(RoomError::Full));
        assert_eq!(queue.push(request(0, 2), NOW, |_| true), Ok(()), "it is there already");
        queue.remove(0);
        assert_eq!(queue.push(request(0, 3), NOW, |_| true), Ok(()));
        assert_eq!(all(&queue), [request(0, 1), request(0, 2), request(0, 3)]);
    }

    #[test]
    fn requests_of_sockets_that_have_ended_make_room() {
        let mut memory = [const { MaybeUninit::uninit() }; 3];
        let mut queue = RoomQueue::new(&mut memory, 3);
        assert_eq!(queue.push(RoomRequest { at: PollerId(0), socket: None }, NOW, |_| true), Ok(()));
        for socket in [1, 2] {
            assert_eq!(queue.push(request(0, socket), NOW, |_| true), Ok(()));
        }
        assert_eq!(queue.push(request(0, 3), NOW, |socket| socket.to_bits() != 1), Ok(()));
        assert_eq!(all(&queue)[1..], [request(0, 2), request(0, 3)]);
    }

    #[test]
    fn a_round_keeps_its_order_although_requests_of_ended_sockets_are_removed_in_it() {
        let mut memory = [const { MaybeUninit::uninit() }; 4];
        let mut queue = RoomQueue::new(&mut memory, 4);
        for (at, socket) in [(2, 9), (1, 5), (1, 6), (1, 7)] {
            assert_eq!(queue.push(request(at, socket), NOW, |_| true), Ok(()));
        }
        queue.begin_round();
        let take = |queue: &mut RoomQueue<'_>| queue.take(|at| at == PollerId(1));
        assert_eq!(take(&mut queue), Some(request(1, 5)));
        // the second one finds the queue full
        for socket in [5, 4] {
            assert_eq!(queue.push(request(1, socket), NOW, |socket| socket.to_bits() != 9), Ok(()));
        }
        assert_eq!(take(&mut queue), Some(request(1, 6)));
        assert_eq!(take(&mut queue), Some(request(1, 7)));
        assert_eq!(take(&mut queue), None, "what was requested meanwhile waits for the next round");
        assert_eq!(all(&queue), [request(1, 5), request(1, 4)]);
    }

    #[test]
    fn without_memory_there_are_no_requests() {
        assert_eq!(
            RoomQueue::new(&mut [], 0).push(request(0, 1), NOW, |_| true),
            Err(RoomError::Unsupported)
        );
    }
}
