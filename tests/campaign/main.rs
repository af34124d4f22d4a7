//! What random campaigns of faults have found: each test is the shortest way to a defect that one of them met.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod full;
mod stopping;
