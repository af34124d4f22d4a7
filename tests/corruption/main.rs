//! Every kind of damage to the buffer's files, on the real binary: the agent starts, brings over what can be read, in order and under
//! its name, and counts the rest.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod files;
mod kinds;
