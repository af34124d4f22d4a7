//! The command line, one file a command.

pub mod status;
pub mod tail;
