//! A random campaign of kills, and what such campaigns have found: each other test is the shortest way to a defect that one of them met.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod full;
mod kills;
mod stopping;
