//! Input and output through other crates' traits: `core::fmt` and `embedded_io`.

use crate::common::{Bench, Data, PLAIN, on};
use core::fmt;
use embedded_io::{BufRead, Error as _, ErrorKind, Read, ReadExactError, ReadReady, Write, WriteReady};
use lightcone_core::{Action, Event, Full, Interest, Socket, WouldBlock};

/// A protocol written against traits only: echoes each line in upper case, until there is no room or no whole line.
fn shout<R: BufRead, W: Write>(mut input: R, mut output: W) -> Result<usize, W::Error> {
    let mut lines = 0;
    loop {
        let Ok(bytes) = input.fill_buf() else { return Ok(lines) }; // more may come
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(lines) };
        let line = bytes[..=end].to_ascii_uppercase();
        output.write_all(&line)?;
        input.consume(end + 1);
        lines += 1;
    }
}

#[test]
fn a_protocol_over_traits_reads_and_writes() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let (input, output) = socket.stream.split();
            assert_eq!(shout(input, output), Ok(2));
            assert_eq!(socket.bytes(), b"rest");
        }),
    );
    let token = bench.open();
    assert_eq!(bench.receive(token, b"one\ntwo\nrest"), Action::Send);
    assert_eq!(bench.outputs(token), b"ONE\nTWO\n");
}

#[test]
fn all_that_is_left_is_consumed_at_once() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| match socket.bytes() {
            b"stream" => {
                socket.consume(1);
                socket.consume_all();
                assert_eq!(socket.bytes(), b"");
                socket.consume_all(); // without an effect
            }
            b"input" => {
                let (mut input, _) = socket.stream.split();
                input.consume(1);
                input.consume_all();
                assert_eq!(input.bytes(), b"");
                input.consume_all(); // without an effect
                assert_eq!(socket.bytes(), b"");
            }
            kept => assert_eq!(kept, b"kept"),
        }),
    );
    let token = bench.open();
    for bytes in [b"stream".as_slice(), b"input", b"kept"] {
        assert_eq!(bench.receive(token, bytes), Action::Wait(Interest::READ));
    }
}

#[test]
fn what_does_not_fit_is_not_begun_and_stays_unread() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let room = socket.room();
            socket.send(&vec![b'.'; room - 4]).unwrap();
            let (input, output) = socket.stream.split();
            assert_eq!(shout(input, output), Err(Full));
            assert_eq!(socket.bytes(), b"second\n");
            assert_eq!(socket.room(), 0);
            assert!(socket.is_writable_pending());
        }),
    );
    let token = bench.open();
    let _ = bench.receive(token, b"one\nsecond\n");
    assert!(bench.outputs(token).ends_with(b"..ONE\n"));
}

#[test]
fn reading_takes_what_is_there_and_then_nothing() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let (mut input, _) = socket.stream.split();
            let mut buffer = [0; 4];
            assert_eq!(input.read_ready(), Ok(true));
            assert_eq!(input.read(&mut buffer), Ok(4));
            assert_eq!(&buffer, b"abcd");
            assert_eq!(input.read(&mut []), Ok(0));
            assert_eq!(input.read(&mut buffer), Ok(2));
            assert_eq!(&buffer[..2], b"ef");
            assert_eq!(input.read_ready(), Ok(false));
            assert_eq!(input.read(&mut buffer), Err(WouldBlock));
            assert_eq!(input.read(&mut []), Ok(0));
            assert_eq!(input.fill_buf(), Err(WouldBlock));
            assert_eq!(WouldBlock.kind(), ErrorKind::Other);
        }),
    );
    let token = bench.open();
    let _ = bench.receive(token, b"abcdef");
    assert_eq!(bench.last().unread, 6);
    assert_eq!(bench.message(token, 1), Ok(Action::Wait(Interest::READ)));
    assert_eq!(bench.last().unread, 0);
}

