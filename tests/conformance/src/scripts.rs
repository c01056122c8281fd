//! Scripted peers, each with a trace of the events that the handler received, to be compared between drivers.
//!
//! A trace has one line per socket, in the order of admission. Bytes are counted and hashed over consecutive callbacks,
//! because how a stream is split into callbacks is unspecified. For the same reason `receive` and `writable` are left
//! out, and `sent` is recorded at most once between two other events. Each script waits for the effects of a step
//! before the next one, so that its trace does not depend on timing.

use core::fmt::Write as _;
use core::time::Duration;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lightcone_core::Address;
use lightcone_unix::Builder;
use lightcone_unix::driver::Driver;
use lightcone_unix::endpoint::Endpoint;

use crate::case::{Case, Context, Event, Socket, by_default, consume_all, echo, echoing, small, small_with};
use crate::connecting::{Silent, elsewhere, nowhere};
use crate::ending::wait_until_stalled;
use crate::peer::{Peer, pattern};

/// The result of a script for which the system lacks the necessary kind of address.
pub const ABSENT: &str = "no such address here\n";

/// The events of one socket, as text.
#[derive(Debug, Default)]
struct Story {
    text: String,
    /// The number of bytes consumed since the last recorded event, and a hash of them that depends on their order.
    bytes: (usize, u64),
    /// Whether all queued bytes have been sent since the last recorded event.
    sent: bool,
}

impl Story {
    fn consumed(&mut self, bytes: &[u8]) {
        self.bytes.0 += bytes.len();
        for byte in bytes {
            self.bytes.1 = self.bytes.1.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Receive | Event::Writable => return,
            Event::Sent => return self.sent = true,
            _ => {}
        }
        self.settle();
        match event {
            Event::Message(message) => write!(self.text, " message({message})"),
            Event::Refused(error) => write!(self.text, " refused({error})"),
            Event::Close(reason) => write!(self.text, " close({reason})"),
            Event::Open => write!(self.text, " open"),
            Event::PeerClosed => write!(self.text, " peer_closed"),
            Event::Timeout => write!(self.text, " timeout"),
            Event::Shutdown => write!(self.text, " shutdown"),
            Event::Receive | Event::Writable | Event::Sent | Event::Room(_) => Ok(()),
        }
        .unwrap();
    }

