extern crate std;
use super::*;
use core::marker::PhantomData;
use std::vec::Vec;

/// What a framing returned: the bytes, and whether they are first and last.
type Piece = (Vec<u8>, bool, bool);

#[derive(Clone, Copy, Debug)]
enum Rule {
    Lines(Lines),
    Delimited(Delimited<'static>),
    Lengths(Lengths),
}

/// The input of a socket that receives a stream in pieces of any size.
struct Rig {
    rule: Rule,
    capacity: usize,
    buffer: Vec<u8>,
    state: FrameState,
    pieces: Vec<Piece>,
    keeps: bool,
    /// Discards frames that are too long.
    discards: bool,
}

impl Rig {
    fn new(rule: Rule, capacity: usize) -> Self {
        Self {
            rule,
            capacity,
            buffer: Vec::new(),
            state: FrameState::default(),
            pieces: Vec::new(),
            keeps: false,
            discards: false,
        }
    }

    fn next<'f, 'a>(
        &self,
        state: &'f mut FrameState,
        input: &'f mut Input<'a>,
    ) -> Result<Option<Frame<'f, 'a>>, FrameTooLong> {
        match self.rule {
            Rule::Lines(rule) => rule.next(state, input),
            Rule::Delimited(rule) => rule.next(state, input),
            Rule::Lengths(rule) => rule.next(state, input),
        }
    }

    /// Receives bytes, no more than fit at once, and takes all frames after each piece.
    fn receive(&mut self, mut bytes: &[u8]) -> Result<(), FrameTooLong> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.capacity - self.buffer.len()));
            assert!(!now.is_empty(), "the input is full, and no frame is returned: {:?}", self.buffer);
            self.buffer.extend_from_slice(now);
            bytes = later;
            self.take_frames()?;
        }
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), FrameTooLong> {
        let (mut buffer, mut state) = (core::mem::take(&mut self.buffer), self.state);
        let (mut consumed, mut keep) = (0, false);
        let result = loop {
            let capacity = self.capacity as u32;
            let mut input = Input {
                bytes: &mut buffer,
                consumed: &mut consumed,
                capacity,
                ended: false,
                here: PhantomData,
            };
            // Every other time, a frame is kept, and must be returned again.
            keep = self.keeps && !keep;
            match self.next(&mut state, &mut input) {
                Ok(Some(frame)) if keep => frame.keep(),
                Ok(Some(frame)) => self.pieces.push((frame.to_vec(), frame.is_first(), frame.is_last())),
                Ok(None) => break Ok(()),
                Err(_) if self.discards => while self.pieces.pop_if(|(_, _, last)| !*last).is_some() {},
                Err(error) => break Err(error),
            }
        };
        buffer.drain(..consumed);
        (self.buffer, self.state) = (buffer, state);
        result
    }

    /// Returns the complete frames, joined from their pieces.
    fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut within = false;
        for (bytes, first, last) in &self.pieces {
            assert_eq!(*first, !within, "{:?}", self.pieces);
            assert!(!bytes.is_empty() || *last, "an empty piece");
            if *first {
                frames.push(Vec::new());
            }
            frames.last_mut().unwrap().extend_from_slice(bytes);
            within = !*last;
        }
        if !self.state.discards {
            assert_eq!(within, self.state.is_within_frame());
        }
        if within {
            frames.pop(); // its rest has not arrived
        }
        frames
    }
}

fn whole(bytes: &[u8]) -> Piece {
    (bytes.to_vec(), true, true)
}

/// Receives a stream cut at every two positions, and returns the pieces, which must be the same each time.
fn in_all_cuts(rule: Rule, capacity: usize, stream: &[u8]) -> Vec<Piece> {
    let mut expected: Option<Vec<Piece>> = None;
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let mut rig = Rig::new(rule, capacity);
            for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                rig.receive(part).unwrap();
            }
            rig.frames();
            assert_eq!(
                *expected.get_or_insert_with(|| rig.pieces.clone()),
                rig.pieces,
                "cut at {first}, {second}"
            );
        }
    }
    expected.unwrap()
}

