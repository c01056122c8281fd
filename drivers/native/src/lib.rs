//! The best lightcone driver for the platform. Most programs start here.
//!
//! ```
//! use core::time::Duration;
//! use lightcone_core::{Address, Context, Handler, Origin, Socket};
//! use lightcone_native::Builder;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Data = ();
//!     type Message = core::convert::Infallible;
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
//!         let (mut input, mut output) = socket.stream.split();
//!         let taken = output.send_some(input.bytes());
//!         input.consume(taken);
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
//!         self.receive(socket, cx);
//!     }
//! }
//!
//! let engine = Builder::new().pollers(2).start(|_poller| Echo)?;
//! let listener = engine.listen("127.0.0.1:0")?;
//! println!("listening on {}", listener.endpoint());
//! let report = engine.shutdown(Duration::from_secs(1));
//! assert_eq!(report.opened(), 0);
//! # Ok::<(), lightcone_native::Error>(())
//! ```
//!
//! This crate is the only place that selects a driver by operating system: epoll on Linux and Android, kqueue on the
//! BSDs and Apple's systems, `select` on every other POSIX system.

#![forbid(unsafe_code)]

mod named;

pub use named::{DriverName, UnknownDriver};

core::cfg_select! {
    any(target_os = "linux", target_os = "android") => {
        pub use lightcone_epoll::Epoll as Native;
        named::names! { "native" => Native, "epoll" => Native, "select" => lightcone_select::Select }
    }
    any(
        target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd",
        target_vendor = "apple",
    ) => {
        pub use lightcone_kqueue::Kqueue as Native;
        named::names! { "native" => Native, "kqueue" => Native, "select" => lightcone_select::Select }
    }
    unix => {
        pub use lightcone_select::Select as Native;
        named::names! { "native" => Native, "select" => Native }
    }
    _ => {
        compile_error!("lightcone's drivers need a POSIX system");
    }
}

pub use lightcone_unix::{
    Engine, Error, Handle, Listener, Policy, PollerContext, PollerReport, Report, ToEndpoints, endpoint,
    limits, socket,
};

/// A builder of an [`Engine`] over the platform's best driver. [`driver`](lightcone_unix::Builder::driver) selects
/// another one.
pub type Builder = lightcone_unix::Builder<Native>;
