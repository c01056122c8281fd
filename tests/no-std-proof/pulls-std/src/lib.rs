//! A dependency that uses std, as one of core's could begin to do in some later version.

/// How many arguments the program was started with: only std knows.
pub fn arguments() -> usize {
    std::env::args().count()
}
