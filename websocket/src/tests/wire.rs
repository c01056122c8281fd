//! Frames as bytes, of either side.

use std::vec::Vec;

use crate::{FrameHeader, Mask, Opcode, Role};

/// A frame as it is compared: its opcode and its payload.
pub(super) type Frame = (Opcode, Vec<u8>);

/// Encodes a frame of one side. A client masks it.
pub(super) fn frame(by: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mask = (by == Role::Client).then_some(Mask::new([0x37, 0xfa, 0x21, 0x3d]));
    let header = FrameHeader { fin, opcode, mask, length: payload.len() as u64 };
    let mut payload = payload.to_vec();
    if let Some(mut mask) = mask {
        mask.apply(&mut payload);
    }
    [header.encode().as_bytes(), &payload].concat()
}

/// Divides what the other side has sent to `to` into frames, with the fragments of a message joined. Each frame of a
/// client has a mask of its own.
pub(super) fn frames(to: Role, mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut last = None;
    while let Some((header, size)) = FrameHeader::parse(bytes, to).unwrap() {
        let end = size + usize::try_from(header.length).unwrap();
        let mut payload = bytes[size..end].to_vec();
        if let Some(mut mask) = header.mask {
            assert_ne!(last.replace(header.mask), Some(header.mask), "the mask of the frame before");
            mask.apply(&mut payload);
        }
        if header.opcode == Opcode::Continuation {
            frames.last_mut().unwrap().1.extend_from_slice(&payload);
        } else {
            frames.push((header.opcode, payload));
        }
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty(), "an incomplete frame");
    frames
}

pub(super) fn sent(opcode: Opcode, payload: &[u8]) -> Frame {
    (opcode, payload.to_vec())
}

/// A conversation with everything that may occur, in frames of one side, and what the other side responds with.
pub(super) fn conversation(by: Role) -> (Vec<u8>, Vec<Frame>) {
    let frame = |fin, opcode, payload: &[u8]| frame(by, fin, opcode, payload);
    let text = |text: &str| frame(true, Opcode::Text, text.as_bytes());
    let long = "ä€".repeat(700);
    let stream = [
        text("hello"),
        frame(false, Opcode::Text, "\u{1f600}".as_bytes().split_at(2).0),
        frame(true, Opcode::Ping, b"are you there?"),
        frame(true, Opcode::Continuation, "\u{1f600}".as_bytes().split_at(2).1),
        frame(true, Opcode::Pong, b""),
        frame(true, Opcode::Binary, b"\xff"),
        text(&long),
        frame(true, Opcode::Close, b"\x0f\xa0bye"),
        text("not read any more"),
    ]
    .concat();
    let expected = Vec::from([
        sent(Opcode::Text, b"hello"),
        sent(Opcode::Pong, b"are you there?"),
        sent(Opcode::Text, "\u{1f600}".as_bytes()),
        sent(Opcode::Binary, b"\xff"),
        sent(Opcode::Text, long.as_bytes()),
        sent(Opcode::Close, b"\x0f\xa0"),
    ]);
    (stream, expected)
}
