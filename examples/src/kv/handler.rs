//! The handler, and the state of each client: the command it sends, the value it uploads, the item it is sent.
//!
//! - A value is appended to its draft as it arrives, so its length does not depend on the size of the input.
//! - An item is sent in pieces as the output takes them. Meanwhile the client holds a reference to it, and its further
//!   commands stay in the input: while the output is full, the engine does not read. A command line must fit into the
//!   input.
//! - A reply is never lost: a command runs only when there is room for its reply.
//! - An upload that stalls holds memory of the table, so a client that sends none of its value for [`UPLOAD_STALL`] is
//!   disconnected.

use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, OnceLock};

use lightcone::framing::{FrameState, Lines};
use lightcone::{Address, CloseReason, Context, Handler, Input, Instant, Origin, Output, Socket};

use super::protocol::{Command, Heading, Query, REPLY_MAX, Reply, Upload, deadline, decimal};
use super::table::{Counts, Draft, Found, Mode, Store, Table};

/// The time within which more of a value must arrive.
const UPLOAD_STALL: Duration = Duration::from_secs(30);
/// The maximum number of commands and values in one callback. A command may copy a value of 1 MiB, and thousands of
/// commands fit into the input.
const STEPS_MAX: usize = 512;
const LINES: Lines = Lines::new();

/// What the server reports about itself.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The id of the process.
    pub pid: u32,
    /// The number of threads that serve clients.
    pub threads: usize,
    /// The version.
    pub version: &'static str,
}

/// The counts of the connections, over all pollers.
#[derive(Default, Debug)]
pub struct Connections {
    opened: AtomicU64,
    closed: AtomicU64,
    flushes: AtomicU64,
    /// When the first was opened.
    began: OnceLock<Instant>,
}

/// The handler of one poller, over the table `S`.
#[derive(Debug)]
pub struct Kv<S> {
    store: S,
    settings: Settings,
    connections: Arc<Connections>,
}

/// The state of one client.
#[derive(Default, Debug)]
pub struct Client {
    frames: FrameState,
    phase: Phase,
    /// What is being sent.
    sending: Option<Sending>,
    /// How much of the command has been answered, if its answer has several parts: a position in the keys, or a number
    /// of counts.
    answered: usize,
    /// Whether there is more to do, and the deadline is that of the next turn.
    yields: bool,
}

/// What comes next in the input.
#[derive(Default, Debug)]
enum Phase {
    #[default]
    Command,
    /// A value and a line end.
    Value { draft: Draft, mode: Mode, quiet: bool },
    /// The rest, of this length, of a value that is not stored, and a line end.
    Skip(usize),
}

/// An item on its way to a client.
#[derive(Debug)]
struct Sending {
    found: Found,
    versions: bool,
    /// How many bytes have been queued: of the heading, the value and the line end.
    at: usize,
}

/// What a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    Input,
    Output,
    /// Nothing, but other clients have their turn first.
    Turn,
    /// The end: it has sent `quit`.
    Nothing,
}

/// The time of a callback: on the engine's clock in milliseconds, and as Unix time in seconds.
#[derive(Clone, Copy)]
struct Clock {
    now: u64,
    unix_time: Option<u64>,
}

impl Clock {
    fn deadline(self, expiry: i64) -> u64 {
        deadline(expiry, self.now, self.unix_time)
    }
}

impl Sending {
    /// Queues as much as there is room for. Returns whether nothing is left.
    fn advance(&mut self, output: &mut Output<'_>) -> bool {
        let item = &self.found.item;
        let unique = self.versions.then_some(self.found.unique);
        let heading = Heading::new(item.key(), item.flags(), item.value().len(), unique);
        let mut before = 0;
        for part in [heading.text(), item.value(), b"\r\n"] {
            let rest = part.get(self.at - before..).unwrap_or_default();
            let taken = output.send_some(rest);
            self.at += taken;
            if taken < rest.len() {
                return false;
            }
            before += part.len();
        }
        true
    }
}

/// Returns whether there is room for a reply. If not, `writable` will come.
fn has_room(output: &mut Output<'_>) -> bool {
    let has_room = output.room() >= REPLY_MAX;
    if !has_room {
        output.request_writable_for(REPLY_MAX);
    }
    has_room
}

