//! The time of day on a 32-bit board with musl, beyond January 2038.
//!
//! Rust's library asks for seconds in 32 bits there, musl answers that they do not fit, and that ends the process. A board without a
//! battery may say any year. So this stands in for the function that is asked: it says the last second that fits, and the process goes
//! on; where the true time matters, ask [`since_1970`]. It can go when Rust's library asks for 64 bits.

#![allow(unsafe_code, reason = "it calls a C function, and stands in for another one")]

use std::{mem::MaybeUninit, time::Duration};

use libc::{CLOCK_REALTIME, c_int, c_long, clockid_t, timespec};

/// musl's `struct timespec` since 1.2, on a little-endian machine.
#[repr(C)]
struct Wide {
    seconds: i64,
    nanoseconds: c_long,
    _padding: c_long,
}

unsafe extern "C" {
    /// What C programs call as `clock_gettime`.
    fn __clock_gettime64(clock: clockid_t, time: *mut Wide) -> c_int;
}

/// What the wall clock says; a clock before 1970 counts as 1970.
pub(super) fn since_1970() -> Duration {
    // Source: clock_gettime(2), which POSIX demands of it.
    let time = ask(CLOCK_REALTIME).expect("every kernel has this clock");
    Duration::new(u64::try_from(time.seconds).unwrap_or_default(), u32::try_from(time.nanoseconds).unwrap_or_default())
}

/// Takes the place of the function of this name that musl keeps for programs from before 1.2.
///
/// # Safety
///
/// `time` may be written, as for clock_gettime(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let Some(Wide { seconds, nanoseconds, .. }) = ask(clock) else { return -1 };
    let seconds = i32::try_from(seconds).unwrap_or(if seconds < 0 { i32::MIN } else { i32::MAX });
    // SAFETY: the caller's promise.
    unsafe { time.write(timespec { tv_sec: seconds, tv_nsec: nanoseconds }) };
    0
}

/// None: the kernel has no such clock; `errno` says so too.
fn ask(clock: clockid_t) -> Option<Wide> {
    let mut time = MaybeUninit::zeroed();
    // SAFETY: it writes one `struct timespec` to where it is told, unless it fails.
    let outcome = unsafe { __clock_gettime64(clock, time.as_mut_ptr()) };
    // SAFETY: it did not fail, so every field was written, and the padding is still zero.
    (outcome == 0).then(|| unsafe { time.assume_init() })
}
