//! Command line → configuration → log → agent → exit code.

use std::process::ExitCode;

use clap::Parser;
use headwater::{
    allocator,
    cli::{self, Cli, Stderr},
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::Level;

/// Keys and credentials are in this memory: no core dump of it is written, and no other process of this user may look into it. The limit
/// holds for the programs that we start, too.
fn keep_memory_ours() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Neither can fail: each only gives a right up. Without it the agent would still work.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn main() -> ExitCode {
    keep_memory_ours();
    allocator::give_back_early();
    // A variable that is no text is none of ours.
    let env: Vec<_> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::misunderstood(&error, &env),
    };
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
            Stderr::of(&env).says(Level::ERROR, &format!("headwater: cannot start threads: {error}"));
            ExitCode::FAILURE
        }
    }
}
