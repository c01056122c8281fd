//! The engine over epoll keeps every promise.
#![cfg(any(target_os = "linux", target_os = "android"))]

lightcone_conformance::tests!(lightcone_epoll::Epoll);
