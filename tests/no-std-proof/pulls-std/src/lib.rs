//! A dependency that uses std, as a later version of one of core's dependencies could.

/// Returns the number of the program's arguments, which only std can read.
pub fn arguments() -> usize {
    std::env::args().count()
}