    fn settle(&mut self) {
        let (count, sum) = core::mem::take(&mut self.bytes);
        if count > 0 {
            write!(self.text, " bytes({count}, {sum:x})").unwrap();
        }
        if core::mem::take(&mut self.sent) {
            self.text.push_str(" sent");
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Story>>>);

impl Log {
    fn stories(&self) -> MutexGuard<'_, Vec<Story>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, socket: usize, tell: impl FnOnce(&mut Story)) {
        let mut stories = self.stories();
        if stories.len() <= socket {
            stories.resize_with(socket + 1, Story::default);
        }
        tell(&mut stories[socket]);
    }
}

/// Plays the script over an engine with this handler, and returns the trace.
fn play<D: Driver>(
    builder: Builder<D>,
    react: impl Fn(&mut Socket<'_>, Event, &mut Context<'_>) + Send + Sync + 'static,
    script: impl FnOnce(&Case),
) -> String {
    let log = Log::default();
    let noted = log.clone();
    let case = Case::start(builder, move |socket, event, cx| {
        let before = socket.bytes().to_vec();
        noted.of(socket.data.socket, |story| story.event(&event));
        react(socket, event, cx);
        // what the handler has consumed is the difference between the input before and after
        let consumed = &before[..before.len() - socket.bytes().len()];
        noted.of(socket.data.socket, |story| story.consumed(consumed));
    });
    script(&case);
    case.stop_within(Duration::from_secs(2));
    let mut all = String::new();
    for story in log.stories().iter_mut() {
        story.settle();
        all.push_str(story.text.trim_start());
        all.push('\n');
    }
    all
}

fn echoes<D: Driver>(script: impl FnOnce(&Case)) -> String {
    play(small::<D>(), echoing, script)
}

/// Sends as many bytes as there is room for, and obeys the messages.
fn flooding(socket: &mut Socket<'_>, event: Event, _: &mut Context<'_>) {
    match event {
        Event::Open | Event::Writable => while socket.send(&[8; 1_000]).is_ok() {},
        other => obey(socket, other),
    }
}

const CLOSE: u64 = 1;
const ABORT: u64 = 2;
const FINISH: u64 = 3;
const LINGER: u64 = 4;
const PAUSE: u64 = 5;
const RESUME: u64 = 6;

/// Consumes all bytes, and obeys the messages.
fn obey(socket: &mut Socket<'_>, event: Event) {
    match event {
        Event::Receive => consume_all(socket),
        Event::Message(CLOSE) => socket.close(),
        Event::Message(ABORT) => socket.abort(),
        Event::Message(FINISH) => socket.finish(),
        Event::Message(LINGER) => socket.linger(),
        Event::Message(PAUSE) => socket.pause(),
        Event::Message(RESUME) => socket.resume(),
        other => by_default(socket, other),
    }
}

fn obeying(socket: &mut Socket<'_>, event: Event, _: &mut Context<'_>) {
    obey(socket, event);
}

/// Posts a message to the first socket, and waits until its handler has received it.
fn tell(case: &Case, message: u64) {
    let before = case.trace.count_of(0, "message");
    case.handle().post(case.trace.token(0), message).unwrap();
    case.trace.until_nth(0, "message", before + 1);
}

/// Waits until the engine has received `bytes` bytes.
fn until_received(case: &Case, bytes: u64) {
    lightcone_contract::sockets::soon("bytes", || (case.handle().stats()[0].bytes_in >= bytes).then_some(()));
}

/// Returns the address of an endpoint in this engine.
fn address(case: &Case, endpoint: &str) -> Address {
    case.handle().address(&endpoint.parse::<Endpoint>().unwrap()).unwrap()
}

/// The end of the stream without any bytes.
pub fn a_silent_peer<D: Driver>() -> String {
    echoes::<D>(|case| {
        case.peer().finish();
        case.trace.closed(0);
    })
}

/// Bytes and the end of the stream at once.
pub fn bytes_with_the_end<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = case.peer();
        peer.send(b"last words");
        peer.finish();
        assert_eq!(peer.receive_to_end(), b"last words");
        case.trace.closed(0);
    })
}

/// Bytes, an echo, then the end of the stream.
pub fn an_exchange_then_the_end<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = case.peer();
        peer.exchange(b"hello");
        peer.finish();
        peer.expect_end();
        case.trace.closed(0);
    })
}

/// A hundred single bytes, each echoed before the next.
pub fn single_bytes<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = case.peer();
        (0..100).for_each(|n| peer.exchange(&[n]));
        drop(peer);
        case.trace.closed(0);
    })
}

/// All sizes from zero to several blocks.
pub fn every_size<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = case.peer();
        for size in [0, 1, 2, 1_023, 1_024, 1_025, 4_095, 4_096, 4_097, 10_000] {
            peer.exchange(&pattern(size));
        }
        drop(peer);
        case.trace.closed(0);
    })
}

/// Far more bytes than the buffers hold, echoed.
pub fn a_large_stream<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = case.peer();
        peer.exchange(&pattern(400_000));
        drop(peer);
        case.trace.closed(0);
    })
}

/// The peer half-closes, and is still sent many bytes.
pub fn an_end_before_the_answer<D: Driver>() -> String {
    let answer = |socket: &mut Socket<'_>, event: Event, _: &mut Context<'_>| match event {
        Event::PeerClosed | Event::Writable => {
            while socket.data.count < 100 {
                if socket.send(&[7; 1_000]).is_err() {
                    return;
                }
                socket.data.count += 1;
            }
            socket.close();
        }
        other => obey(socket, other),
    };
    play(small::<D>(), answer, |case| {
        let mut peer = case.peer();
        peer.finish();
        assert_eq!(peer.receive_to_end().len(), 100_000);
        case.trace.closed(0);
    })
}

