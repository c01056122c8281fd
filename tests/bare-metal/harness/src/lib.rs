//! What `cargo test` needs on a Cortex-M3 with nothing on it: an entry, a heap, an output, and a harness.
//!
//! It goes by the name `test` in builds of tests, where the compiler looks for its own: the types are those that
//! `#[test]` makes values of. Tests run one after the other, each with the whole heap. A panic does not unwind here: it
//! abandons its test with the stack and the heap, and the next test begins on fresh ones.
#![no_std]
#![feature(lang_items)]
#![allow(internal_features, reason = "a program begins with a function that the compiler knows")]

extern crate alloc;

mod heap;
mod machine;

use alloc::format;
use alloc::string::String;
use core::fmt::{Arguments, Debug, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use machine::Output;

pub use ShouldPanic::{No, Yes, YesWithMessage};
pub use TestFn::StaticTestFn;
pub use TestName::StaticTestName;

/// A test, as `#[test]` describes it.
#[derive(Debug)]
pub struct TestDescAndFn {
    /// What it is.
    pub desc: TestDesc,
    /// What it does.
    pub testfn: TestFn,
}

/// What a test is. Most of it is for other harnesses.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are the compiler's")]
pub struct TestDesc {
    pub name: TestName,
    pub ignore: bool,
    pub ignore_message: Option<&'static str>,
    pub source_file: &'static str,
    pub start_line: usize,
    pub start_col: usize,
    pub end_line: usize,
    pub end_col: usize,
    pub should_panic: ShouldPanic,
    pub compile_fail: bool,
    pub no_run: bool,
    pub test_type: TestType,
}

/// What a test does.
#[derive(Debug)]
pub enum TestFn {
    /// This.
    StaticTestFn(fn() -> Result<(), String>),
}

/// What a test is called.
#[derive(Debug)]
pub enum TestName {
    /// This.
    StaticTestName(&'static str),
}

/// Whether a panic is what is wanted.
#[derive(Debug)]
pub enum ShouldPanic {
    /// It is not.
    No,
    /// Any is.
    Yes,
    /// One with this in its message is.
    YesWithMessage(&'static str),
}

/// Where a test stands.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are the compiler's")]
pub enum TestType {
    UnitTest,
    IntegrationTest,
    DocTest,
    Unknown,
}

/// What `main` and tests may return.
#[lang = "termination"]
pub trait Termination {
    /// What went wrong, if something did.
    fn report(self) -> Result<(), String>;
}

impl Termination for () {
    fn report(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Debug> Termination for Result<(), E> {
    fn report(self) -> Result<(), String> {
        self.map_err(|error| format!("it returned {error:?}"))
    }
}

/// Whether what a test returned is good.
///
/// # Errors
///
/// What is wrong with it.
pub fn assert_test_result<T: Termination>(result: T) -> Result<(), String> {
    result.report()
}

#[lang = "start"]
fn start<T: Termination + 'static>(main: fn() -> T, _: isize, _: *const *const u8, _: u8) -> isize {
    isize::from(main().report().is_err())
}

/// The tests: where they are, and how many. Set once, before the first runs.
static TESTS: AtomicPtr<&'static TestDescAndFn> = AtomicPtr::new(core::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Which one runs. In here and not on the stack, which a panic abandons.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);
/// Tests that want more memory than the board has: neither passed nor failed, and counted.
static TOO_LARGE: AtomicUsize = AtomicUsize::new(0);

/// Runs all tests and ends the program: what the `main` of a test program does.
pub fn test_main_static(tests: &'static [&'static TestDescAndFn]) {
    TESTS.store(tests.as_ptr().cast_mut(), Ordering::Relaxed);
    COUNT.store(tests.len(), Ordering::Relaxed);
    print(format_args!("\nrunning {} tests\n", tests.len()));
    machine::restart(run)
}

fn tests() -> &'static [&'static TestDescAndFn] {
    let count = COUNT.load(Ordering::Relaxed);
    if count == 0 {
        return &[];
    }
    // SAFETY: pointer and count are those of a slice that lives as long as the program.
    unsafe { core::slice::from_raw_parts(TESTS.load(Ordering::Relaxed), count) }
}

/// Runs the tests from the current one on.
extern "C" fn run() -> ! {
    while let Some(test) = tests().get(CURRENT.load(Ordering::Relaxed)) {
        let StaticTestName(name) = test.desc.name;
        print(format_args!("test {name} ... "));
        heap::clear();
        let StaticTestFn(body) = test.testfn;
        let result = body();
        match (&test.desc.should_panic, result) {
            (No, Ok(())) => passed(),
            (No, Err(error)) => failed(format_args!("{error}")),
            (Yes | YesWithMessage(_), _) => failed(format_args!("it did not panic")),
        }
    }
    let (failed, too_large) = (FAILED.load(Ordering::Relaxed), TOO_LARGE.load(Ordering::Relaxed));
    let passed = tests().len() - failed - too_large;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    print(format_args!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {too_large} too large\n"
    ));
    machine::exit(failed == 0)
}

fn passed() {
    print(format_args!("ok\n"));
    CURRENT.fetch_add(1, Ordering::Relaxed);
}

fn failed(why: Arguments<'_>) {
    print(format_args!("FAILED: {why}\n"));
    FAILED.fetch_add(1, Ordering::Relaxed);
    CURRENT.fetch_add(1, Ordering::Relaxed);
}

/// Ends a test, and goes on with the next.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let Some(test) = tests().get(CURRENT.load(Ordering::Relaxed)) else {
        print(format_args!("{info}\n"));
        machine::exit(false)
    };
    // no heap for the message, which may be that there is none left
    let mut message = Message { bytes: [0; 1_024], length: 0 };
    let _ = write!(message, "{}", info.message());
    match test.desc.should_panic {
        _ if heap::is_exhausted() => {
            print(format_args!("too large for this machine\n"));
            TOO_LARGE.fetch_add(1, Ordering::Relaxed);
            CURRENT.fetch_add(1, Ordering::Relaxed);
        }
        Yes => passed(),
        YesWithMessage(part) if message.contains(part) => passed(),
        No | YesWithMessage(_) => failed(format_args!("{info}")),
    }
    machine::restart(run)
}

/// The beginning of a panic's message.
struct Message {
    bytes: [u8; 1_024],
    length: usize,
}

impl Message {
    fn contains(&self, part: &str) -> bool {
        self.bytes[..self.length].windows(part.len()).any(|it| it == part.as_bytes())
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

/// Prints.
pub fn print(what: Arguments<'_>) {
    let _ = Output.write_fmt(what);
}
