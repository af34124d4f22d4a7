//! What a configuration may say, what is said about one that is wrong, and which layer wins; and what the README
//! has people type.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod credentials;
mod examples;
mod layers;
mod mistakes;
mod places;
mod readme;
mod secrets;
mod warnings;
