//! How the C library's allocator gives memory back.
//!
//! A request of 1 MiB passes through several buffers of that size on its way through JSON and TLS. Left to itself, glibc learns from
//! the first of them to keep all later ones in its heap, one heap a thread, and the process stays at its peak for good. On a board with
//! 512 MiB we rather pay for the pages again.

#![allow(unsafe_code, reason = "the allocator's settings are a C function")]

/// From this size on a block is its own mapping, and goes back to the system when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: libc::c_int = 128 << 10;

/// To be called first, before there is a second thread. Other C libraries than glibc have no such settings, and need none: musl
/// returns large blocks at once.
pub fn give_back_early() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, value) in [
        (libc::M_MMAP_THRESHOLD, LARGE_BLOCK),
        (libc::M_TRIM_THRESHOLD, LARGE_BLOCK),
        (libc::M_ARENA_MAX, 1), // three threads that allocate little share one heap
    ] {
        // SAFETY: `mallopt` takes two integers and touches nothing but the allocator's own settings, under its lock (mallopt(3)). A
        // setting that it refuses stays as it was, which costs memory and nothing else.
        let _refused = unsafe { libc::mallopt(setting, value) } == 0;
    }
}
