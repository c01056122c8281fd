//! The parts that `cargo test` needs on a bare Cortex-M3: an entry point, a heap, an output, and a test harness.
//!
//! Test builds use it under the name `test`, in place of the standard crate: its types are those that `#[test]`
//! constructs. Tests run one after the other, each with the whole heap. A panic does not unwind: it abandons the test
//! together with its stack and heap, and the next test begins with fresh ones.
#![no_std]
#![feature(lang_items)]
#![allow(internal_features, reason = "the entry point is a lang item")]

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

/// A test as described by `#[test]`.
#[derive(Debug)]
pub struct TestDescAndFn {
    /// The description of the test.
    pub desc: TestDesc,
    /// The body of the test.
    pub testfn: TestFn,
}

/// The description of a test. Most of its fields are unused here.
#[derive(Debug)]
#[allow(missing_docs, reason = "the compiler defines the fields")]
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

/// The body of a test.
#[derive(Debug)]
pub enum TestFn {
    /// A function without parameters.
    StaticTestFn(fn() -> Result<(), String>),
}

/// The name of a test.
#[derive(Debug)]
pub enum TestName {
    /// A name known at compile time.
    StaticTestName(&'static str),
}

/// Whether a test must panic.
#[derive(Debug)]
pub enum ShouldPanic {
    /// A panic is a failure.
    No,
    /// Any panic is expected.
    Yes,
    /// A panic with this text in its message is expected.
    YesWithMessage(&'static str),
}

/// The kind of a test's source.
#[derive(Debug)]
#[allow(missing_docs, reason = "the compiler defines the variants")]
pub enum TestType {
    UnitTest,
    IntegrationTest,
    DocTest,
    Unknown,
}

/// The types that `main` and tests may return.
#[lang = "termination"]
pub trait Termination {
    /// Returns the failure as text, if there is one.
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

/// Converts what a test returned into its result.
///
/// # Errors
///
/// The test returned an error.
pub fn assert_test_result<T: Termination>(result: T) -> Result<(), String> {
    result.report()
}

#[lang = "start"]
fn start<T: Termination + 'static>(main: fn() -> T, _: isize, _: *const *const u8, _: u8) -> isize {
    isize::from(main().report().is_err())
}

/// The tests: address and number. Set once, before the first test runs.
static TESTS: AtomicPtr<&'static TestDescAndFn> = AtomicPtr::new(core::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The index of the current test. It is static because a panic abandons the stack.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);
/// Tests that need more memory than the board has: counted, but neither passed nor failed.
static TOO_LARGE: AtomicUsize = AtomicUsize::new(0);

/// Runs all tests and ends the program. Called by the `main` of a test program.
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
    // SAFETY: pointer and length come from a slice that lives as long as the program.
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

/// Records the result of the current test, and continues with the next one on a fresh stack.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let Some(test) = tests().get(CURRENT.load(Ordering::Relaxed)) else {
        print(format_args!("{info}\n"));
        machine::exit(false)
    };
    // The message is not formatted on the heap, because the panic may mean that the heap is exhausted. For the same
    // reason, exhaustion is checked before the expected panics.
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

/// The beginning of a panic message.
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

/// Prints to the debugger's output.
pub fn print(what: Arguments<'_>) {
    let _ = Output.write_fmt(what);
}
