//! What can go wrong, and how likely it is in one run.

use crate::tape::{Decider, Track};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// A kind of fault. Each run draws how likely each one is; about half are off in any one run, so that
        /// combinations vary.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All kinds, in the order of their values.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it is called in a summary.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A receive brings fewer bytes than there are, most often one.
    ShortReceive: "short receives",
    /// A send takes fewer bytes than there is room for, most often one.
    ShortSend: "short sends",
    /// A call says that it would block, right after readiness.
    WouldBlock: "would block",
    /// A call is interrupted and made again.
    Interrupted: "interrupted calls",
    /// Readiness, or a completion, is told later than it could be.
    Delayed: "readiness delayed",
    /// Readiness, or a completion, overtakes what came before.
    Reordered: "readiness reordered",
    /// Readiness is told twice in one wait.
    Duplicated: "readiness doubled",
    /// Readiness is told of a socket that is not ready.
    Spurious: "readiness spurious",
    /// The network resets a connection.
    Reset: "resets",
    /// The window closes for a while.
    ZeroWindow: "zero windows",
    /// An accept fails: no descriptor, or the peer has gone again.
    Accept: "accept errors",
    /// A connect is refused.
    Refused: "connects refused",
    /// A connect is not answered.
    Unanswered: "connects unanswered",
    /// Something arrives just before, at or just after a poller's deadline.
    Edge: "clock on a timer's edge",
    /// A poller wakes later than it should.
    WakeDelayed: "wakes delayed",
    /// A poller wakes for nothing.
    WakeSpurious: "wakes spurious",
    /// Bytes are under way for longer than usual.
    Latency: "latency",
    /// The system cannot watch a socket: no memory, or too high a number.
    Unwatchable: "unwatchable sockets",
}

const COUNT: usize = Fault::ALL.len();

/// How likely each fault is in this run, and how often each came about.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    likely: [u32; COUNT],
    counts: [u64; COUNT],
}

/// In 65,536ths; the first is the benign one, and half of the faults have it.
const LEVELS: [u32; 8] = [0, 0, 0, 0, 200, 1_500, 6_000, 16_000];

impl Faults {
    pub(crate) const NONE: Self = Self { likely: [0; COUNT], counts: [0; COUNT] };

    pub(crate) fn draw(decider: &mut Decider) -> Self {
        let mut faults = Self::NONE;
        for (fault, likely) in Fault::ALL.iter().zip(&mut faults.likely) {
            let level = LEVELS[decider.draw(Track::Setup, 8) as usize];
            // what ends a connection, or takes long, must leave some to go on
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