/// Queues a reply, for which there is room.
fn reply(output: &mut Output<'_>, quiet: bool, text: &[u8]) {
    if !quiet {
        let sent = output.send(text);
        debug_assert!(sent.is_ok(), "a command runs when there is room for its reply");
    }
}

impl<S: Store> Kv<S> {
    /// Creates a handler over a table.
    pub const fn new(store: S, settings: Settings, connections: Arc<Connections>) -> Self {
        Self { store, settings, connections }
    }

    /// Handles what has arrived, as far as there is room for the replies.
    fn advance(&mut self, socket: &mut Socket<'_, Client>, cx: &Context<'_, Infallible>) {
        let clock = Clock { now: cx.now().as_millis(), unix_time: cx.unix_time() };
        let (mut input, mut output, client) = socket.split();
        let mut steps = 0..STEPS_MAX;
        let wait = loop {
            if steps.next().is_none() {
                break Wait::Turn;
            }
            if let Some(wait) = self.step(client, &mut input, &mut output, clock) {
                break wait;
            }
        };
        client.yields = wait == Wait::Turn;
        let uploads = matches!(client.phase, Phase::Value { .. });
        // No further commands come from a client that has ended its stream, and a server that is stopping takes none.
        let is_last = wait == Wait::Input && (socket.peer_closed() || socket.is_stopping());
        if wait == Wait::Nothing || is_last {
            socket.linger();
        } else {
            let stalls = (uploads && wait == Wait::Input).then_some(UPLOAD_STALL);
            let next = if wait == Wait::Turn { Some(Duration::from_millis(1)) } else { stalls };
            socket.set_deadline(next.map(|span| cx.now() + span));
        }
    }

    /// Handles one command, one value, or a part of one. Returns what the client waits for if it cannot go on.
    fn step(
        &mut self,
        client: &mut Client,
        input: &mut Input<'_>,
        output: &mut Output<'_>,
        clock: Clock,
    ) -> Option<Wait> {
        if let Some(sending) = &mut client.sending {
            if !sending.advance(output) {
                return Some(Wait::Output);
            }
            client.sending = None;
        }
        match &mut client.phase {
            Phase::Command => {}
            Phase::Value { draft, .. } => {
                let taken = draft.fill(input.bytes());
                input.consume(taken);
                if draft.missing() > 0 {
                    return Some(Wait::Input);
                }
            }
            Phase::Skip(left) => {
                let taken = input.bytes().len().min(*left);
                input.consume(taken);
                *left -= taken;
                if *left > 0 {
                    return Some(Wait::Input);
                }
            }
        }
        if !has_room(output) {
            return Some(Wait::Output);
        }
        match core::mem::take(&mut client.phase) {
            Phase::Command => self.command(client, input, output, clock),
            phase @ (Phase::Value { .. } | Phase::Skip(_)) => {
                self.end_of_value(phase, client, input, output, clock)
            }
        }
    }

    /// Takes the line end after a value, and stores the value. There is room for the reply.
    fn end_of_value(
        &mut self,
        phase: Phase,
        client: &mut Client,
        input: &mut Input<'_>,
        output: &mut Output<'_>,
        clock: Clock,
    ) -> Option<Wait> {
        let is_whole = match LINES.next(&mut client.frames, input) {
            Ok(None) => {
                client.phase = phase;
                return Some(Wait::Input);
            }
            Ok(Some(rest)) => rest.is_empty(),
            Err(_too_long) => false,
        };
        match phase {
            Phase::Value { quiet, .. } if !is_whole => reply(output, quiet, Reply::BadChunk.text()),
            Phase::Value { draft, mode, quiet } => {
                let stored = self.store.with(draft.hash(), |table| table.store(draft, mode, clock.now));
                reply(output, quiet, stored.map_or_else(Reply::from, |()| Reply::Stored).text());
            }
            Phase::Command | Phase::Skip(_) => {}
        }
        None
    }

