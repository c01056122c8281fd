//! The handler of the chat: each line is sent to everyone on every poller. A client's first line is its name; if that
//! is empty, the peer's address is used.
//!
//! - A line longer than [`LINE_MAX`] bytes is refused with a message to its sender, and skipped.
//! - A slow reader loses the newest lines: once its output of [`OUTPUT_BLOCKS`] blocks is full, lines for it are
//!   dropped until half of the output has been sent. Then it receives the number of dropped lines; they are also
//!   counted in [`Counts`]. Meanwhile the engine does not read from it.
//! - If a poller's mailbox is full, senders wait and receivers do not: until the waiting line has been broadcast, no
//!   socket of the sender's poller is read. So at most one line per poller waits, and no line is lost or duplicated.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use lightcone::framing::{FrameState, Lines};
use lightcone::{Address, Context, Handler, Origin, PollerId, Rejected, Socket};

/// The longest line, without its line end.
pub const LINE_MAX: usize = 1_024;
const LINES: Lines = Lines::new().max(LINE_MAX as u64);
/// The longest name.
pub const NAME_MAX: usize = 32;
/// The maximum number of output blocks of one reader: 64 KiB.
pub const OUTPUT_BLOCKS: usize = 16;
/// Delay before a line that did not fit into a mailbox is broadcast again.
const RETRY: Duration = Duration::from_millis(1);
/// One poller's part of the chat.
#[derive(Debug)]
pub struct Chat {
    me: PollerId,
    /// Lines said on this poller so far.
    said: u64,
    /// The line that has not been accepted by every poller's mailbox yet.
    waiting: Option<Line>,
    /// For each poller, the number and attempt of the last line received from it.
    heard: Vec<(u64, u32)>,
    counts: Arc<Counts>,
}

/// A line as it is broadcast.
#[derive(Clone, Debug)]
pub struct Line {
    from: PollerId,
    /// The number of the line among those of its poller, from 1.
    number: u64,
    /// The attempt to broadcast it. A broadcast that fails because a mailbox is full has already reached the pollers
    /// before that one; they recognise the repetition by its higher attempt.
    attempt: u32,
    text: Arc<[u8]>,
}

/// The counters of the chat, over all pollers.
#[derive(Default, Debug)]
pub struct Counts {
    /// Lines said.
    pub lines: AtomicU64,
    /// Lines dropped for slow readers, counted once per reader.
    pub dropped: AtomicU64,
}

/// The state of one participant.
#[derive(Debug)]
pub struct Person {
    /// The name followed by `: `; empty until the first line.
    name: Vec<u8>,
    frames: FrameState,
    /// Whether a line was too long and its sender does not know yet.
    refused: bool,
    /// Lines dropped since the output became full. While it is not 0, further lines are dropped as well.
    missed: u64,
}

impl Chat {
    /// Creates the handler of poller `me`, one of `pollers`.
    #[must_use]
    pub fn new(me: PollerId, pollers: usize, counts: Arc<Counts>) -> Self {
        Self { me, said: 0, waiting: None, heard: vec![(0, 0); pollers], counts }
    }

    /// Broadcasts the waiting line, if there is one. Returns whether no line waits any more.
    fn go_on(&mut self, cx: &mut Context<'_, Line>) -> bool {
        let Some(mut line) = self.waiting.take() else { return true };
        line.attempt += 1;
        if let Err(Rejected::Full(line)) = cx.broadcast(line) {
            self.waiting = Some(line);
        }
        self.waiting.is_none()
    }

    /// Broadcasts all complete lines of a participant until a mailbox is full.
    fn listen_to(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        while self.go_on(cx) {
            let Some(text) = next_line(socket) else {
                socket.resume();
                return;
            };
            self.said += 1;
            self.counts.lines.fetch_add(1, Ordering::Relaxed);
            self.waiting = Some(Line { from: self.me, number: self.said, attempt: 0, text });
        }
        // The line waits for room in a mailbox. No more input is read until the deadline tries again.
        socket.pause();
        socket.set_deadline(Some(cx.now() + RETRY));
    }

    /// Returns whether a line repeats one that was already received here.
    fn is_repeated(&mut self, line: &Line) -> bool {
        let Some(heard) = self.heard.get_mut(usize::from(line.from.0)) else { return false };
        // All sockets of this poller get a broadcast with the same attempt; a different attempt is a repetition.
        if heard.0 == line.number && heard.1 != line.attempt {
            return true;
        }
        *heard = (line.number, line.attempt);
        false
    }
}

impl Handler for Chat {
    type Data = Person;
    type Message = Line;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Person> {
        Some(Person { name: Vec::new(), frames: FrameState::default(), refused: false, missed: 0 })
    }

    fn open(&mut self, socket: &mut Socket<'_, Person>, _: &mut Context<'_, Line>) {
        let peer = socket.peer();
        let (_, mut output, _) = socket.split();
        // The output is empty, so this fits.
        let _ = writeln!(output, "* welcome; your first line is your name, an empty one makes it {peer}");
    }

    fn receive(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        self.listen_to(socket, cx);
    }

    fn timeout(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        self.listen_to(socket, cx);
    }

    fn message(&mut self, socket: &mut Socket<'_, Person>, line: Line, _: &mut Context<'_, Line>) {
        if self.is_repeated(&line) {
            return;
        }
        let (_, mut output, person) = socket.split();
        // Once a line is missed, all lines up to the notice are dropped, so that the notice's count is exact.
        if person.missed > 0 || output.send(&line.text).is_err() {
            person.missed += 1;
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn writable(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        let (_, mut output, person) = socket.split();
        if person.missed > 0 && writeln!(output, "* you missed {} lines", person.missed).is_ok() {
            person.missed = 0;
        }
        self.listen_to(socket, cx);
    }
}

/// Takes the next line to broadcast from the input. Notices that concern only the sender go to its output.
fn next_line(socket: &mut Socket<'_, Person>) -> Option<Arc<[u8]>> {
    let peer = socket.peer();
    let (mut input, mut output, person) = socket.split();
    loop {
        if person.refused {
            if writeln!(output, "* refused: a line has {LINE_MAX} bytes at most").is_err() {
                return None; // `writable` will follow
            }
            person.refused = false;
        }
        let line = match LINES.next(&mut person.frames, &mut input) {
            Ok(line) => clean(&line?),
            Err(_too_long) => {
                person.refused = true;
                continue;
            }
        };
        if !person.name.is_empty() {
            return Some(person.name.iter().copied().chain(line).chain(*b"\n").collect());
        }
        person.name = if line.is_empty() { peer.to_string().into_bytes() } else { line };
        person.name.truncate(NAME_MAX);
        person.name.extend_from_slice(b": ");
    }
}

/// Replaces control characters, which could move the cursor of other participants' terminals.
fn clean(line: &[u8]) -> Vec<u8> {
    let mute = |byte: &u8| if byte.is_ascii_control() && *byte != b'\t' { b'?' } else { *byte };
    line.iter().map(mute).collect()
}
