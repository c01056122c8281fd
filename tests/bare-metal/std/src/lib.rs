//! The part of std that the tests of core and http use. Their builds use it under the name `std`, so that the tests
//! compile unchanged.
#![no_std]

pub extern crate alloc;

pub use alloc::{borrow, boxed, collections, format, rc, string, sync, vec};
pub use core::{
    any, array, cell, char, clone, cmp, convert, default, error, fmt, hash, hint, iter, marker, mem, net,
    num, ops, option, pin, ptr, result, slice, str, time,
};
pub use core::{
    assert, assert_eq, assert_ne, cfg, column, compile_error, concat, debug_assert, debug_assert_eq,
    debug_assert_ne, env as compile_time_env, file, format_args, include, include_bytes, include_str, line,
    matches, module_path, option_env, stringify, todo, unimplemented, unreachable, write, writeln,
};

#[doc(hidden)]
pub use bare_harness::print;

/// Prints a line.
#[macro_export]
macro_rules! println {
    () => { $crate::print(::core::format_args!("\n")) };
    ($($what:tt)*) => {{
        $crate::print(::core::format_args!($($what)*));
        $crate::print(::core::format_args!("\n"));
    }};
}

/// Prints a line to the only output.
#[macro_export]
macro_rules! eprintln {
    ($($what:tt)*) => { $crate::println!($($what)*) };
}

/// Panics.
#[macro_export]
macro_rules! panic {
    ($($what:tt)*) => { ::core::panic!($($what)*) };
}

/// The prelude.
pub mod prelude {
    /// The prelude of this edition.
    pub mod rust_2024 {
        pub use alloc::borrow::ToOwned;
        pub use alloc::boxed::Box;
        pub use alloc::string::{String, ToString};
        pub use alloc::vec::Vec;
        pub use core::prelude::rust_2024::*;

        pub use crate::{eprintln, format, println, vec};
    }
}

/// An empty environment.
pub mod env {
    /// The error for a variable that is not set.
    #[derive(Clone, Copy, Debug)]
    pub struct NotPresent;

    /// Returns that the variable is not set.
    pub fn var(_name: &str) -> Result<alloc::string::String, NotPresent> {
        Err(NotPresent)
    }
}

/// Panics, which end a test and cannot be caught.
pub mod panic {
    use alloc::boxed::Box;
    use core::any::Any;
    pub use core::panic::*;

    /// Runs the function; a panic does not return here.
    pub fn catch_unwind<R>(run: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
        Ok(run())
    }

    /// Panics again.
    pub fn resume_unwind(_panic: Box<dyn Any + Send>) -> ! {
        ::core::panic!("resumed")
    }
}
