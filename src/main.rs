//! Command line → configuration → log → agent → exit code.

use std::process::ExitCode;

use clap::Parser;
use headwater::{
    allocator,
    cli::{self, Cli},
};

fn main() -> ExitCode {
    allocator::give_back_early();
    let cli = Cli::parse();
    // A variable that is no text is none of ours.
    let env: Vec<_> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    // Two threads: one may encrypt and hash a request while the other takes readings. More would only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(cli::main(cli, &env));
            // A name look-up that hangs sits on a thread that can't be stopped; the process does not wait for it.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("headwater: cannot start threads: {error}");
            ExitCode::FAILURE
        }
    }
}
