//! System calls that read or change the state of this process.

use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::os::fd::{BorrowedFd, RawFd};

use lightcone_unix::endpoint::Endpoint;
#[cfg(any(target_os = "linux", target_os = "android"))]
use lightcone_unix::errno::Errno;
use lightcone_unix::limits::DescriptorLimit;
use lightcone_unix::syscall;

/// Returns the processor time of this process so far.
pub fn cpu_time() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` has room for the structure.
    unsafe { syscall!(getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr())) }.unwrap();
    // SAFETY: the call succeeded, so it has written all of it.
    let usage = unsafe { usage.assume_init() };
    let span = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.try_into().unwrap())
            + Duration::from_micros(time.tv_usec.try_into().unwrap())
    };
    span(usage.ru_utime) + span(usage.ru_stime)
}

/// Returns the open descriptors of this process with their flags.
#[must_use]
pub fn descriptors() -> Vec<(i32, i32)> {
    let most = DescriptorLimit::read().unwrap().soft.min(30_000);
    let each = 0..i32::try_from(most).unwrap();
    // SAFETY: `F_GETFD` takes nothing.
    each.filter_map(|fd| unsafe { syscall!(fcntl(fd, libc::F_GETFD)) }.ok().map(|flags| (fd, flags)))
        .collect()
}

/// Returns whether an option of a connected internet socket is on; `None` for any other descriptor.
#[must_use]
pub fn option(fd: i32, level: libc::c_int, name: libc::c_int) -> Option<bool> {
    // SAFETY: the number is used for the two calls below only, which fail if it is not an open descriptor.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    lightcone_unix::socket::peer_address(socket).ok()?.to_inet()?;
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    let pointer = (&raw mut value).cast();
    // SAFETY: `pointer` has room for the `length` bytes of a C int.
    unsafe { syscall!(getsockopt(fd, level, name, pointer, &raw mut length)) }.unwrap();
    Some(value != 0)
}

/// Sets the soft limit of descriptors.
pub fn limit_descriptors(soft: u64) {
    DescriptorLimit::read().unwrap().set_soft(soft).unwrap();
}

/// Sets the soft limit so that `count` more descriptors can be opened.
///
/// The limit is one of numbers, so free numbers below the highest open descriptor are counted too.
pub fn leave_descriptors(count: usize) {
    let open = descriptors();
    let mut free = (0..).filter(|fd| !open.iter().any(|(taken, _)| taken == fd));
    let beyond: i32 = free.nth(count).unwrap();
    limit_descriptors(beyond.try_into().unwrap());
}

/// Limits the address space of this process to `bytes` permanently.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn limit_memory(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is read during the call only.
    unsafe { syscall!(setrlimit(libc::RLIMIT_AS, &raw const limit)) }.unwrap();
}

/// Returns the size of this process's address space in bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[must_use]
pub fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB")).unwrap();
    kilobytes.trim().parse::<u64>().unwrap() << 10
}

/// Returns whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Changes the effective user of all threads. A root process can change back later.
pub fn set_user(user: libc::uid_t) {
    // SAFETY: takes a number.
    unsafe { syscall!(seteuid(user)) }.unwrap();
}

/// Restores the default action of `SIGPIPE`, which ends the process; Rust programs start with it ignored.
pub fn restore_broken_pipe_signal() {
    // SAFETY: installs no handler function.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(old, libc::SIG_ERR);
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Installs a handler for a signal that does nothing, so that the signal only interrupts system calls.
pub fn interrupt_by(signal: libc::c_int) {
    // SAFETY: all zero is an empty mask and no flags. Without `SA_RESTART`, interrupted calls fail with `EINTR`.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: `nothing` may run at any time.
    unsafe { syscall!(sigaction(signal, &raw const action, ptr::null_mut())) }.unwrap();
}

/// Sends this process a `SIGALRM` at every interval of `span`, which is below a second; zero stops them.
pub fn alarm_every(span: Duration) {
    let micros = i32::try_from(span.subsec_micros()).unwrap();
    let span = libc::timeval { tv_sec: 0, tv_usec: micros.into() };
    let timer = libc::itimerval { it_interval: span, it_value: span };
    // SAFETY: `timer` is read during the call only.
    unsafe { syscall!(setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut())) }.unwrap();
}

/// Sends a signal to one thread of this process.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn signal_thread(thread: i32, signal: libc::c_int) {
    let process = libc::pid_t::try_from(std::process::id()).unwrap();
    // SAFETY: takes numbers.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    assert!(sent == 0 || Errno::last() == Errno(libc::ESRCH), "{}", Errno::last());
}

/// Returns the processor time of a thread of this process.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[must_use]
pub fn run_time_of(thread: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Returns how often a thread of this process has blocked (its voluntary context switches).
#[cfg(any(target_os = "linux", target_os = "android"))]
#[must_use]
pub fn sleeps_of(thread: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Makes every later accept from this listener fail with this error, on the calling thread only and permanently.
///
/// # Errors
///
/// If the system does not let a process restrict itself.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn fail_accepts(listener: RawFd, errno: i32) -> Result<(), Errno> {
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let skip_unless = |value, steps| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, steps, value);
    let give = |value| step(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    // the offsets in `seccomp_data` of the call's number and of the low half of its first argument
    let (call, argument) = (0, if cfg!(target_endian = "big") { 20 } else { 16 });
    let mut program = [
        load(call),
        skip_unless(u32::try_from(libc::SYS_accept4).unwrap(), 3),
        load(argument),
        skip_unless(u32::try_from(listener).unwrap(), 1),
        give(libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers.
    unsafe { syscall!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) }?;
    // SAFETY: the program and its steps outlive the call, which copies them.
    unsafe { syscall!(prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)) }?;
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn step(code: u32, yes: u8, no: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code.try_into().unwrap(), jt: yes, jf: no, k: value }
}

/// Returns the descriptor of this process that listens on an endpoint.
pub fn listener_at(endpoint: &Endpoint) -> RawFd {
    let open = descriptors().into_iter().map(|(fd, _)| fd);
    let bound = |fd: &RawFd| {
        // SAFETY: it was open a moment ago, and only its address is read.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        lightcone_unix::socket::local_address(fd)
            .is_ok_and(|address| address.to_endpoint().as_ref() == Some(endpoint))
    };
    open.filter(bound).min().unwrap()
}
