extern crate std;
use super::super::LINK_BYTES;
use super::*;
use std::vec::Vec;

fn with_pool(count: usize, test: impl FnOnce(&mut Blocks<'_>)) {
    let (mut memory, mut links) = (std::vec![0; count * 64], std::vec![[0; LINK_BYTES]; count]);
    test(&mut Blocks::new(&mut memory, &mut links, 6));
}

fn output<'a>(blocks: &'a mut Blocks<'_>, chain: &'a mut OutputQueue, most: u16) -> Output<'a> {
    Output { pool: blocks.lend(), chain, most }
}

fn content(chain: &OutputQueue, blocks: &Blocks<'_>) -> Vec<u8> {
    let mut slices = [&[][..]; 16];
    let n = chain.slices(blocks, &mut slices);
    let all = slices[..n].concat();
    assert!(slices[..n].iter().all(|slice| !slice.is_empty()));
    all
}

#[test]
fn whatever_is_written_comes_out_in_order() {
    with_pool(8, |blocks| {
        let mut seed = 3_u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let (mut chain, mut model, mut next) = (OutputQueue::default(), Vec::new(), 0_u8);
        for _ in 0..50_000 {
            let piece: Vec<u8> = (0..random(150)).map(|i| next.wrapping_add(i as u8)).collect();
            let mut out = output(blocks, &mut chain, 5);
            let (room, queued) = (out.room(), out.queued());
            let taken = match random(6) {
                0 => out.send_some(&piece),
                5 if piece.len() <= 64 => match out.append(piece.len()) {
                    Ok(to) => {
                        to.copy_from_slice(&piece);
                        piece.len()
                    }
                    Err(Full) => 0,
                },
                1 if !piece.is_empty() && piece.len() <= 64 => match out.reserve(piece.len()) {
                    Ok(to) => {
                        to.copy_from_slice(&piece);
                        out.commit(piece.len());
                        piece.len()
                    }
                    Err(Full) => 0,
                },
                2 => {
                    let mark = out.mark();
                    let _ = out.send_some(&[0xEE; 200]);
                    out.rewind(mark);
                    assert_eq!((out.room(), out.queued()), (room, queued));
                    0
                }
                3 => {
                    let to = out.spare();
                    let n = to.len().min(piece.len());
                    to[..n].copy_from_slice(&piece[..n]);
                    out.commit(n);
                    n
                }
                _ => match out.send(&piece) {
                    Ok(()) => piece.len(),
                    Err(Full) => {
                        assert!(piece.len() > room);
                        0
                    }
                },
            };
            next = next.wrapping_add(taken as u8);
            model.extend_from_slice(&piece[..taken]);
            assert_eq!(content(&chain, blocks), model);
            assert_eq!(chain.queued(), model.len());
            assert!(chain.blocks <= 5);
            if random(3) == 0 {
                let n = random(model.len() as u32 + 1) as usize;
                chain.sent(blocks, n);
                model.drain(..n);
            }
            chain.trim(blocks);
            assert_eq!(blocks.available(), 8 - chain.blocks as usize);
            assert_eq!(chain.blocks == 0, model.is_empty());
        }
        chain.clear(blocks);
        assert_eq!(blocks.available(), 8);
    });
}

#[test]
fn the_bound_holds_from_both_sides() {
    with_pool(8, |blocks| {
        let mut chain = OutputQueue::default();
        let mut out = output(blocks, &mut chain, 2);
        assert_eq!(out.room(), 128);
        assert_eq!(out.send(&[1; 129]), Err(Full));
        assert!(!out.chain.armed, "it can never fit");
        assert_eq!(out.queued(), 0, "nothing of it was taken");
        assert_eq!(out.send(&[1; 128]), Ok(()));
        assert_eq!(out.send(&[1]), Err(Full));
        assert!(out.chain.armed);
        assert_eq!(out.send(&[]), Ok(()));
    });
}

#[test]
fn an_empty_pool_refuses() {
    with_pool(1, |blocks| {
        let (mut one, mut two) = (OutputQueue::default(), OutputQueue::default());
        output(blocks, &mut one, 4).send(&[1; 64]).unwrap();
        let mut out = output(blocks, &mut two, 4);
        assert_eq!((out.room(), out.send(&[1])), (0, Err(Full)));
        assert!(two.armed);
    });
}

#[test]
fn formatted_text_is_all_or_nothing() {
    with_pool(2, |blocks| {
        let mut chain = OutputQueue::default();
        let mut out = output(blocks, &mut chain, 2);
        out.send(&[b'x'; 100]).unwrap();
        assert_eq!(write!(out, "{}{}", "a".repeat(20), "b".repeat(20)), Err(Full));
        assert_eq!(out.queued(), 100);
        write!(out, "{}{}", 12, 34).unwrap();
        assert!(content(&chain, blocks).ends_with(b"x1234"));
    });
}

#[test]
fn closed_for_writing_takes_nothing() {
    with_pool(2, |blocks| {
        let mut chain = OutputQueue::default();
        output(blocks, &mut chain, 2).send(b"1").unwrap();
        let mut out = output(blocks, &mut chain, 0);
        assert_eq!(out.send(b"2"), Err(Full));
        assert!(out.reserve(1).is_err() && out.spare().is_empty());
        assert_eq!((out.room(), out.send_some(b"2"), out.queued()), (0, 0, 1));
        assert!(!out.chain.armed, "it would never come");
    });
}

#[test]
#[should_panic(expected = "commit(2)")]
fn committing_more_than_there_is_panics() {
    with_pool(1, |blocks| {
        let mut chain = OutputQueue::default();
        let mut out = output(blocks, &mut chain, 1);
        out.send(&[0; 63]).unwrap();
        out.commit(2);
    });
}
