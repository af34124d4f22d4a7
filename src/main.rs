//! Command line → configuration → log → agent → exit code.

use std::process::ExitCode;

use clap::Parser;
use headwater::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A variable that is no text is none of ours.
    let env: Vec<_> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    // Two threads: one may encrypt and hash a request while the other takes readings. More would only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::main(cli, &env)),
        Err(error) => {
            eprintln!("headwater: cannot start threads: {error}");
            ExitCode::FAILURE
        }
    }
}
