//! The chat's handler: every line goes to everyone, on every poller. The first line is the sender's name; an empty one
//! leaves it at the peer's address.
//!
//! - A line longer than [`LINE_MAX`] bytes is refused with an answer that says so, and skipped.
//! - A reader that is slower than the talk loses the newest lines: once its output of [`OUTPUT_BLOCKS`] blocks is full,
//!   lines for it are dropped until half of that has left. It is then told how many, and they are counted
//!   ([`Counts`]). While it is behind, the engine does not read from it either.
//! - A poller whose mailbox is full holds up those who talk, not those who listen: until the line that waits has gone
//!   out, no socket of the same poller is read from. So one line waits at most, and none is lost or doubled.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use lightcone_core::{Address, Context, Handler, Origin, PollerId, Rejected, Socket};

/// The longest line, without its end.
pub const LINE_MAX: usize = 1_024;
/// The longest name.
pub const NAME_MAX: usize = 32;
/// How far a reader may fall behind: 64 KiB.
pub const OUTPUT_BLOCKS: usize = 16;
/// When to try again with a line for which a mailbox had no room.
const RETRY: Duration = Duration::from_millis(1);
/// One poller's part of the chat.
#[derive(Debug)]
pub struct Chat {
    me: PollerId,
    /// Lines said here so far.
    said: u64,
    /// The line that did not fit into every poller's mailbox yet.
    waiting: Option<Line>,
    /// For each poller, the number and attempt of the line last heard from it.
    heard: Vec<(u64, u32)>,
    counts: Arc<Counts>,
}

/// A line on its way.
#[derive(Clone, Debug)]
pub struct Line {
    from: PollerId,
    /// Counts the lines of its poller, from 1.
    number: u64,
    /// A broadcast that finds a mailbox full has reached the pollers before that one. They know the next attempt for
    /// what it is.
    attempt: u32,
    text: Arc<[u8]>,
}

/// What the chat counts, over all pollers.
#[derive(Default, Debug)]
pub struct Counts {
    /// Lines said.
    pub lines: AtomicU64,
    /// Lines dropped for slow readers, each time.
    pub dropped: AtomicU64,
}

/// What is kept of each person.
#[derive(Debug)]
pub struct Person {
    /// With `: ` behind it; empty until the first line.
    name: Vec<u8>,
    /// The rest of a line that was refused is still coming.
    skipping: bool,
    /// Lines dropped since the output was full; more follow as long as it is not 0.
    missed: u64,
}

impl Chat {
    /// The part of one poller, of so many.
    #[must_use]
    pub fn new(me: PollerId, pollers: usize, counts: Arc<Counts>) -> Self {
        Self { me, said: 0, waiting: None, heard: vec![(0, 0); pollers], counts }
    }

    /// Sends the line that waits, if there is one. Says whether none waits any more.
    fn go_on(&mut self, cx: &mut Context<'_, Line>) -> bool {
        let Some(mut line) = self.waiting.take() else { return true };
        line.attempt += 1;
        if let Err(Rejected::Full(line)) = cx.broadcast(line) {
            self.waiting = Some(line);
        }
        self.waiting.is_none()
    }

    /// Says all complete lines of a person, as long as they go out.
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
        socket.pause();
        socket.set_deadline(Some(cx.now() + RETRY));
    }

    /// Whether a line is another attempt at one that was heard here already.
    fn is_repeated(&mut self, line: &Line) -> bool {
        let Some(heard) = self.heard.get_mut(usize::from(line.from.0)) else { return false };
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
        Some(Person { name: Vec::new(), skipping: false, missed: 0 })
    }

    fn open(&mut self, socket: &mut Socket<'_, Person>, _: &mut Context<'_, Line>) {
        let peer = socket.peer();
        let (_, mut output, _) = socket.split();
        // the output is empty, and takes it
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

/// Takes the next line from the input and gives what is said to everyone; answers what concerns its sender alone.
fn next_line(socket: &mut Socket<'_, Person>) -> Option<Arc<[u8]>> {
    let peer = socket.peer();
    let (mut input, mut output, person) = socket.split();
    loop {
        let end = input.bytes().iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(input.bytes().len());
        if length > LINE_MAX && !person.skipping {
            let refusal = writeln!(output, "* refused: a line has {LINE_MAX} bytes at most");
            if refusal.is_err() {
                return None; // until `writable`
            }
            person.skipping = true;
        }
        let Some(end) = end else {
            if person.skipping {
                input.consume(length);
            }
            return None;
        };
        let line = input.bytes().get(..end).unwrap_or_default();
        let line = clean(line.strip_suffix(b"\r").unwrap_or(line));
        input.consume(end + 1);
        if core::mem::take(&mut person.skipping) {
            continue;
        }
        if !person.name.is_empty() {
            return Some(person.name.iter().copied().chain(line).chain(*b"\n").collect());
        }
        person.name = if line.is_empty() { peer.to_string().into_bytes() } else { line };
        person.name.truncate(NAME_MAX);
        person.name.extend_from_slice(b": ");
    }
}

/// Nobody is to move other people's cursors.
fn clean(line: &[u8]) -> Vec<u8> {
    let mute = |byte: &u8| if byte.is_ascii_control() && *byte != b'\t' { b'?' } else { *byte };
    line.iter().map(mute).collect()
}
