//! The relay's handler: for each connection that is accepted, one is made, and bytes go both ways between them.
//!
//! The two sockets of a link live on the same poller and reach each other by messages. A piece of at most
//! [`PIECE_BYTES`] goes over only for a credit, which comes back when the other side has queued all of it. Who has no
//! credit leaves what came in its input and is not read from any more, so a slow reader slows its sender down, and a
//! link holds at most, in each direction, a piece of input, a piece on its way and [`OUTPUT_BLOCKS`] of output:
//! 192 KiB in all, whatever its peers do.
//!
//! | what one peer does | what the other sees |
//! | --- | --- |
//! | ends its side | the end, after all bytes; its own side stays open |
//! | resets, times out | abort: what was on its way is lost |
//! | (nobody takes the connection) | the end |
//!
//! When the server is told to stop, it reads no more, delivers what it has read, and ends both sides.

use core::time::Duration;
use std::collections::{HashSet, VecDeque};

use lightcone_core::{
    Address, CloseReason, ConnectError, Context, ErrorKind, Handler, Origin, Rejected, Socket, Token,
};

/// The most bytes of one message, and of one receive.
pub const PIECE_BYTES: usize = 32 * 1_024;
/// The most output of one socket: 32 KiB.
pub const OUTPUT_BLOCKS: usize = 8;
/// Buffers that are kept for later.
const SPARE_MAX: usize = 64;
/// A poller begins few connects in one turn: when to try again, and how often.
const RETRY: Duration = Duration::from_millis(5);
const RETRIES_MAX: u32 = 2_000;
/// What the two sockets of a link tell each other.
#[derive(Debug)]
pub enum Message {
    /// There is room for a piece: the sender is open, or has queued the piece before.
    Credit,
    /// A piece of the stream.
    Piece(Vec<u8>),
    /// No piece follows.
    Finish,
    /// The connect failed.
    Refused,
    /// The sender has closed.
    Gone {
        /// In good order.
        cleanly: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    /// It was accepted.
    Client,
    /// It was connected for a client.
    Upstream,
}

/// One socket of a link.
#[derive(Debug)]
pub struct End {
    side: Side,
    /// `None` for a client whose connect has not begun, and once the partner has gone.
    partner: Option<Token>,
    /// Both sockets are open.
    linked: bool,
    /// The partner takes a piece.
    credit: bool,
    /// The partner has been told that no piece follows.
    told: bool,
    /// The partner has told the same.
    finish: bool,
    /// The server is stopping.
    stopping: bool,
    /// What came from the partner, and how much of it is queued already.
    piece: Vec<u8>,
    at: usize,
    /// Which of the addresses is tried, and how often it could not be.
    candidate: usize,
    retries: u32,
}

impl End {
    fn new(side: Side, partner: Option<Token>) -> Self {
        Self {
            side,
            partner,
            linked: false,
            credit: false,
            told: false,
            finish: false,
            stopping: false,
            piece: Vec::new(),
            at: 0,
            candidate: 0,
            retries: 0,
        }
    }
}

/// One poller's links.
#[derive(Debug)]
pub struct Relay {
    to: Vec<Address>,
    links_max: usize,
    /// The clients of all links, until one of the two sockets ends.
    links: HashSet<Token>,
    /// Buffers of pieces that have been delivered.
    spare: Vec<Vec<u8>>,
    /// Messages for which the mailbox had no room, in order: they are posted again with the next event. It is sized so
    /// that this does not happen: it has room for all messages of all links, and those of links that have ended leave
    /// it faster than new links come.
    backlog: VecDeque<(Token, Message)>,
}

type Cx<'a> = Context<'a, Message>;

impl Relay {
    /// The links of one poller, to the first of these addresses that takes the connection.
    #[must_use]
    pub fn new(to: Vec<Address>, links_max: usize) -> Self {
        Self { to, links_max, links: HashSet::new(), spare: Vec::new(), backlog: VecDeque::new() }
    }

    fn post(&mut self, cx: &mut Cx<'_>, to: Token, message: Message) {
        self.backlog.push_back((to, message));
        self.post_backlog(cx);
    }

    fn post_backlog(&mut self, cx: &mut Cx<'_>) {
        while let Some((to, message)) = self.backlog.pop_front() {
            if let Err(Rejected::Full(message)) = cx.post(to, message) {
                return self.backlog.push_front((to, message));
            }
        }
    }

    fn connect(&self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        let Some(to) = self.to.get(socket.data.candidate) else { return socket.close() };
        match cx.connect(to, socket.token().to_bits()) {
            Ok(token) => socket.data.partner = Some(token),
            Err(ConnectError::Full) if socket.data.retries < RETRIES_MAX => {
                socket.data.retries += 1;
                socket.set_deadline(Some(cx.now() + RETRY));
            }
            Err(_) => socket.close(),
        }
    }

    /// Does all that can be done for a socket now: every event comes to this.
    fn go_on(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        self.post_backlog(cx);
        self.take(socket, cx);
        self.deliver(socket, cx);
        if !self.backlog.is_empty() {
            socket.set_deadline(Some(cx.now() + RETRY));
        }
    }

