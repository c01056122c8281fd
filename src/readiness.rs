//! Whether a server is ready for connections, for load balancers.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a server wants further connections, for a route that a load balancer asks.
///
/// A balancer needs time until it notices that a server stops: meanwhile it sends connections to one that has closed
/// its listeners. So a stop has two steps. First the readiness is [withdrawn](Self::withdraw): the route responds with
/// 503, while the server goes on serving as before. When the balancer has had time to notice, the engine is [shut
/// down](crate::Handle::shutdown). With the feature `signals`, `lightcone::drain_on_signals` does both.
///
/// A stop that has begun is not taken back. A hand-over to a successor (`lightcone::hand_over_on_signal`) withdraws
/// nothing, as there is always a process that accepts connections on the same sockets. Clones share one state, which
/// any thread may read and change.
///
/// ```
/// use lightcone::Readiness;
/// use lightcone::http::Http;
///
/// let readiness = Readiness::new();
/// let ours = readiness.clone(); // for the code that stops the server
/// let server = Http::new().get("/ready", move |_request, response| match readiness.is_ready() {
///     true => response.text("ready\n"),
///     false => response.status(503).text("stopping\n"),
/// });
/// ours.withdraw();
/// # drop(server);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    withdrawn: Arc<AtomicBool>,
}

impl Readiness {
    /// Creates the state of a server that is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether the server is ready: `true` until the readiness is withdrawn.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.withdrawn.load(Ordering::Relaxed)
    }

    /// Withdraws the readiness: from now on [`is_ready`](Self::is_ready) returns `false`.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawal_reaches_all_clones() {
        let one = Readiness::new();
        let other = one.clone();
        assert!(one.is_ready() && other.is_ready() && Readiness::new().is_ready());
        other.withdraw();
        assert!(!one.is_ready() && !other.is_ready());
        assert!(Readiness::new().is_ready());
    }
}