/// `read_exact` distinguishes "nothing yet" from the end of the stream.
#[test]
fn reading_distinguishes_no_bytes_from_the_end() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        let ends = event == Event::PeerClosed;
        if !ends && event != Event::Receive {
            return;
        }
        let (mut input, _) = socket.stream.split();
        let mut four = [0; 4];
        if input.bytes().len() >= 4 {
            assert_eq!(input.read_exact(&mut four), Ok(()));
            assert_eq!(&four, b"abcd");
        }
        let before = input.bytes().to_vec();
        let error = if ends { ReadExactError::UnexpectedEof } else { ReadExactError::Other(WouldBlock) };
        assert_eq!(input.read_exact(&mut four), Err(error));
        assert_eq!(input.bytes(), before, "nothing was consumed");
        if ends {
            assert_eq!(before, b"ef");
            assert_eq!((input.read_ready(), input.read(&mut four)), (Ok(true), Ok(2)));
            assert_eq!((input.read_ready(), input.read(&mut four)), (Ok(true), Ok(0)));
            assert_eq!(input.fill_buf(), Ok(&[][..]));
        }
    });
    let token = bench.open();
    for piece in [&b"abc"[..], b"d", b"e", b"f"] {
        let _ = bench.receive(token, piece);
    }
    let _ = bench.tell(token, |conn| conn.peer_ended());
    assert_eq!(bench.last().event, Event::PeerClosed);
}

#[test]
fn a_writer_takes_what_fits_and_fails_when_that_is_nothing() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Open, |socket| {
            let room = socket.room();
            let (_, mut output) = socket.stream.split();
            assert_eq!(output.write_ready(), Ok(true));
            assert_eq!(output.write(&vec![b'x'; room + 1]), Ok(room));
            assert_eq!(output.write_ready(), Ok(false));
            assert_eq!(output.write(b"more"), Err(Full));
            assert_eq!(output.write(b""), Ok(0));
            assert_eq!(output.flush(), Ok(()));
            assert_eq!(Full.kind(), ErrorKind::WriteZero);
            assert_eq!(output.queued(), room);
        }),
    );
    let (token, next) = bench.opened();
    assert_eq!(next, Action::Send);
    let queued = bench.outputs(token).len();
    assert_eq!(bench.tell(token, |conn| conn.sent(queued)), Action::Wait(Interest::READ));
    assert!(bench.events().contains(&Event::Writable));
}

/// A text that is formatted in pieces.
struct Pieces(usize);

impl fmt::Display for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.0).try_for_each(|_| f.write_str("piece "))
    }
}

/// Formats through the trait, as code that is generic over writers does.
fn format_by_trait<W: Write>(output: &mut W, pieces: usize) -> bool {
    output.write_fmt(format_args!("{}", Pieces(pieces))).is_ok()
}

#[test]
fn formatting_takes_all_or_nothing_also_by_the_trait() {
    let too_many = |socket: &mut Socket<'_, Data>| socket.room() / 6 + 1;
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Open, move |socket| {
            let most = too_many(socket);
            let (_, mut output) = socket.stream.split();
            assert!(!format_by_trait(&mut output, most));
            assert_eq!(output.queued(), 0);
            assert_eq!(write!(output, "{}", Pieces(most)), Err(Full));
            assert_eq!(output.queued(), 0);
            assert!(format_by_trait(&mut output, 2));
            write!(output, "{}", Pieces(1)).unwrap();
            // `core::fmt::Write::write_fmt` keeps the pieces that fitted, as documented.
            assert!(fmt::Write::write_fmt(&mut output, format_args!("{}", Pieces(most))).is_err());
            assert!(output.queued() > 3 * 6);
        }),
    );
    let token = bench.open();
    assert!(bench.outputs(token).starts_with(b"piece piece piece piece "));
}

/// A layer that decrypts or unmasks changes the bytes in place: in the driver's slice, and in the block of kept input.
#[test]
fn input_is_changed_in_place_and_what_is_left_stays_changed() {
    const MASK: u8 = 0x55;
    let mut seen = 0;
    let mut bench = Bench::new(&PLAIN, move |socket, event| {
        if event == Event::Receive {
            let fresh = socket.bytes().len() - seen;
            socket.bytes_mut()[seen..].iter_mut().for_each(|byte| *byte ^= MASK);
            let (mut input, _) = socket.stream.split();
            let whole = input.bytes().len() / 4 * 4;
            assert!(fresh > 0 && input.bytes().iter().all(u8::is_ascii_lowercase), "{:?}", input.bytes());
            input.bytes_mut().make_ascii_uppercase();
            input.bytes_mut()[whole..].make_ascii_lowercase();
            let (mut input, mut output) = socket.stream.split();
            output.send(&input.bytes()[..whole]).unwrap();
            input.consume(whole);
            seen = input.bytes().len();
        }
    });
    let token = bench.open();
    for piece in [&b"abcde"[..], b"fg", b"hijkl"] {
        let masked: Vec<u8> = piece.iter().map(|byte| byte ^ MASK).collect();
        let _ = bench.receive(token, &masked);
    }
    assert_eq!(bench.outputs(token), b"ABCDEFGHIJKL");
}
