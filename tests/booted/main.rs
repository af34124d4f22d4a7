//! The package on a board: installed, started, killed, upgraded and removed, under a systemd that boots for each test.
//!
//! `make test-systemd` makes what they need, target/booted, or says why they are left out; `cargo test --test booted` alone expects it.
//! Field and cloud are on this machine, whose loopback the board shares; the agent's whole life is on the board.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod board;
mod confined;
mod installing;
mod running;
mod upgrading;