#[test]
fn lines_in_all_cuts() {
    let stream = b"one\r\n\ntwo\r three\n\r\n\r\r\nfour";
    let expected = [&b"one"[..], b"", b"two\r three", b"", b"\r"].map(whole);
    assert_eq!(in_all_cuts(Rule::Lines(Lines::new()), 64, stream), expected);
    assert_eq!(in_all_cuts(Rule::Lines(Lines::new().max(11)), 64, stream), expected);
}

#[test]
fn delimited_frames_in_all_cuts() {
    let rule = Delimited::new(b"\r\n\r\n");
    let stream = b"a\r\nb\r\n\r\n\r\n\r\n\n\r\r\n\r\nrest";
    assert_eq!(in_all_cuts(Rule::Delimited(rule), 64, stream), [&b"a\r\nb"[..], b"", b"\n\r"].map(whole));
}

#[test]
fn frames_with_lengths_in_all_cuts() {
    for (field, lengths) in [
        (LengthField::U8, [&b"\x03"[..], b"\x00", b"\x01"]),
        (LengthField::Be16, [b"\x00\x03", b"\x00\x00", b"\x00\x01"]),
        (LengthField::Le16, [b"\x03\x00", b"\x00\x00", b"\x01\x00"]),
        (LengthField::Be32, [b"\x00\x00\x00\x03", b"\x00\x00\x00\x00", b"\x00\x00\x00\x01"]),
        (LengthField::Le32, [b"\x03\x00\x00\x00", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"]),
        (LengthField::Be64, [b"\0\0\0\0\0\0\0\x03", &[0; 8], b"\0\0\0\0\0\0\0\x01"]),
        (LengthField::Le64, [b"\x03\0\0\0\0\0\0\0", &[0; 8], b"\x01\0\0\0\0\0\0\0"]),
    ] {
        let stream = [lengths[0], b"abc", lengths[1], lengths[2], b"d", lengths[0], b"ef"].concat();
        let pieces = in_all_cuts(Rule::Lengths(Lengths::new(field)), 64, &stream);
        assert_eq!(pieces, [&b"abc"[..], b"", b"d"].map(whole), "{field:?}");
        for length in [0, 1, 200, field.max()] {
            let encoded = field.encode(length);
            assert_eq!(field.decode(&encoded[..field.width()]), Some(length), "{field:?}");
        }
    }
}

#[test]
fn what_does_not_fit_comes_in_pieces_if_it_may() {
    let mut rig = Rig::new(Rule::Lines(Lines::new().max(10)), 4);
    rig.receive(b"123456\r\nabc\nabc\r\n").unwrap();
    assert_eq!(
        rig.pieces,
        [
            (b"1234".to_vec(), true, false),
            (b"56".to_vec(), false, true),
            whole(b"abc"),
            // with its end, this line is a byte too long for the input
            (b"abc".to_vec(), true, false),
            (b"".to_vec(), false, true)
        ]
    );
    let mut rig = Rig::new(Rule::Lengths(Lengths::new(LengthField::U8).max(255)), 4);
    rig.receive(b"\x03abc\x05abcde\x00").unwrap();
    assert_eq!(
        rig.pieces,
        [whole(b"abc"), (b"abc".to_vec(), true, false), (b"de".to_vec(), false, true), whole(b"")]
    );
}

#[test]
fn what_is_too_long_is_an_error_as_soon_as_it_is_known() {
    let error = |rule, capacity, stream: &[u8]| {
        let mut rig = Rig::new(rule, capacity);
        let error = rig.receive(stream).unwrap_err();
        // The frame is discarded, except by an input that is too small for any frame.
        assert_eq!(rig.take_frames(), if capacity > 2 { Ok(()) } else { Err(error) });
        error
    };
    let lines = |max| Rule::Lines(Lines::new().max(max));
    assert_eq!(error(lines(3), 64, b"1234"), FrameTooLong { length: 4, max: 3 });
    assert_eq!(error(lines(3), 64, b"123\r4"), FrameTooLong { length: 5, max: 3 });
    assert_eq!(error(lines(6), 4, b"1234567"), FrameTooLong { length: 7, max: 6 });
    assert_eq!(error(Rule::Lines(Lines::new()), 4, b"1234"), FrameTooLong { length: 4, max: 3 });
    assert_eq!(error(Rule::Lines(Lines::new()), 4, b"123\r\n"), FrameTooLong { length: 4, max: 3 });
    let lengths = Lengths::new(LengthField::Be16);
    assert_eq!(error(Rule::Lengths(lengths), 64, b"\0\x3f"), FrameTooLong { length: 63, max: 62 });
    assert_eq!(error(Rule::Lengths(lengths.max(9)), 64, b"\0\x0a"), FrameTooLong { length: 10, max: 9 });
    // inputs that are too small for the framing itself
    assert_eq!(error(Rule::Lengths(lengths.max(9)), 2, b"\0"), FrameTooLong { length: 2, max: 9 });
    let delimited = Delimited::new(b"abc").max(9);
    assert_eq!(error(Rule::Delimited(delimited), 2, b"ab"), FrameTooLong { length: 2, max: 9 });
}

/// Receives a stream byte by byte, and discards the frames that begin with `x` at their first byte.
fn without_x(rule: Rule, capacity: usize, stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut buffer, mut state, mut frames) = (Vec::new(), FrameState::default(), Vec::new());
    let mut frame: Vec<u8> = Vec::new();
    let rig = Rig::new(rule, capacity);
    for byte in stream {
        buffer.push(*byte);
        let mut consumed = 0;
        let capacity = capacity as u32;
        let mut input =
            Input { bytes: &mut buffer, consumed: &mut consumed, capacity, ended: false, here: PhantomData };
        while let Some(mut piece) = rig.next(&mut state, &mut input).unwrap() {
            if piece.is_first() && piece.starts_with(b"x") {
                piece.discard();
                continue;
            }
            piece.make_ascii_uppercase();
            frame.extend_from_slice(&piece);
            if piece.is_last() {
                frames.push(core::mem::take(&mut frame));
            }
        }
        buffer.drain(..consumed);
    }
    frames
}

#[test]
fn a_frame_can_be_discarded_and_changed_in_place() {
    let expected = [&b"ABCDEFG"[..], b"H", b""].map(<[u8]>::to_vec);
    for capacity in [4, 64] {
        let lines = Rule::Lines(Lines::new().max(20));
        assert_eq!(without_x(lines, capacity, b"abcdefg\nxbcdefghij\nx\nh\n\n"), expected, "{capacity}");
        let delimited = Rule::Delimited(Delimited::new(b"--").max(20));
        assert_eq!(without_x(delimited, capacity, b"abcdefg--xb-d-fghij--x--h----"), expected, "{capacity}");
        let lengths = Rule::Lengths(Lengths::new(LengthField::U8).max(20));
        assert_eq!(
            without_x(lengths, capacity, b"\x07abcdefg\x0axbcdefghij\x01x\x01h\x00"),
            expected,
            "{capacity}"
        );
    }
}

#[test]
fn a_frame_of_any_length_is_begun_if_it_may() {
    let mut rig = Rig::new(Rule::Lengths(Lengths::new(LengthField::Le64).max(u64::MAX)), 16);
    rig.receive(&[0xFF; 8]).unwrap();
    rig.receive(b"abcdefghij").unwrap();
    assert_eq!(
        rig.pieces.iter().map(|(bytes, _, last)| (bytes.len(), *last)).collect::<Vec<_>>(),
        [(8, false), (2, false)]
    );
    assert_eq!(rig.state.count, u64::MAX - 10);
    let mut rig = Rig::new(Rule::Lines(Lines::new().max(0)), 16);
    rig.receive(b"\n\r\n").unwrap();
    assert_eq!(rig.pieces, [whole(b""), whole(b"")]);
    assert_eq!(rig.receive(b"a"), Err(FrameTooLong { length: 1, max: 0 }));
}

/// A generator of small numbers, after Knuth's MMIX.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Divides a whole stream into frames in the simplest way. Each comes with the length of what follows it.
fn simply(rule: Rule, mut stream: &[u8]) -> Vec<(Vec<u8>, usize)> {
    let mut frames = Vec::new();
    loop {
        let (frame, around) = match rule {
            Rule::Lines(_) => {
                let Some(end) = find(stream, b"\n") else { return frames };
                let line = &stream[..end];
                let text = line.strip_suffix(b"\r").unwrap_or(line);
                (text, end + 1 - text.len())
            }
            Rule::Delimited(rule) => {
                let Some(end) = find(stream, rule.delimiter) else { return frames };
                (&stream[..end], rule.delimiter.len())
            }
            Rule::Lengths(rule) => {
                let width = rule.field.width();
                let Some(length) = rule.field.decode(stream) else { return frames };
                let Some(frame) = stream.get(width..width + length as usize) else { return frames };
                (frame, width)
            }
        };
        frames.push((frame.to_vec(), around));
        stream = &stream[frame.len() + around..];
    }
}

#[test]
fn any_stream_in_any_pieces_has_the_frames_of_the_simplest_way() {
    let mut numbers = Numbers(1);
    let (mut errors, mut in_pieces, mut discarded) = (0, 0, 0);
    for round in 0..20_000 {
        let max = [None, Some(numbers.below(12) as u64)][numbers.below(2)];
        let rule = match numbers.below(6) {
            0 | 1 => Rule::Lines(Lines { max }),
            2 => Rule::Lengths(Lengths { field: LengthField::U8, max }),
            3 => Rule::Lengths(Lengths { field: LengthField::Be16, max }),
            4 => Rule::Delimited(Delimited { delimiter: b"aab", max }),
            _ => Rule::Delimited(Delimited { delimiter: b"abab", max }),
        };
        let alphabet: &[u8] = match rule {
            Rule::Lines(_) => b"ab\r\n\n",
            Rule::Delimited(_) => b"aab",
            Rule::Lengths(_) => b"\x00\x00\x01\x02\x05",
        };
        let stream: Vec<u8> =
            (0..numbers.below(60)).map(|_| alphabet[numbers.below(alphabet.len())]).collect();
        let mut rig = Rig::new(rule, 5 + numbers.below(12));
        rig.keeps = numbers.below(4) == 0;
        rig.discards = numbers.below(2) == 0;
        let mut rest = &stream[..];
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            let (now, later) = rest.split_at(1 + numbers.below(rest.len().min(9)));
            result = rig.receive(now);
            rest = later;
        }
        let allowed = |(frame, around): &(Vec<u8>, usize)| match max {
            Some(max) => frame.len() as u64 <= max,
            None => frame.len() + around <= rig.capacity,
        };
        let all = simply(rule, &stream);
        let refused = all.iter().position(|frame| !allowed(frame));
        let until = if rig.discards { None } else { refused };
        let good = all.iter().take(until.unwrap_or(all.len())).filter(|frame| allowed(frame));
        let good: Vec<_> = good.map(|(frame, _)| frame.clone()).collect();
        let frames = rig.frames();
        in_pieces += usize::from(rig.pieces.iter().any(|(_, first, _)| !*first));
        assert_eq!(frames, good, "round {round}: {rule:?} in {} bytes, {stream:?}", rig.capacity);
        if good.len() < all.len() && !rig.discards {
            assert!(result.is_err(), "round {round}: {rule:?} in {} bytes, {stream:?}", rig.capacity);
        }
        errors += usize::from(result.is_err());
        discarded += usize::from(rig.discards && refused.is_some());
    }
    assert!(
        errors > 1_000 && in_pieces > 100 && discarded > 1_000,
        "{errors} errors, {in_pieces} in pieces, {discarded} discarded"
    );
}
