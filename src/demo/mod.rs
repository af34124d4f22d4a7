//! Everything that a gateway needs around it, embedded.

pub mod kinesis;
mod random;
