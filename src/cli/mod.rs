//! One file a command: arguments in, text and an exit code out.

pub mod status;
