//! What lightcone's drivers for POSIX systems share: socket calls, poller threads, the engine
