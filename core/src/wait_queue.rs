//! The FIFO queues in which sockets wait for blocks.

/// The size in bytes of a socket's links in a wait queue.
pub(crate) const WAIT_LINK_BYTES: usize = 8;

/// Whether and how a socket waits for a block.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Waiting {
    /// The socket does not wait.
    #[default]
    None,
    /// It is in the queue for output blocks.
    Output,
    /// It is in the queue for output blocks again, since the granted block was not enough. Its next grant is
    /// exclusive.
    OutputAgain,
    /// It is still in the queue for output blocks, but has already taken a block that was not set aside for
    /// another socket.
    OutputTaken,
    /// It was granted an output block and has not taken it yet. It is in no queue.
    Granted,
    /// It was granted all output blocks that it may take, and has taken none yet. It is in no queue.
    GrantedAll,
    /// It has taken the output block that it was granted. It is in no queue.
    GrantTaken,
    /// It is in the queue for input blocks of either size.
    Input,
    /// It was the first of the queue for input blocks, and may receive before the sockets still in that
    /// queue.
    MayReceive,
    /// It is in the queue for large input blocks.
    LargeInput,
}

impl Waiting {
    /// Returns whether the socket was granted output blocks that it has not taken yet.
    pub(crate) const fn is_granted(self) -> bool {
        matches!(self, Self::Granted | Self::GrantedAll)
    }

    /// Returns whether the socket waits in the queue for output blocks.
    pub(crate) const fn waits_for_output(self) -> bool {
        matches!(self, Self::Output | Self::OutputAgain)
    }

    /// Returns the number of blocks that are set aside for the socket.
    pub(crate) const fn weight(self) -> u32 {
        // An exclusive grant sets aside more blocks than any pool has, so that no other socket can take or be
        // granted one.
        const MORE_THAN_THERE_ARE: u32 = 1 << 30;
        if matches!(self, Self::GrantedAll) { MORE_THAN_THERE_ARE } else { 1 }
    }
}

/// The links of all sockets of a shard, in lent memory.
///
/// A socket is in one queue at a time, so all queues share the links. A queue is linked in both directions, so
/// that a socket that closes is removed in constant time and no slot is reused while it is in a queue.
#[derive(Debug)]
pub(crate) struct WaitLinks<'m> {
    /// The sockets before and after each socket, plus one; 0 means none. Unspecified for sockets that are in
    /// no queue.
    links: &'m mut [[u8; WAIT_LINK_BYTES]],
}

/// A FIFO queue of sockets. Indices are stored plus one; 0 means none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct WaitQueue {
    first: u32,
    last: u32,
    len: u32,
}

impl<'m> WaitLinks<'m> {
    pub(crate) fn new(links: &'m mut [[u8; WAIT_LINK_BYTES]]) -> Self {
        Self { links }
    }

    #[expect(clippy::indexing_slicing, reason = "there is a link for each socket")]
    pub(crate) fn get(&self, index: u32) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.links[index as usize];
        (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    }

    #[expect(clippy::indexing_slicing, reason = "there is a link for each socket")]
    pub(crate) fn set(&mut self, index: u32, before: u32, after: u32) {
        let ([a, b, c, d], [e, f, g, h]) = (before.to_ne_bytes(), after.to_ne_bytes());
        self.links[index as usize] = [a, b, c, d, e, f, g, h];
    }
}

impl WaitQueue {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the socket that has waited longest.
    pub(crate) fn first(&self) -> Option<u32> {
        self.first.checked_sub(1)
    }

    /// Appends a socket, which must be in no queue.
    pub(crate) fn push(&mut self, links: &mut WaitLinks<'_>, index: u32) {
        links.set(index, self.last, 0);
        match self.last.checked_sub(1) {
            Some(last) => {
                let (before, _) = links.get(last);
                links.set(last, before, index + 1);
            }
            None => self.first = index + 1,
        }
        self.last = index + 1;
        self.len += 1;
    }

    /// Removes a socket, which must be in this queue.
    pub(crate) fn remove(&mut self, links: &mut WaitLinks<'_>, index: u32) {
        let (before, after) = links.get(index);
        match before.checked_sub(1) {
            Some(neighbour) => {
                let (first, _) = links.get(neighbour);
                links.set(neighbour, first, after);
            }
            None => self.first = after,
        }
        match after.checked_sub(1) {
            Some(neighbour) => {
                let (_, last) = links.get(neighbour);
                links.set(neighbour, before, last);
            }
            None => self.last = before,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::VecDeque;

    const SOCKETS: u32 = 9;

    /// Compares two queues that share their links with two queues of the standard library: sockets are
    /// appended, removed from any position, and appended again, possibly to the other queue.
    #[test]
    fn queues_are_first_in_first_out_whichever_is_removed() {
        let mut memory = [[0xEE; WAIT_LINK_BYTES]; SOCKETS as usize];
        let mut links = WaitLinks::new(&mut memory);
        let mut queues = [WaitQueue::default(); 2];
        let mut models = [VecDeque::new(), VecDeque::new()];
        let mut seed = 5_u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..100_000 {
            let (which, index) = (random(2) as usize, random(SOCKETS));
            let queued = models.iter().position(|model| model.contains(&index));
            match (queued, random(4)) {
                (_, 0) => {
                    let first = queues[which].first();
                    assert_eq!(first, models[which].pop_front());
                    first.into_iter().for_each(|first| queues[which].remove(&mut links, first));
                }
                (None, _) => {
                    queues[which].push(&mut links, index);
                    models[which].push_back(index);
                }
                (Some(queue), _) => {
                    queues[queue].remove(&mut links, index);
                    models[queue].retain(|other| *other != index);
                }
            }
            for (queue, model) in queues.iter().zip(&models) {
                assert_eq!((queue.len() as usize, queue.is_empty()), (model.len(), model.is_empty()));
            }
        }
        for (mut queue, mut model) in queues.into_iter().zip(models) {
            while let Some(index) = model.pop_front() {
                assert_eq!(queue.first(), Some(index));
                queue.remove(&mut links, index);
            }
            assert_eq!(queue.first(), None);
        }
    }
}
