//! The kinds of faults, and their probabilities in one run.

use crate::tape::{Decider, Track};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// A kind of fault. Each run draws the probability of each kind; about half are off in any one run,
        /// so that combinations vary.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All kinds, in order of their values.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the name used in summaries.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A receive returns fewer bytes than have arrived, usually one.
    ShortReceive: "short receives",
    /// A send takes fewer bytes than there is room for, usually one.
    ShortSend: "short sends",
    /// A call reports that it would block, right after readiness.
    WouldBlock: "would block",
    /// A call is interrupted and repeated.
    Interrupted: "interrupted calls",
    /// Readiness or a completion is reported late.
    Delayed: "readiness delayed",
    /// Readiness or a completion overtakes an earlier one.
    Reordered: "readiness reordered",
    /// Readiness is reported twice in one wait.
    Duplicated: "readiness doubled",
    /// Readiness is reported for a socket that is not ready.
    Spurious: "readiness spurious",
    /// The network resets a connection.
    Reset: "resets",
    /// A receive window is zero for a while.
    ZeroWindow: "zero windows",
    /// An accept fails: no descriptor is free, or the peer has disconnected.
    Accept: "accept errors",
    /// A connect is refused.
    Refused: "connects refused",
    /// A connect is not answered.
    Unanswered: "connects unanswered",
    /// Something arrives one tick before, at, or one tick after a poller's deadline.
    Edge: "clock on a timer's edge",
    /// A poller wakes up late.
    WakeDelayed: "wakes delayed",
    /// A poller wakes up without a reason.
    WakeSpurious: "wakes spurious",
    /// Bytes are in transit for longer than usual.
    Latency: "latency",
    /// The system cannot watch a socket: no memory, or a descriptor number that is too high.
    Unwatchable: "unwatchable sockets",
}

const COUNT: usize = Fault::ALL.len();

/// The probability of each fault in this run, and how often each has occurred.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    likely: [u32; COUNT],
    counts: [u64; COUNT],
}

/// Probabilities in 65,536ths. The first is the benign choice, and half of the faults have it.
const LEVELS: [u32; 8] = [0, 0, 0, 0, 200, 1_500, 6_000, 16_000];

impl Faults {
    pub(crate) const NONE: Self = Self { likely: [0; COUNT], counts: [0; COUNT] };

    pub(crate) fn draw(decider: &mut Decider) -> Self {
        let mut faults = Self::NONE;
        for (fault, likely) in Fault::ALL.iter().zip(&mut faults.likely) {
            let level = LEVELS[decider.draw(Track::Setup, 8) as usize];
            // faults that end a connection or take long are rarer, so that some connections make progress
            *likely = match fault {
                Fault::Reset | Fault::Unwatchable => level / 64,
                Fault::ZeroWindow => level / 8,
                Fault::Refused | Fault::Unanswered | Fault::Accept => level / 2,
                _ => level,
            };
        }
        faults
    }

    #[inline]
    pub(crate) fn occurs(&mut self, decider: &mut Decider, track: Track, fault: Fault) -> bool {
        let occurs = decider.chance(track, self.likely[fault as usize]);
        self.counts[fault as usize] += u64::from(occurs);
        occurs
    }

    pub(crate) fn heal(&mut self) {
        self.likely = [0; COUNT];
    }

    pub(crate) fn set(&mut self, fault: Fault, of_65536: u32) {
        self.likely[fault as usize] = of_65536;
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.iter().copied().zip(self.counts)
    }
}
