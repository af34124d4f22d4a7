//! The command line, one file a command.

pub mod check;
pub mod show;
pub mod status;
pub mod tail;
