//! The best lightcone driver of the platform
//!
//! The only place where a driver is chosen by the system: epoll on Linux and Android, kqueue on the BSDs and Apple's
//! systems, `select` on every other POSIX system.

#![forbid(unsafe_code)]

core::cfg_select! {
    any(target_os = "linux", target_os = "android") => {
        pub use lightcone_epoll::Epoll as Native;
    }
    any(
        target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd",
        target_vendor = "apple",
    ) => {
        pub use lightcone_kqueue::Kqueue as Native;
    }
    unix => {
        pub use lightcone_select::Select as Native;
    }
    _ => {
        compile_error!("lightcone's drivers need a POSIX system");
    }
}
