//! Shrinking: searches for smaller tapes that fail in the same way.

use crate::tape::{TRACKS, Tape};

/// Returns the kind of a failure: the name of the property, or the message without its digits.
fn kind(message: &str) -> String {
    match message.split_once(':') {
        Some((property, _)) if !property.contains(' ') => property.into(),
        _ => message.chars().filter(|c| !c.is_ascii_digit()).collect(),
    }
}

type Entries = Vec<(usize, u32, u32)>;

/// Shrinks a tape: sets decisions to 0, first many at a time, then fewer, and then reduces the remaining
/// values, as long as the tape still fails in the same way. Performs at most `runs` runs.
pub(crate) fn shrink(
    tape: &Tape,
    message: &str,
    mut runs: usize,
    mut fails: impl FnMut(&Tape) -> Option<String>,
) -> Tape {
    let wanted = kind(message);
    let mut best = tape.entries();
    let mut holds = |entries: &Entries, runs: &mut usize| {
        *runs -= 1;
        fails(&Tape::of(entries)).is_some_and(|message| kind(&message) == wanted)
    };
    // Whole tracks first: each is one run, and most failures need only some of them.
    for track in 0..TRACKS {
        let fewer: Entries = best.iter().copied().filter(|(other, _, _)| *other != track).collect();
        if fewer.len() < best.len() && runs > 0 && holds(&fewer, &mut runs) {
            best = fewer;
        }
    }
    let mut size = best.len().div_ceil(2);
    while size > 0 && runs > 0 {
        let mut at = 0;
        let before = best.len();
        while at < best.len() && runs > 0 {
            let mut fewer = best.clone();
            fewer.drain(at..(at + size).min(best.len()));
            if holds(&fewer, &mut runs) {
                best = fewer;
            } else {
                at += size;
            }
        }
        if size == 1 && best.len() == before {
            break;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2).min(size - 1) };
    }
    for at in 0..best.len() {
        while runs > 0 && best[at].2 > 1 {
            let mut smaller = best.clone();
            smaller[at].2 /= 2;
            if !holds(&smaller, &mut runs) {
                break;
            }
            best = smaller;
        }
    }
    Tape::of(&best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes_and_numbers_become_small() {
        let tape: Tape =
            (0..500).map(|n| format!("n{n}={}", n + 3)).collect::<Vec<_>>().join(",").parse().unwrap();
        let small = shrink(&tape, "streams: wrong byte 17", 1_000, |tape| {
            let has =
                |place, least| tape.entries().iter().any(|(_, at, value)| *at == place && *value >= least);
            (has(77, 20) && has(410, 1)).then(|| "streams: wrong byte 3".into())
        });
        assert_eq!(small.to_string(), "n77=20,n410=1");
    }

    #[test]
    fn another_failure_is_no_smaller_one() {
        let tape: Tape = "n1=1,n2=1".parse().unwrap();
        let small = shrink(&tape, "streams: a", 100, |tape| {
            Some(if tape.len() == 2 { "streams: b".into() } else { "timers: c".into() })
        });
        assert_eq!(small, tape);
    }
}
