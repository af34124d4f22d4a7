//! Carries readings from a gateway's field side to a Kinesis stream, across outages of days.
//!
//! ```text
//! sources ──▶ ingest ──▶ buffer ◀── drain ──▶ kinesis      (read the modules in this order)
//!  mqtt        route      memory,    lanes      PutRecords, Firehose
//!  serial      encode     SQLite     pacing  ─▶ file
//!                                               a folder of files
//! ```
//!
//! Promises, in the order of their importance:
//! 1. Nothing that was acknowledged is lost: a receipt means *confirmed by the destination* or *fsynced here*.
//! 2. Nothing is hidden: `received = delivered + buffered + dropped + rejected`, per stream, at every moment.
//! 3. Order is kept per lane, through retries, restarts and partial failures.
//! 4. Everything is bounded in bytes; when a bound is reached, the wait travels back to the source.
//! 5. It recovers without anyone.
//! 6. It spares the card: while the link is good nothing is written.
//!
//! A module imports only from lower ranks:
//!
//! ```text
//! main, cli, demo → agent → sources, web → ingest, drain → buffer, kinesis, file → record → config, status, clock → reading, units, backoff, addresses, identity, durable
//! ```
//!
//! `buffer` does not know Kinesis, `kinesis` does not know SQLite. In the agent, the types of rumqttc, rusqlite and the AWS SDK stay
//! inside `sources/mqtt`, `buffer/store` and `kinesis`. Decisions are plain functions with time and randomness as arguments; tasks only
//! wait and call them, and only `agent` spawns stages (`headwater buffer drain` its one); besides them there are the buffer's thread,
//! which owns the file, one that salvages a damaged file, and calls of the system that block.

pub mod addresses;
pub mod agent;
pub mod allocator;
pub mod backoff;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod drain;
pub mod durable;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod identity;
pub mod ingest;
pub mod kinesis;
#[cfg(any(test, feature = "demo"))]
pub mod random;
pub mod reading;
pub mod record;
pub mod sources;
pub mod status;
pub mod units;
pub mod web;