/// The handler half-closes first and still receives.
pub fn our_end_first<D: Driver>() -> String {
    play(small::<D>(), obeying, |case| {
        let mut peer = case.peer();
        tell(case, FINISH);
        peer.expect_end();
        peer.send(b"still here");
        until_received(case, 10);
        peer.finish();
        case.trace.closed(0);
    })
}

/// Both sides half-close, the peer first.
pub fn both_ends<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::PeerClosed => {}
        other => obeying(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        let mut peer = case.peer();
        peer.finish();
        case.trace.until(0, "peer_closed");
        tell(case, FINISH);
        peer.expect_end();
        case.trace.closed(0);
    })
}

/// A reset of an idle socket.
pub fn an_idle_reset<D: Driver>() -> String {
    echoes::<D>(|case| {
        let peer = case.peer();
        case.trace.token(0);
        peer.reset();
        case.trace.closed(0);
    })
}

/// A reset after bytes were echoed.
pub fn a_reset_after_bytes<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = case.peer();
        peer.exchange(b"hello");
        peer.reset();
        case.trace.closed(0);
    })
}

/// A reset after the peer has half-closed.
pub fn a_reset_after_the_end<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Open => {}
        Event::PeerClosed => while socket.send(&[8; 1_000]).is_ok() {},
        other => flooding(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        let peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
        peer.finish();
        case.trace.until(0, "peer_closed");
        wait_until_stalled(case);
        peer.reset();
        case.trace.closed(0);
    })
}

/// A reset of a stalled socket.
pub fn a_reset_of_a_stalled_socket<D: Driver>() -> String {
    play(small::<D>(), flooding, |case| {
        let peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
        case.trace.token(0);
        wait_until_stalled(case);
        peer.reset();
        case.trace.closed(0);
    })
}

/// Bytes that arrive while a socket is paused are delivered after `resume`.
pub fn bytes_during_a_pause<D: Driver>() -> String {
    play(small::<D>(), obeying, |case| {
        let mut peer = case.peer();
        tell(case, PAUSE);
        peer.send(b"waiting");
        peer.finish();
        tell(case, RESUME);
        case.trace.closed(0);
    })
}

/// A reset while a socket is paused is reported after `resume`.
pub fn a_reset_during_a_pause<D: Driver>() -> String {
    play(small::<D>(), obeying, |case| {
        let peer = case.peer();
        tell(case, PAUSE);
        peer.reset();
        tell(case, RESUME);
        case.trace.closed(0);
    })
}

/// A peer that reads nothing for a while, then everything.
pub fn a_late_reader<D: Driver>() -> String {
    play(small::<D>(), flooding, |case| {
        let mut peer = case.peer();
        case.trace.token(0);
        wait_until_stalled(case);
        tell(case, CLOSE);
        assert!(peer.receive_to_end().iter().all(|byte| *byte == 8));
        case.trace.closed(0);
    })
}

/// An abort of a stalled socket.
pub fn an_abort_of_a_stalled_socket<D: Driver>() -> String {
    play(small::<D>(), flooding, |case| {
        let _peer = case.peer();
        case.trace.token(0);
        wait_until_stalled(case);
        tell(case, ABORT);
        case.trace.closed(0);
    })
}

/// A close with unread input still delivers the queued response.
pub fn a_close_with_unread_input<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Receive => {
            socket.send(b"too much").unwrap();
            socket.close();
        }
        other => obeying(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        let mut peer = case.peer();
        peer.send(b"request");
        assert_eq!(peer.receive_to_end(), b"too much");
        drop(peer);
        case.trace.closed(0);
    })
}

/// A lingering close discards the bytes that still arrive.
pub fn a_staged_close<D: Driver>() -> String {
    play(small_with::<D>(|it| it.linger = None), obeying, |case| {
        let mut peer = case.peer();
        tell(case, LINGER);
        peer.expect_end();
        peer.send(b"nobody hears this");
        drop(peer);
        case.trace.closed(0);
    })
}