    /// Runs the next command, for whose reply there is room.
    fn command(
        &mut self,
        client: &mut Client,
        input: &mut Input<'_>,
        output: &mut Output<'_>,
        clock: Clock,
    ) -> Option<Wait> {
        let line = match LINES.next(&mut client.frames, input) {
            Ok(Some(line)) => line,
            Ok(None) => return Some(Wait::Input),
            Err(_too_long) => {
                reply(output, false, Reply::LineTooLong.text());
                return None;
            }
        };
        let command = match Command::parse(&line) {
            Ok(command) => command,
            Err(malformed) => {
                reply(output, false, malformed.reply.text());
                client.phase = malformed.value.map_or(Phase::Command, Phase::Skip);
                return None;
            }
        };
        match command {
            Command::Get(query) => {
                if !get(&mut self.store, &query, &mut client.answered, &mut client.sending, output, clock) {
                    line.keep();
                    return Some(Wait::Output);
                }
                client.answered = 0;
            }
            Command::Stats => {
                if !self.stats(&mut client.answered, output, clock) {
                    line.keep();
                    return Some(Wait::Output);
                }
                client.answered = 0;
            }
            Command::Upload(upload) => client.phase = begin(&mut self.store, &upload, output, clock),
            Command::Quit => return Some(Wait::Nothing),
            Command::Delete { .. }
            | Command::Change { .. }
            | Command::Touch { .. }
            | Command::Flush { .. }
            | Command::Verbosity { .. }
            | Command::Version
            | Command::OtherStats
            | Command::ResetStats => self.answer(command, output, clock),
        }
        None
    }

    /// Runs a command with a short reply, for which there is room.
    fn answer(&mut self, command: Command<'_>, output: &mut Output<'_>, clock: Clock) {
        let (store, now) = (&mut self.store, clock.now);
        let (quiet, text) = match command {
            Command::Change { key, delta, quiet } => {
                let hash = store.hash(key);
                match store.with(hash, |table| table.change(hash, key, delta, now)) {
                    Ok(number) => {
                        reply(output, quiet, decimal(number, &mut [0; 20]));
                        return reply(output, quiet, b"\r\n");
                    }
                    Err(refusal) => (quiet, refusal.into()),
                }
            }
            Command::Delete { key, quiet } => {
                let hash = store.hash(key);
                let removed = store.with(hash, |table| table.remove(hash, key, now));
                (quiet, if removed { Reply::Deleted } else { Reply::NotFound })
            }
            Command::Touch { key, expiry, quiet } => {
                let (hash, expires) = (store.hash(key), clock.deadline(expiry));
                let found = store.with(hash, |table| table.touch(hash, key, expires, now));
                (quiet, if found.is_some() { Reply::Touched } else { Reply::NotFound })
            }
            Command::Flush { delay, quiet } => {
                store.each(|table| table.flush(now + u64::from(delay) * 1_000, now));
                self.connections.flushes.fetch_add(1, Ordering::Relaxed);
                (quiet, Reply::Ok)
            }
            Command::Verbosity { quiet } => (quiet, Reply::Ok),
            Command::OtherStats => (false, Reply::End),
            Command::ResetStats => {
                store.each(Table::reset_counts);
                (false, Reply::Reset)
            }
            Command::Version => {
                return reply(output, false, format!("VERSION {}\r\n", self.settings.version).as_bytes());
            }
            Command::Get(_) | Command::Stats | Command::Upload(_) | Command::Quit => {
                unreachable!("`command` runs these")
            }
        };
        reply(output, quiet, text.text());
    }

