//! The main job, end to end: from a sensor to the stream, through everything that happens to a gateway.
//!
//! Real broker, real serial line, the real binary; the endpoint keeps the service's rules and fails on command. Each test ends with
//! the same question: has the application behind the stream got everything, in order, and does the ledger balance?

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod answers;
mod aside;
mod backpressure;
mod boards;
mod chain;
mod clock;
mod credentials;
mod delivery;
mod demo;
mod disk;
mod emulators;
mod field;
mod files;
mod firehose;
mod life;
mod live;
mod metered;
mod one_by_one;
mod order;
mod overflow;
mod power;
mod priority;
mod records;
mod resharding;
mod serial;
mod tls;