/// A close and an abort by the handle.
pub fn closed_by_the_handle<D: Driver>() -> String {
    echoes::<D>(|case| {
        let listener = case.listen();
        for socket in 0..2 {
            let mut peer = Peer::connect(listener.endpoint());
            let token = case.trace.token(socket);
            if socket == 0 { case.handle().close(token) } else { case.handle().abort(token) }.unwrap();
            case.trace.closed(socket);
            peer.drain();
        }
    })
}

/// A connect, an echo, the end of the stream.
pub fn a_connect<D: Driver>() -> String {
    echoes::<D>(|case| {
        let (listener, address) = elsewhere();
        case.handle().connect(address, 1).unwrap();
        let mut peer = Peer::accept(&listener);
        peer.exchange(b"hello");
        drop(peer);
        case.trace.closed(0);
    })
}

/// A connect that completes within the call.
pub fn a_connect_at_once<D: Driver>() -> String {
    echoes::<D>(|case| {
        let endpoint = case.unix_path("elsewhere");
        let listener = UnixListener::bind(endpoint.strip_prefix("unix:").unwrap()).unwrap();
        case.handle().connect(address(case, &endpoint), 1).unwrap();
        let (stream, _) = listener.accept().unwrap();
        case.trace.token(0);
        drop(stream);
        case.trace.closed(0);
    })
}

/// Connects that are refused: over TCP, to a missing Unix path, and to a Unix socket without a listener.
pub fn refused_connects<D: Driver>() -> String {
    echoes::<D>(|case| {
        let dead = case.unix_path("dead");
        drop(UnixListener::bind(dead.strip_prefix("unix:").unwrap()).unwrap());
        let missing = address(case, &case.unix_path("missing"));
        for (socket, to) in [nowhere(), missing, address(case, &dead)].into_iter().enumerate() {
            case.handle().connect(to, 1).unwrap();
            case.trace.until(socket, "refused");
        }
    })
}

/// Connects to unreachable addresses.
pub fn unreachable_connects<D: Driver>() -> String {
    echoes::<D>(|case| {
        for (socket, to) in ["255.255.255.255:9", "[ff02::1]:9"].into_iter().enumerate() {
            let to: core::net::SocketAddr = to.parse().unwrap();
            case.handle().connect(to.into(), 1).unwrap();
            case.trace.until(socket, "refused");
        }
    })
}

/// A connect without a response, which times out; [`ABSENT`] if no address stays silent here.
pub fn a_connect_without_an_answer<D: Driver>() -> String {
    let Some(silent) = Silent::new() else { return ABSENT.into() };
    let timeouts = |it: &mut lightcone_core::Timeouts| it.connect = Some(Duration::from_millis(100));
    play(small_with::<D>(timeouts), echoing, |case| {
        case.handle().connect(silent.address, 1).unwrap();
        case.trace.until(0, "refused");
    })
}

/// A connect that is in progress when the engine stops; [`ABSENT`] if no address stays silent here.
pub fn a_connect_when_the_engine_stops<D: Driver>() -> String {
    let Some(silent) = Silent::new() else { return ABSENT.into() };
    echoes::<D>(|case| {
        case.handle().connect(silent.address, 1).unwrap();
        case.trace.until(0, "admit");
    })
}

/// A peer that resets right after it has accepted.
pub fn a_connect_that_is_reset<D: Driver>() -> String {
    echoes::<D>(|case| {
        let (listener, address) = elsewhere();
        case.handle().connect(address, 1).unwrap();
        let peer = Peer::accept(&listener);
        case.trace.token(0);
        peer.reset();
        case.trace.closed(0);
    })
}

/// Over a Unix socket: bytes, an echo, the end of the stream.
pub fn over_a_unix_socket<D: Driver>() -> String {
    echoes::<D>(|case| {
        let mut peer = Peer::connect(case.listen_unix().endpoint());
        peer.exchange(b"hello");
        peer.finish();
        peer.expect_end();
        case.trace.closed(0);
    })
}

/// Over a Unix socket: a peer that closes without having read what was sent.
pub fn a_unix_peer_that_does_not_read<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Open => socket.send(b"unread").unwrap(),
        other => obeying(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        let peer = Peer::connect(case.listen_unix().endpoint());
        case.trace.until(0, "sent");
        drop(peer);
        case.trace.closed(0);
    })
}

