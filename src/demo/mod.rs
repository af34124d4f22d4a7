//! Everything that a gateway needs around it, embedded.

pub mod broker;
pub mod kinesis;
mod random;
pub mod sensors;
pub mod serial;
