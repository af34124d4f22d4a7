//! How often memory was asked for, in this process.
//!
//! Only counts on demand, so that a CPU time is not that of the counting.

#![allow(unsafe_code, reason = "an allocator is one by an unsafe trait; every call goes to the system's as it came")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    if ON.load(Relaxed) {
        COUNT.fetch_add(1, Relaxed);
    }
}

// SAFETY: all four hand their arguments to the system's allocator unchanged, and return what it returns; counting touches two atomics
// and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Counts from now on, from 0.
pub fn start() {
    COUNT.store(0, Relaxed);
    ON.store(true, Relaxed);
}

/// Stops counting, and says how often memory was asked for.
pub fn stop() -> u64 {
    ON.store(false, Relaxed);
    COUNT.load(Relaxed)
}