/// An exchange over IPv6; [`ABSENT`] if the system has no IPv6.
pub fn over_ipv6<D: Driver>() -> String {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return ABSENT.into();
    }
    echoes::<D>(|case| {
        let listener = case.engine().listen("[::1]:0").unwrap();
        let mut peer = Peer::connect(listener.endpoint());
        peer.exchange(b"hello");
        drop(peer);
        case.trace.closed(0);
    })
}

/// A deadline that the handler sets, with the default reaction to it.
pub fn a_deadline<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Open => socket.set_deadline(Some(cx.now() + Duration::from_millis(20))),
        other => obeying(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        case.peer().drain();
        case.trace.closed(0);
    })
}

/// A peer that sends nothing, and one that reads nothing.
pub fn timeouts<D: Driver>() -> String {
    let timeouts = |it: &mut lightcone_core::Timeouts| {
        it.first_byte = Some(Duration::from_millis(60));
        it.write_stall = Some(Duration::from_millis(120));
    };
    let silent = play(small_with::<D>(timeouts), obeying, |case| {
        case.peer().drain();
        case.trace.closed(0);
    });
    let timeouts = |it: &mut lightcone_core::Timeouts| it.write_stall = Some(Duration::from_millis(120));
    let stalled = play(small_with::<D>(timeouts), flooding, |case| {
        let _peer = case.peer();
        case.trace.closed(0);
    });
    silent + &stalled
}

/// A shutdown with an idle socket, one with unread input, and one that is stalled.
pub fn a_stop<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Receive => {}
        Event::Open if socket.data.socket < 2 => {}
        other => flooding(socket, other, cx),
    };
    let builder = small_with::<D>(|it| it.drain = Some(Duration::from_millis(100)));
    let mut peers = Vec::new();
    play(builder, react, |case| {
        let listener = case.listen();
        for socket in 0..3 {
            peers.push(Peer::connect(listener.endpoint()));
            case.trace.token(socket);
        }
        peers[1].send(b"unread");
        case.trace.until(1, "receive");
        wait_until_stalled(case);
    })
}

/// A panic of the handler closes its socket only.
pub fn a_panic<D: Driver>() -> String {
    let log = Log::default();
    let noted = log.clone();
    let mut case = Case::start(small::<D>(), move |socket, event, cx| {
        noted.of(socket.data.socket, |story| story.event(&event));
        match event {
            Event::Receive if socket.bytes() == b"panic" => panic!("as it was told"),
            other => echoing(socket, other, cx),
        }
    });
    case.expect_panics(1);
    let listener = case.listen();
    let mut other = Peer::connect(listener.endpoint());
    case.trace.token(0);
    let mut peer = Peer::connect(listener.endpoint());
    case.trace.token(1);
    peer.send(b"panic");
    peer.drain();
    case.trace.closed(1);
    other.exchange(b"unhurt");
    drop(other);
    case.trace.closed(0);
    case.stop();
    log.stories().iter().map(|story| story.text.trim_start().to_owned() + "\n").collect()
}

/// Consecutive sockets that reuse the same descriptor number.
pub fn numbers_used_again<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Receive => {
            echo(socket);
            socket.close();
        }
        other => obeying(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        let listener = case.listen();
        for socket in 0..20 {
            let mut peer = Peer::connect(listener.endpoint());
            peer.send(b"once");
            assert_eq!(peer.receive_to_end(), b"once");
            case.trace.closed(socket);
        }
    })
}

/// Empty sends cause no event.
pub fn nothing_at_all<D: Driver>() -> String {
    let react = |socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>| match event {
        Event::Open | Event::Message(9) => socket.send(b"").unwrap(),
        other => obeying(socket, other, cx),
    };
    play(small::<D>(), react, |case| {
        let mut peer = case.peer();
        peer.send(b"");
        tell(case, 9);
        peer.finish();
        peer.expect_end();
        case.trace.closed(0);
    })
}
