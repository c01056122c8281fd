//! The handler of the chat: each line is sent to everyone on every poller. A client's first line is its name; if that
//! is empty, the peer's address is used.
//!
//! - A line longer than [`LINE_MAX`] bytes is refused with a message to its sender, and skipped.
//! - A slow reader misses lines: once its output of [`OUTPUT_BLOCKS`] blocks is full, up to [`WAITING_MAX`] lines wait
//!   for it, and further ones replace the oldest. When half of the output has been sent, it receives the number of
//!   lines that it has missed, and then those that wait. Missed lines are also counted in [`Counts`]. Meanwhile the
//!   engine does not read from it.
//! - If a poller's mailbox is full, senders wait and receivers do not: until the waiting line has been published, no
//!   socket of the sender's poller is read. So at most one line per poller waits, and no line is lost or duplicated,
//!   except for one that waits when its poller ends.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use lightcone::framing::{FrameState, Lines};
use lightcone::{
    Address, Backlog, CloseReason, Context, Handler, LagPolicy, Origin, Rejected, Socket, TimerId, Topic,
    Unpublished,
};

/// The longest line, without its line end.
pub const LINE_MAX: usize = 1_024;
const LINES: Lines = Lines::new().max(LINE_MAX as u64);
/// The longest name.
pub const NAME_MAX: usize = 32;
/// The maximum number of output blocks of one reader: 64 KiB.
pub const OUTPUT_BLOCKS: usize = 16;
/// The maximum number of lines that wait for a reader whose output is full.
pub const WAITING_MAX: usize = 32;
/// Delay before a line that did not fit into a mailbox is published again.
const RETRY: Duration = Duration::from_millis(1);
/// Everyone is in the same room.
const ROOM: Topic = Topic(0);

/// One poller's part of the chat.
#[derive(Debug)]
pub struct Chat {
    /// The line that has not been accepted by every poller's mailbox yet.
    waiting: Option<Unpublished<Line>>,
    counts: Arc<Counts>,
}

/// A line as it is sent, which all pollers share.
pub type Line = Arc<[u8]>;

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
    backlog: Backlog<Line, WAITING_MAX>,
}

impl Chat {
    /// Creates the handler of a poller.
    #[must_use]
    pub fn new(counts: Arc<Counts>) -> Self {
        Self { waiting: None, counts }
    }

    /// Publishes the waiting line, if there is one. Returns whether no line waits any more.
    fn go_on(&mut self, cx: &mut Context<'_, Line>) -> bool {
        let Some(line) = self.waiting.take() else { return true };
        if let Err(Rejected::Full(rest)) = cx.publish_rest(line) {
            self.waiting = Some(rest);
        }
        self.waiting.is_none()
    }

    /// Publishes the waiting line although its sender may have left: tries again until it has been published.
    fn publish_last(&mut self, cx: &mut Context<'_, Line>) {
        if !self.go_on(cx) {
            let _ = cx.set_timer(cx.now() + RETRY, 0); // if none is free, another socket's event publishes it
        }
    }

    /// Publishes all complete lines of a participant until a mailbox is full.
    fn listen_to(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        while self.go_on(cx) {
            let Some(text) = next_line(socket) else {
                socket.resume();
                return;
            };
            self.counts.lines.fetch_add(1, Ordering::Relaxed);
            self.waiting = Some(Unpublished::new(ROOM, text, Arc::clone));
        }
        // The line waits for room in a mailbox. No more input is read until the deadline tries again.
        socket.pause();
        socket.set_deadline(Some(cx.now() + RETRY));
    }
}

impl Handler for Chat {
    type Data = Person;
    type Message = Line;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Person> {
        let backlog = Backlog::new(LagPolicy::DropOldest);
        Some(Person { name: Vec::new(), frames: FrameState::default(), refused: false, backlog })
    }

    fn open(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        if cx.subscribe(ROOM, socket.token()).is_err() {
            return socket.close();
        }
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

    fn message(&mut self, socket: &mut Socket<'_, Person>, line: Line, cx: &mut Context<'_, Line>) {
        let backlog = &mut socket.data.backlog;
        let missed = backlog.lost();
        let _ = backlog.push(line, cx); // the oldest one is dropped if it is full
        self.counts.dropped.fetch_add(backlog.lost() - missed, Ordering::Relaxed);
        if !socket.is_writable_pending() {
            catch_up(socket);
        }
    }

    fn writable(&mut self, socket: &mut Socket<'_, Person>, cx: &mut Context<'_, Line>) {
        catch_up(socket);
        self.listen_to(socket, cx);
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, Line>) {
        self.publish_last(cx);
    }

    fn close(&mut self, _: &mut Socket<'_, Person>, _: CloseReason, cx: &mut Context<'_, Line>) {
        self.publish_last(cx);
    }
}

/// Sends how many lines a participant has missed, if any, and the lines that wait.
fn catch_up(socket: &mut Socket<'_, Person>) {
    let (_, mut output, person) = socket.split();
    let missed = person.backlog.lost();
    if missed > 0 {
        if writeln!(output, "* you missed {missed} lines").is_err() {
            return; // `writable` will follow
        }
        person.backlog.take_lost();
    }
    person.backlog.drain(|line| output.send(line));
}

/// Takes the next line to publish from the input. Notices that concern only the sender go to its output.
fn next_line(socket: &mut Socket<'_, Person>) -> Option<Line> {
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