    /// Passes input on to the partner, as far as there is credit, and then its end.
    fn take(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        let (mut input, _, end) = socket.split();
        let partner = end.partner.filter(|_| end.linked);
        let waiting = input.bytes().len();
        if let Some(partner) = partner
            && waiting > 0
            && core::mem::take(&mut end.credit)
        {
            let mut piece = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES));
            piece.extend_from_slice(input.bytes().get(..waiting.min(PIECE_BYTES)).unwrap_or_default());
            input.consume(piece.len());
            self.post(cx, partner, Message::Piece(piece));
        }
        let rest = socket.bytes().len();
        let ended = socket.peer_closed() || socket.data.stopping;
        if rest > 0 || socket.data.stopping {
            socket.pause();
        } else {
            socket.resume();
        }
        if let Some(partner) = partner
            && ended
            && rest == 0
            && !core::mem::replace(&mut socket.data.told, true)
        {
            self.post(cx, partner, Message::Finish);
        }
    }

    /// Queues what the partner has sent, as far as there is room, and then the end.
    ///
    /// It waits for `sent`, not for `writable`: a socket that is owed `writable` is not read from, and two peers that
    /// both write before they read would wait for each other for ever.
    fn deliver(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        let (_, mut output, end) = socket.split();
        if !end.piece.is_empty() {
            let rest = end.piece.get(end.at..).unwrap_or_default();
            let room = rest.len().min(output.room());
            end.at += output.send_some(rest.get(..room).unwrap_or_default());
            let all = end.at == end.piece.len();
            if !all && output.queued() == 0 {
                output.want(); // all blocks of the poller are in use
            }
            if !all {
                return;
            }
            let piece = core::mem::take(&mut end.piece);
            let partner = end.partner;
            end.at = 0;
            self.keep(piece);
            if let Some(partner) = partner {
                self.post(cx, partner, Message::Credit);
            }
        }
        let end = &*socket.data;
        if end.finish && (end.partner.is_none() || (end.stopping && end.told)) {
            socket.close();
        } else if end.finish {
            socket.finish();
        }
    }

    /// Keeps a buffer for later.
    fn keep(&mut self, mut piece: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && piece.capacity() > 0 {
            piece.clear();
            self.spare.push(piece);
        }
    }
}

impl Handler for Relay {
    type Data = End;
    type Message = Message;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<End> {
        match origin {
            Origin::Connecting { tag } => Some(End::new(Side::Upstream, Some(Token::from_bits(tag)))),
            // half of the sockets are the upstreams'
            Origin::Accepted { .. } if self.links.len() >= self.links_max => None,
            Origin::Accepted { .. } => Some(End::new(Side::Client, None)),
        }
    }

    fn open(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        match socket.data.partner {
            None => {
                self.links.insert(socket.token());
                self.connect(socket, cx);
            }
            // it went away in the meantime
            Some(client) if !self.links.contains(&client) => socket.abort(),
            Some(client) => {
                socket.data.linked = true;
                socket.data.credit = true;
                self.post(cx, client, Message::Credit);
            }
        }
    }

    fn refused(&mut self, socket: &mut Socket<'_, End>, _: ErrorKind, cx: &mut Cx<'_>) {
        if let Some(client) = socket.data.partner {
            self.post(cx, client, Message::Refused);
        }
    }

    fn message(&mut self, socket: &mut Socket<'_, End>, message: Message, cx: &mut Cx<'_>) {
        let end = &mut *socket.data;
        match message {
            Message::Credit => {
                end.linked = true;
                end.credit = true;
            }
            Message::Piece(piece) => end.piece = piece,
            Message::Finish => end.finish = true,
            Message::Refused => {
                end.partner = None;
                end.candidate += 1;
                return self.connect(socket, cx);
            }
            Message::Gone { cleanly } => {
                end.partner = None;
                end.finish = true;
                if !cleanly {
                    return socket.abort();
                }
            }
        }
        self.go_on(socket, cx);
    }

    fn receive(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        self.go_on(socket, cx);
    }

    fn sent(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        self.go_on(socket, cx);
    }

    fn writable(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        self.go_on(socket, cx);
    }

    fn peer_closed(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        self.go_on(socket, cx);
    }

    /// Another try to connect, or to post.
    fn timeout(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        if socket.data.partner.is_none() && !socket.data.finish {
            self.connect(socket, cx);
        } else {
            self.go_on(socket, cx);
        }
    }

    fn shutdown(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        if !socket.data.linked {
            return socket.close();
        }
        socket.data.stopping = true;
        self.go_on(socket, cx);
    }

    fn close(&mut self, socket: &mut Socket<'_, End>, reason: CloseReason, cx: &mut Cx<'_>) {
        let token = socket.token();
        let end = &mut *socket.data;
        self.keep(core::mem::take(&mut end.piece));
        let client = if end.side == Side::Client { Some(token) } else { end.partner };
        if let Some(client) = client {
            self.links.remove(&client);
        }
        let Some(partner) = end.partner else { return };
        let cleanly = matches!(reason, CloseReason::Peer | CloseReason::Local | CloseReason::Shutdown);
        self.post(cx, partner, Message::Gone { cleanly });
    }
}
