//! `headwater buffer …`: what can be done with a buffer file that no agent has open.

pub mod drain;
pub mod export;
pub mod import;
#[cfg(test)]
mod tests;
pub mod verify;

use std::{io::Write, path::Path, process::ExitCode};

use clap::{Args, Subcommand};

use self::{drain::DrainArgs, export::ExportArgs, import::ImportArgs, verify::VerifyArgs};
use super::{Failed, IN_USE};
use crate::buffer::{
    self, BufferError,
    cold::{ColdFile, Found},
};

/// Checks, reads, fills and empties a buffer file that no agent has open
///
/// For a file that was copied, taken out of a dead gateway, or set aside as `buffer.db.corrupt-TIME`. A copy needs the file that ends in
/// `-wal` too, if there is one: the last readings may be in there.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Exit codes: 0 done; 1 failed; 2 the arguments are wrong; 3 a process has the buffer open.")]
pub struct BufferArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BufferCommand,
}

/// What to do with a buffer file.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "each command's own file says what it does, and `--help` shows that")]
pub enum BufferCommand {
    Verify(VerifyArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Drain(DrainArgs),
}

/// Does what the arguments say.
pub async fn run(args: &BufferArgs, env: &[(String, String)], out: &mut dyn Write) -> Result<ExitCode, Failed> {
    match &args.command {
        BufferCommand::Verify(args) => verify::verify(args, out),
        BufferCommand::Export(args) => export::export(args, out),
        BufferCommand::Import(args) => import::import(args, env),
        BufferCommand::Drain(args) => drain::drain(args, env).await,
    }
}

/// Refuses a file that another process has open.
fn not_in_use(path: &Path) -> Result<(), Failed> {
    match buffer::owner_of(path) {
        Some(owner) => Err(failed(BufferError::InUse { path: path.into(), by: Some(owner) })),
        None => Ok(()),
    }
}

/// Opens a file to read it, which no process has open. Says what is damaged of it, and whether anything is: what can be read is read all
/// the same. Errors: it is of a later version, or another program's.
fn opened(path: &Path) -> Result<(ColdFile, bool), Failed> {
    not_in_use(path)?;
    let file = ColdFile::open(path).map_err(failed)?;
    let what = match file.found() {
        Found::Nothing | Found::Buffer => return Ok((file, false)),
        Found::Damaged(what) => {
            let remedy = if file.lacks_its_log() {
                "of a copy, the file that ends in -wal is needed too: the last readings may be in there"
            } else {
                "headwater buffer verify tells more"
            };
            note(&format!("{} is damaged: {what}; {remedy}", path.display()));
            return Ok((file, true));
        }
        Found::Newer(version) => format!("schema version {version}"),
        Found::Foreign => "another program's database".to_owned(),
    };
    Err(failed(BufferError::Foreign { path: path.into(), what }))
}

/// What can't be read of a file, for people; none when all can be.
fn unread(readings: u64, pages: u64) -> Option<String> {
    match (readings, pages) {
        (0, 0) => None,
        (0, _) => Some(format!("pages that can't be read: {pages}; whether there were readings on them is not known")),
        (_, 0) => Some(format!("{readings} readings can't be read")),
        _ => Some(format!("{readings} readings can't be read, nor can {pages} pages, and what was on those is not known")),
    }
}

fn failed(error: BufferError) -> Failed {
    match error {
        BufferError::InUse { .. } => Failed::with_code(error, IN_USE),
        error => error.into(),
    }
}

fn note(text: &str) {
    eprintln!("headwater buffer: {text}");
}
