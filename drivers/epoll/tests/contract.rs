//! The contract suite: the rules of a readiness driver, over epoll.
#![cfg(any(target_os = "linux", target_os = "android"))]

lightcone_contract::tests!(lightcone_epoll::Epoll);
