//! The bytes of one reading and of one aggregate; pure.
//!
//! A reading is encoded once, on the way in, and never written anew: what ingest writes here is what Kinesis gets, but for the time of
//! those that arrived before the clock was set.

pub mod correct;
pub mod deaggregate;
pub mod envelope;
mod json;
pub mod kpl;
mod notice;
mod payload;
mod write;

pub use envelope::{Envelope, Members, PayloadReader, Previous, RunId, names_of};
pub use json::AsJson;
pub use notice::Notice;
pub use payload::Unreadable;