    /// Sends the counts, one at a time; the first `answered` of them have been sent. Returns whether all have been.
    fn stats(&mut self, answered: &mut usize, output: &mut Output<'_>, clock: Clock) -> bool {
        let mut counts = Counts::default();
        self.store.each(|table| counts.add(&table.counts()));
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (opened, closed) = (load(&self.connections.opened), load(&self.connections.closed));
        let began = self.connections.began.get().map_or(clock.now, |began| began.as_millis());
        let (settings, limits) = (self.settings, self.store.limits());
        let numbers = [
            ("pid", settings.pid.into()),
            ("uptime", clock.now.saturating_sub(began) / 1_000),
            ("time", clock.unix_time.unwrap_or(0)),
            ("pointer_size", usize::BITS.into()),
            ("curr_connections", opened.saturating_sub(closed)),
            ("total_connections", opened),
            ("cmd_flush", load(&self.connections.flushes)),
            ("limit_maxbytes", limits.memory as u64),
            ("threads", settings.threads as u64),
        ];
        let numbers = numbers.into_iter().chain(counts.named());
        let mut lines: Vec<_> = numbers.map(|(name, value)| format!("STAT {name} {value}\r\n")).collect();
        lines.push(format!("STAT version {}\r\nEND\r\n", settings.version));
        while let Some(line) = lines.get(*answered) {
            if !has_room(output) || output.send(line.as_bytes()).is_err() {
                return false;
            }
            *answered += 1;
        }
        true
    }
}

/// Sends the items of the keys from `answered` on. Returns whether all of them and the end of the reply were queued.
fn get<S: Store>(
    store: &mut S,
    query: &Query<'_>,
    answered: &mut usize,
    sending: &mut Option<Sending>,
    output: &mut Output<'_>,
    clock: Clock,
) -> bool {
    while let Some(key) = query.next(answered) {
        let hash = store.hash(key);
        let found = store.with(hash, |table| match query.expiry {
            Some(expiry) => table.touch(hash, key, clock.deadline(expiry), clock.now),
            None => table.get(hash, key, clock.now),
        });
        if let Some(found) = found {
            let mut item = Sending { found, versions: query.versions, at: 0 };
            if !item.advance(output) {
                *sending = Some(item);
                return false;
            }
        }
    }
    has_room(output) && output.send(Reply::End.text()).is_ok()
}

/// Sets memory aside for a value, or replies that there is none. Returns what comes next.
fn begin<S: Store>(store: &mut S, upload: &Upload<'_>, output: &mut Output<'_>, clock: Clock) -> Phase {
    let Upload { key, mode, flags, expiry, length, quiet } = *upload;
    let (hash, expires) = (store.hash(key), clock.deadline(expiry));
    match store.with(hash, |table| {
        let draft = table.draft(hash, key, (flags, expires), length, clock.now);
        if draft.is_err() && mode == Mode::Set {
            // No client may be sent the old value any more.
            table.forget(hash, key, clock.now);
        }
        draft
    }) {
        Ok(draft) => Phase::Value { draft, mode, quiet },
        Err(refusal) => {
            reply(output, quiet, Reply::from(refusal).text());
            Phase::Skip(length)
        }
    }
}

impl<S: Store> Handler for Kv<S> {
    type Data = Client;
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Client> {
        Some(Client::default())
    }

    fn wants_sent(&self) -> bool {
        false
    }

    fn open(&mut self, _: &mut Socket<'_, Client>, cx: &mut Context<'_, Infallible>) {
        self.connections.began.get_or_init(|| cx.now());
        self.connections.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn receive(&mut self, socket: &mut Socket<'_, Client>, cx: &mut Context<'_, Infallible>) {
        self.advance(socket, cx);
    }

    fn writable(&mut self, socket: &mut Socket<'_, Client>, cx: &mut Context<'_, Infallible>) {
        self.advance(socket, cx);
    }

    fn peer_closed(&mut self, socket: &mut Socket<'_, Client>, cx: &mut Context<'_, Infallible>) {
        self.advance(socket, cx);
    }

    /// Goes on after other clients had their turn; otherwise, an upload stalls.
    fn timeout(&mut self, socket: &mut Socket<'_, Client>, cx: &mut Context<'_, Infallible>) {
        if socket.data.yields { self.advance(socket, cx) } else { socket.abort() }
    }

    /// Answers the commands that have arrived. If there is no room for that now, `writable` continues.
    fn shutdown(&mut self, socket: &mut Socket<'_, Client>, cx: &mut Context<'_, Infallible>) {
        self.advance(socket, cx);
    }

    fn close(&mut self, socket: &mut Socket<'_, Client>, _: CloseReason, _: &mut Context<'_, Infallible>) {
        *socket.data = Client::default(); // returns its charges now, as the slot may stay unused for long
        self.connections.closed.fetch_add(1, Ordering::Relaxed);
    }
}
