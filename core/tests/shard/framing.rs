//! Frames as they are sent: whole or not at all, and as the receiving side finds them.

use crate::common::{Bench, PLAIN, on};
use lightcone_core::framing::{
    Delimited, FrameState, FrameTooLong, LengthField, Lengths, Lines, SendFrameError,
};
use lightcone_core::{Event, Output};

/// Runs `send` in a callback, and returns what was queued.
fn queued(send: impl Fn(&mut Output<'_>) + Clone + 'static) -> Vec<u8> {
    let mut bench = Bench::new(&PLAIN, on(Event::Receive, move |socket| send(&mut socket.stream.split().1)));
    let token = bench.open();
    let _ = bench.receive(token, b".");
    bench.outputs(token)
}

#[test]
fn frames_are_sent_with_what_divides_them() {
    let sent = queued(|output| {
        assert_eq!(Lines::new().send(output, b"one\rtwo"), Ok(()));
        assert_eq!(Delimited::new(b"--").send(output, b"a-b"), Ok(()));
        assert_eq!(Lengths::new(LengthField::Be16).send(output, b"abc"), Ok(()));
        assert_eq!(Lengths::new(LengthField::Le32).begin(output, 258), Ok(()));
    });
    assert_eq!(sent, b"one\rtwo\na-b--\x00\x03abc\x02\x01\x00\x00");
}

#[test]
fn a_frame_that_would_be_divided_is_refused() {
    let sent = queued(|output| {
        assert_eq!(Lines::new().send(output, b"one\ntwo"), Err(SendFrameError::Delimiter));
        assert_eq!(Delimited::new(b"--").send(output, b"a--b"), Err(SendFrameError::Delimiter));
        // the peer would find `--` one byte early
        assert_eq!(Delimited::new(b"--").send(output, b"a-"), Err(SendFrameError::Delimiter));
        assert_eq!(Delimited::new(b"abab").send(output, b"ab"), Err(SendFrameError::Delimiter));
        assert_eq!(Delimited::new(b"aab").send(output, b"a"), Ok(()), "`aaab` contains it once, at its end");
        let too_long = FrameTooLong { length: 256, max: 255 };
        let lengths = Lengths::new(LengthField::U8);
        assert_eq!(lengths.send(output, &[0; 256]), Err(SendFrameError::TooLong(too_long)));
        assert_eq!(lengths.begin(output, 256), Err(SendFrameError::TooLong(too_long)));
        assert_eq!(lengths.begin(output, 255), Ok(()));
    });
    assert_eq!(sent, b"aaab\xff");
}

#[test]
fn a_frame_without_room_is_not_begun_and_writable_follows() {
    for left in 0..6 {
        let sent = queued(move |output| {
            let room = output.room();
            output.send(&vec![b'.'; room - left]).unwrap();
            let (result, queued) = (Lengths::new(LengthField::Be16).send(output, b"abc"), output.queued());
            if left < 5 {
                assert_eq!((result, queued), (Err(SendFrameError::Full), room - left));
            } else {
                assert_eq!((result, queued), (Ok(()), room));
            }
        });
        assert_eq!(sent.ends_with(b"\x00\x03abc"), left == 5);
    }
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let room = socket.room();
            socket.send(&vec![b'.'; room - 3]).unwrap();
            assert_eq!(Lines::new().send(&mut socket.stream.split().1, b"abc"), Err(SendFrameError::Full));
            assert!(socket.is_writable_pending());
        }),
    );
    let token = bench.open();
    let _ = bench.receive(token, b".");
}

#[test]
fn a_frame_above_the_bound_never_fits_and_writable_does_not_follow() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let frame = vec![b'.'; socket.stream.split().1.limit()];
            assert_eq!(Lines::new().send(&mut socket.stream.split().1, &frame), Err(SendFrameError::Full));
            assert!(!socket.is_writable_pending());
        }),
    );
    let token = bench.open();
    let _ = bench.receive(token, b".");
}

/// The input's capacity is the socket's, so a line that fits is returned whole, and a longer one is an error.
#[test]
fn the_capacity_is_that_of_the_socket() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let (capacity, mut state) = (socket.capacity(), FrameState::default());
            let (mut input, _) = socket.stream.split();
            assert_eq!(input.capacity(), capacity);
            match Lines::new().next(&mut state, &mut input) {
                Ok(line) => assert!(line.is_none()),
                Err(error) => assert_eq!(error.max, capacity as u64 - 1),
            }
            let full = input.bytes().len() == capacity;
            assert_eq!(state.is_within_frame(), full, "it is discarded");
        }),
    );
    let token = bench.open();
    let capacity = bench.room(token);
    let _ = bench.receive(token, &vec![b'x'; capacity - 1]);
    let _ = bench.receive(token, b"x");
}
