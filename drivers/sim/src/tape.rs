//! The decisions of a run: drawn from a seed, or played back from a tape.

use core::fmt;
use core::str::FromStr;

/// What a decision is about. Each kind has its own track, so that an additional decision of one kind does not
/// shift the decisions of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Track {
    /// Sizes of the world, and which faults it has.
    Setup,
    /// Choices of the scenario.
    Script,
    /// The order of simultaneous events.
    Order,
    /// Latencies, windows, resets.
    Network,
    /// Outcomes of calls and waits.
    Calls,
    /// How many events a wait returns, and how much the system buffers. A track of its own, so that tapes from before
    /// there were such decisions keep their meaning: their waits have room for all events, and nothing is buffered.
    System,
}

pub(crate) const TRACKS: usize = 6;
const LETTERS: [char; TRACKS] = ['s', 'p', 'o', 'n', 'c', 'y'];

/// The decisions of a run that are not 0. By convention, 0 is the benign choice (no fault, no delay, first
/// come, first served): an empty tape is a calm run, and each entry set to 0 makes the run simpler.
///
/// The text form, for command lines, is a comma-separated list of entries; `n12=3` is a track, a position on
/// it, and a value.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Tape {
    tracks: [Vec<(u32, u32)>; TRACKS],
}

impl Tape {
    /// Returns the number of decisions that are not 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracks.iter().map(Vec::len).sum()
    }

    /// Returns whether every decision is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all entries: track, position, value.
    pub(crate) fn entries(&self) -> Vec<(usize, u32, u32)> {
        let of = |(track, entries): (usize, &Vec<(u32, u32)>)| {
            entries.iter().map(|(place, value)| (track, *place, *value)).collect::<Vec<_>>()
        };
        self.tracks.iter().enumerate().flat_map(of).collect()
    }

    /// Creates a tape from entries, which are sorted by position within each track.
    pub(crate) fn of(entries: &[(usize, u32, u32)]) -> Self {
        let mut tape = Self::default();
        for (track, place, value) in entries {
            tape.tracks[*track].push((*place, *value));
        }
        tape
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tape({self})")
    }
}

impl fmt::Display for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (track, place, value)) in self.entries().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}{place}={value}", LETTERS[track])?;
        }
        Ok(())
    }
}

/// The text of a tape is invalid.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TapeError(String);

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tape entry {:?}; allowed: a track of s, p, o, n, c, y, then PLACE=VALUE, places ascending",
            self.0
        )
    }
}

/// Formats as `Display` does: a `main` that returns the error prints it with `Debug`.
impl fmt::Debug for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for TapeError {}

impl FromStr for Tape {
    type Err = TapeError;

    fn from_str(text: &str) -> Result<Self, TapeError> {
        let mut tape = Self::default();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let parsed = (|| {
                let letter = entry.chars().next()?;
                let track = LETTERS.iter().position(|other| *other == letter)?;
                let (place, value) = entry.get(1..)?.split_once('=')?;
                Some((track, place.parse().ok()?, value.parse().ok()?))
            })();
            let Some((track, place, value)) = parsed else { return Err(TapeError(entry.into())) };
            if tape.tracks[track].last().is_some_and(|(last, _)| *last >= place) {
                return Err(TapeError(entry.into()));
            }
            tape.tracks[track].push((place, value));
        }
        Ok(tape)
    }
}

/// The source of a run's decisions.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A seed. With `keep`, the decisions are recorded.
    Seed { seed: u64, keep: bool },
    /// A tape; all decisions after its end are 0.
    Tape(Tape),
}

/// Makes the decisions of a run, and records them if requested.
#[derive(Debug)]
pub(crate) struct Decider {
    heads: [Head; TRACKS],
    tape: Tape,
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Draw,
    DrawAndKeep,
    Play,
}

#[derive(Clone, Copy, Default, Debug)]
struct Head {
    random: u64,
    place: u32,
    entry: usize,
}

pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Decider {
    pub(crate) fn new(source: Source) -> Self {
        let mut heads = [Head::default(); TRACKS];
        match source {
            Source::Seed { seed, keep } => {
                for (head, track) in heads.iter_mut().zip(1_u64..) {
                    head.random = mix(seed.wrapping_add(track.wrapping_mul(0xA076_1D64_78BD_642F)));
                }
                let mode = if keep { Mode::DrawAndKeep } else { Mode::Draw };
                Self { heads, tape: Tape::default(), mode }
            }
            Source::Tape(tape) => Self { heads, tape, mode: Mode::Play },
        }
    }

    /// Returns the decisions that were recorded, or the tape that is played.
    pub(crate) fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Returns a number less than `below`, which is at least 1.
    #[inline]
    pub(crate) fn draw(&mut self, track: Track, below: u32) -> u32 {
        self.decide(track, below - 1, |random| ((u64::from(below) * (random >> 32)) >> 32) as u32)
    }

    /// Returns `true` with a probability of `of_65536` / 65,536.
    #[inline]
    pub(crate) fn chance(&mut self, track: Track, of_65536: u32) -> bool {
        of_65536 > 0 && self.decide(track, 1, |random| u32::from((random >> 48) < u64::from(of_65536))) == 1
    }

    #[inline]
    fn decide(&mut self, track: Track, most: u32, choose: impl FnOnce(u64) -> u32) -> u32 {
        let head = &mut self.heads[track as usize];
        let place = head.place;
        // Decisions that turn out 0 count as well, so that positions are the same when the tape is played.
        head.place += 1;
        if self.mode == Mode::Play {
            let entries = &self.tape.tracks[track as usize];
            return match entries.get(head.entry) {
                Some((at, value)) if *at == place => {
                    head.entry += 1;
                    // A tape of another run, or a shrunk one, may have an entry out of range.
                    (*value).min(most)
                }
                _ => 0,
            };
        }
        head.random = head.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = choose(mix(head.random));
        if value != 0 && self.mode == Mode::DrawAndKeep {
            self.tape.tracks[track as usize].push((place, value));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_plays_back_the_same() {
        let decisions = |decider: &mut Decider| -> Vec<u32> {
            (1..200)
                .map(|n| {
                    if n % 3 == 0 {
                        u32::from(decider.chance(Track::Calls, 9_000))
                    } else {
                        decider.draw(Track::Network, n)
                    }
                })
                .collect()
        };
        let mut first = Decider::new(Source::Seed { seed: 7, keep: true });
        let drawn = decisions(&mut first);
        assert!(drawn.iter().any(|value| *value > 0));
        let tape = first.tape().clone();
        assert_eq!(decisions(&mut Decider::new(Source::Tape(tape.clone()))), drawn);
        assert_eq!(tape.to_string().parse(), Ok(tape));
        let calm = decisions(&mut Decider::new(Source::Tape(Tape::default())));
        assert!(calm.iter().all(|value| *value == 0));
    }

    #[test]
    fn numbers_stay_below_their_bound_also_from_another_tape() {
        let mut decider = Decider::new(Source::Tape("n0=9,n1=1,n3=4".parse().unwrap()));
        let values: Vec<_> = (0..4).map(|_| decider.draw(Track::Network, 3)).collect();
        assert_eq!(values, [2, 1, 0, 2]);
    }

    #[test]
    fn a_bad_tape_is_named() {
        for text in ["x1=2", "n1", "n=2", "n2=1,n2=3", "n2=1,n1=3", "n1=-1"] {
            let error = text.parse::<Tape>().unwrap_err().to_string();
            assert!(error.contains("allowed:"), "{error}");
        }
    }
}
