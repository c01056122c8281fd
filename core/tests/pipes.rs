//! The poller of the documentation's examples: eight sockets over a network in memory, with core and http only.
#![allow(
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_stack_arrays,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    unreachable_pub,
    reason = "examples for programs with std"
)]

mod echo {
    include!("pipes/transport.rs");
    include!("pipes/echo.rs");

    #[test]
    fn eight_peers_are_echoed() {
        main().unwrap();
    }
}

mod http {
    include!("pipes/transport.rs");
    include!("pipes/http.rs");

    #[test]
    fn eight_clients_are_answered_over_http() {
        main().unwrap();
    }
}
