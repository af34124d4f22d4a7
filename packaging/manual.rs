//! Writes the manual pages and the shells' completions, in the words of `--help`: `cargo run --example manual -- FOLDER`.

use std::{env, fs, io, path::PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use headwater::cli::Cli;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| io::Error::other("name a folder to write to"))?;
    fs::create_dir_all(&folder)?;
    let command = packaged();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "headwater", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)
}

/// The command line of the package, which has no demo.
fn packaged() -> Command {
    let all = Cli::command();
    Command::new("headwater")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .long_about(all.get_long_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(all.get_subcommands().filter(|command| command.get_name() != "demo").cloned())
}
