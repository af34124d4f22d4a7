//! What no device, broker or line should send, end to end: it comes out as promised or is counted, and nothing behind it waits.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod broker;
mod line;
mod payloads;
#[path = "../mqtt_source/script.rs"]
#[allow(dead_code, reason = "a part of it is for the tests of the source alone")]
mod script;
mod sizes;
#[path = "../support/mod.rs"]
mod support;
