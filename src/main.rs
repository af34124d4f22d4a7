//! Command line → configuration → log → agent → exit code.

fn main() {}
