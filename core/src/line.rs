//! The lines in which sockets wait for blocks.

/// Bytes of a socket's place in a line.
pub(crate) const PLACE_BYTES: usize = 8;

/// Where a socket stands in line for a block.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Place {
    /// In no line.
    #[default]
    None,
    /// In the line for output blocks.
    Output,
    /// In that line once more, since the block it was granted was too little: next time nobody shares what there is.
    OutputAgain,
    /// It is still in the line for output blocks, and has taken one that nobody in line missed.
    OutputTaken,
    /// It was granted an output block, which it has yet to take: in no line.
    Granted,
    /// It was granted all that it may take: in no line.
    GrantedAll,
    /// It has taken the output block that it was granted: in no line.
    GrantTaken,
    /// In the line for input blocks of either size.
    Input,
    /// It has come to the front of that line, and may take a block before those that are in it.
    Fed,
    /// In the line for large input blocks.
    Large,
}

impl Place {
    /// Whether it was granted output that it has yet to take.
    pub(crate) const fn is_granted(self) -> bool {
        matches!(self, Self::Granted | Self::GrantedAll)
    }

    /// Whether it waits in the line for output blocks.
    pub(crate) const fn waits_for_output(self) -> bool {
        matches!(self, Self::Output | Self::OutputAgain)
    }

    /// How many blocks are for nobody else by it.
    pub(crate) const fn weight(self) -> u32 {
        const MORE_THAN_THERE_ARE: u32 = 1 << 30;
        if matches!(self, Self::GrantedAll) { MORE_THAN_THERE_ARE } else { 1 }
    }
}

/// The places in line of all sockets of a shard, in lent memory. A socket stands in one line at a time, so the lines
/// share them; and as they are linked both ways, a socket leaves from wherever it stands, at once.
#[derive(Debug)]
pub(crate) struct Places<'m> {
    /// The sockets before and after each, one higher; 0: none. Meaningless for those that are in no line.
    links: &'m mut [[u8; PLACE_BYTES]],
}

/// A line: first come, first served. Indices are one higher, so that zero is none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Line {
    first: u32,
    last: u32,
    len: u32,
}

impl<'m> Places<'m> {
    pub(crate) fn new(links: &'m mut [[u8; PLACE_BYTES]]) -> Self {
        Self { links }
    }

    fn get(&self, place: u32) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.links.get(place as usize).copied().unwrap_or_default();
        (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    }

    fn set(&mut self, place: u32, before: u32, after: u32) {
        let ([a, b, c, d], [e, f, g, h]) = (before.to_ne_bytes(), after.to_ne_bytes());
        if let Some(link) = self.links.get_mut(place as usize) {
            *link = [a, b, c, d, e, f, g, h];
        }
    }
}

impl Line {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The socket that has waited longest.
    pub(crate) fn first(&self) -> Option<u32> {
        self.first.checked_sub(1)
    }

    /// Puts a socket that stands in no line at the end of this one.
    pub(crate) fn push(&mut self, places: &mut Places<'_>, index: u32) {
        places.set(index, self.last, 0);
        match self.last.checked_sub(1) {
            Some(last) => {
                let (before, _) = places.get(last);
                places.set(last, before, index + 1);
            }
            None => self.first = index + 1,
        }
        self.last = index + 1;
        self.len += 1;
    }

    /// Takes a socket that stands in this line out of it.
    pub(crate) fn remove(&mut self, places: &mut Places<'_>, index: u32) {
        let (before, after) = places.get(index);
        match before.checked_sub(1) {
            Some(place) => {
                let (first, _) = places.get(place);
                places.set(place, first, after);
            }
            None => self.first = after,
        }
        match after.checked_sub(1) {
            Some(place) => {
                let (_, last) = places.get(place);
                places.set(place, before, last);
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

    /// Two lines over the same places beside two queues of the standard library: sockets come, go from wherever they
    /// stand, and come again, also into the other line.
    #[test]
    fn lines_are_first_come_first_served_whoever_leaves() {
        let mut memory = [[0xEE; PLACE_BYTES]; SOCKETS as usize];
        let mut places = Places::new(&mut memory);
        let mut lines = [Line::default(); 2];
        let mut models = [VecDeque::new(), VecDeque::new()];
        let mut seed = 5_u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..100_000 {
            let (which, index) = (random(2) as usize, random(SOCKETS));
            let stands = models.iter().position(|model| model.contains(&index));
            match (stands, random(4)) {
                (_, 0) => {
                    let first = lines[which].first();
                    assert_eq!(first, models[which].pop_front());
                    first.into_iter().for_each(|first| lines[which].remove(&mut places, first));
                }
                (None, _) => {
                    lines[which].push(&mut places, index);
                    models[which].push_back(index);
                }
                (Some(line), _) => {
                    lines[line].remove(&mut places, index);
                    models[line].retain(|other| *other != index);
                }
            }
            for (line, model) in lines.iter().zip(&models) {
                assert_eq!((line.len() as usize, line.is_empty()), (model.len(), model.is_empty()));
            }
        }
        for (mut line, mut model) in lines.into_iter().zip(models) {
            while let Some(index) = model.pop_front() {
                assert_eq!(line.first(), Some(index));
                line.remove(&mut places, index);
            }
            assert_eq!(line.first(), None);
        }
    }
}
