//! The handler of the relay: for each accepted connection it opens another one and copies bytes in both directions.
//!
//! The two sockets of a link live on the same poller and exchange messages. A piece of at most [`PIECE_BYTES`] is
//! passed on only for a credit, which is returned when the partner has queued the whole piece. A socket without credit
//! leaves its input in place and is not read any more, so a slow reader slows its sender down. In each direction a link
//! holds at most one piece of input, one piece in transit and [`OUTPUT_BLOCKS`] of output: 192 KiB in all, regardless
//! of what its peers do.
//!
//! | what one peer does | what the other peer sees |
//! | --- | --- |
//! | half-closes | the end of stream, after all bytes; its own direction stays open |
//! | resets, times out | a reset: bytes in transit are lost |
//! | (no address accepts the connection) | the end of stream |
//!
//! On shutdown the relay stops reading, delivers what it has read, and closes both sides.

use core::time::Duration;
use std::collections::{HashSet, VecDeque};

use lightcone::{
    Address, CloseReason, ConnectError, Context, ErrorKind, Handler, Origin, Rejected, Socket, Token,
};

/// The maximum number of bytes of one message, and of one receive.
pub const PIECE_BYTES: usize = 32 * 1_024;
/// The maximum number of output blocks of one socket: 32 KiB.
pub const OUTPUT_BLOCKS: usize = 8;
/// The maximum number of empty buffers that are kept for reuse.
const SPARE_MAX: usize = 64;
/// The delay before a connect or a post is tried again. A poller starts a limited number of connects per turn.
const RETRY: Duration = Duration::from_millis(5);
/// The maximum number of retries of one connect.
const RETRIES_MAX: u32 = 2_000;
/// What the two sockets of a link send each other.
#[derive(Debug)]
pub enum Message {
    /// The sender can take a piece: it has just opened, or has queued the previous piece.
    Credit,
    /// A piece of the stream.
    Piece(Vec<u8>),
    /// The last message of a stream: no piece follows.
    Finish,
    /// The connect failed.
    Refused,
    /// The sender has closed.
    Gone {
        /// Whether the connection ended cleanly.
        cleanly: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    /// The accepted socket.
    Client,
    /// The socket that was connected for a client.
    Upstream,
}

/// One socket of a link.
#[derive(Debug)]
pub struct End {
    side: Side,
    /// `None` for a client whose connect has not begun, and once the partner has closed.
    partner: Option<Token>,
    /// Whether both sockets are open.
    linked: bool,
    /// Whether the partner can take a piece.
    credit: bool,
    /// Whether [`Message::Finish`] has been sent to the partner.
    told: bool,
    /// Whether [`Message::Finish`] has been received from the partner.
    finish: bool,
    /// Whether the server is stopping.
    stopping: bool,
    /// The piece received from the partner, and how much of it is queued already.
    piece: Vec<u8>,
    at: usize,
    /// The index of the address that is tried, and how often the connect could not be started.
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
    /// The client sockets of all links. A client is removed as soon as one of the link's two sockets ends.
    links: HashSet<Token>,
    /// Empty buffers for reuse.
    spare: Vec<Vec<u8>>,
    /// Messages that did not fit into the mailbox, in order; they are posted again at the next event. The mailbox is
    /// sized so that this should not happen: it has room for all messages of all links, and the messages of ended links
    /// leave it faster than new links are added.
    backlog: VecDeque<(Token, Message)>,
}

type Cx<'a> = Context<'a, Message>;

impl Relay {
    /// Creates the links of one poller. Each connects to the first of these addresses that accepts the connection.
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
        let Some(&to) = self.to.get(socket.data.candidate) else { return socket.close() };
        match cx.connect(to, socket.token().to_bits()) {
            Ok(token) => socket.data.partner = Some(token),
            Err(ConnectError::Full) if socket.data.retries < RETRIES_MAX => {
                socket.data.retries += 1;
                socket.set_deadline(Some(cx.now() + RETRY));
            }
            Err(_) => socket.close(),
        }
    }

    /// Makes all possible progress for a socket; called from every event.
    fn go_on(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        self.post_backlog(cx);
        self.take(socket, cx);
        self.deliver(socket, cx);
        if !self.backlog.is_empty() {
            socket.set_deadline(Some(cx.now() + RETRY));
        }
    }

    /// Passes input on to the partner while there is credit, and then the end of stream.
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
        // Without credit the rest of the input stays where it is, and reading pauses: this is the backpressure.
        if rest > 0 || socket.data.stopping {
            socket.pause();
        } else {
            socket.resume();
        }
        // The end of stream goes out only after the last byte has been passed on, and only once.
        if let Some(partner) = partner
            && ended
            && rest == 0
            && !core::mem::replace(&mut socket.data.told, true)
        {
            self.post(cx, partner, Message::Finish);
        }
    }

    /// Queues the piece from the partner as far as there is room, and then the end of stream.
    ///
    /// Waits for `sent`, not for `writable`: while `writable` is pending, the socket is not read, and two peers that
    /// both write before they read would block each other forever.
    fn deliver(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        let (_, mut output, end) = socket.split();
        if !end.piece.is_empty() {
            let rest = end.piece.get(end.at..).unwrap_or_default();
            let room = rest.len().min(output.room());
            end.at += output.send_some(rest.get(..room).unwrap_or_default());
            let all = end.at == end.piece.len();
            // If nothing is queued, all blocks of the poller are in use and no `sent` will come: wait for `writable`.
            if !all && output.queued() == 0 {
                output.request_writable();
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
        // A partner that has closed takes no more bytes: close. During shutdown, close once both directions are
        // finished.
        let end = &*socket.data;
        if end.finish && (end.partner.is_none() || (end.stopping && end.told)) {
            socket.close();
        } else if end.finish {
            socket.finish();
        }
    }

    /// Keeps a buffer for reuse.
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
            // Half of the sockets are reserved for upstream connections.
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
            // The client was closed in the meantime.
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

    /// Retries a connect or a post.
    fn timeout(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        // Without a partner, the connect has not begun yet; once the partner has closed, `finish` is set as well.
        if socket.data.partner.is_none() && !socket.data.finish {
            self.connect(socket, cx);
        } else {
            self.go_on(socket, cx);
        }
    }

    fn shutdown(&mut self, socket: &mut Socket<'_, End>, cx: &mut Cx<'_>) {
        // Without a link nothing can be delivered.
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
        // The set holds clients only, and either socket of a link may close first.
        if let Some(client) = client {
            self.links.remove(&client);
        }
        let Some(partner) = end.partner else { return };
        let cleanly = matches!(reason, CloseReason::Peer | CloseReason::Local | CloseReason::Shutdown);
        self.post(cx, partner, Message::Gone { cleanly });
    }
}
