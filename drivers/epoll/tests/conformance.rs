//! The conformance suite: complete engines over epoll.
#![cfg(any(target_os = "linux", target_os = "android"))]

lightcone_conformance::tests!(lightcone_epoll::Epoll);
