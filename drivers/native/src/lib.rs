//! The best lightcone driver of the platform

#![forbid(unsafe_code)]

core::cfg_select! {
    any(target_os = "linux", target_os = "android") => {
        pub use lightcone_epoll::Epoll as Native;
    }
    _ => {
        compile_error!("no native driver for this system");
    }
}
