//! `headwater buffer verify`: whether a file is as it was written, and what it holds.
//!
//! Invariant: the file is read and nothing else, so it does for a card that is mounted read-only.

use std::{collections::BTreeMap, io::Write, path::PathBuf, process::ExitCode};

use super::{failed, not_in_use};
use crate::{
    buffer::{
        LaneId,
        cold::{ColdFile, Found, Unread},
    },
    cli::Failed,
    reading::Timestamp,
    units::format_utc,
};

/// Checks every page and every chunk of a buffer file, and says what it holds
///
/// Nothing is changed, and no lock is taken, so a card that is mounted read-only will do. Says for each lane how many readings wait and
/// of when; then whether all is as it was written, and otherwise what to do.
///
/// Exit code: 0 when all is in order; 1 when something is not.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  headwater buffer verify /media/card/var/lib/headwater/buffer.db")]
pub struct VerifyArgs {
    /// The file
    pub path: PathBuf,
}

#[derive(Default)]
struct Sum {
    chunks: u64,
    readings: u64,
    bytes: u64,
    damaged: u64,
    span: Option<(Timestamp, Timestamp)>,
}

/// Writes what is found to `out`.
pub fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<ExitCode, Failed> {
    let path = &args.path;
    let shown = path.display();
    not_in_use(path)?;
    let file = ColdFile::open(path).map_err(failed)?;
    let found = file.found();
    match found {
        Found::Nothing => {
            writeln!(out, "{shown}: in order, and empty")?;
            return Ok(ExitCode::SUCCESS);
        }
        Found::Newer(version) => {
            writeln!(
                out,
                "{shown}: a buffer of version {version}, which is later than this program; use the version that wrote it"
            )?;
            return Ok(ExitCode::FAILURE);
        }
        Found::Foreign => {
            writeln!(out, "{shown}: another program's database")?;
            return Ok(ExitCode::FAILURE);
        }
        Found::Buffer | Found::Damaged(_) => {}
    }
    let mut chunks = file.chunks();
    let mut lanes: BTreeMap<LaneId, Sum> = BTreeMap::new();
    for item in chunks.by_ref() {
        let sum = lanes.entry(item.lane).or_default();
        match item.chunk {
            Some(chunk) => {
                sum.chunks += 1;
                sum.readings += chunk.readings;
                sum.bytes += chunk.bytes();
                let (first, last) = sum.span.unwrap_or((chunk.arrived, chunk.arrived));
                sum.span = Some((first.min(chunk.arrived), last.max(chunk.arrived)));
            }
            None => sum.damaged += item.readings,
        }
    }
    let known = file.lanes().unwrap_or_default();
    for (id, Sum { chunks, readings, bytes, damaged, span }) in &lanes {
        let name = known.iter().find(|lane| lane.lane.id == *id).map_or_else(
            || format!("a lane without a name ({})", id.0),
            |lane| {
                let layout = &lane.lane.layout;
                format!("{}/{} of {}", layout.stream, layout.number, layout.of)
            },
        );
        write!(out, "{name}: {readings} readings in {chunks} chunks, {bytes} bytes")?;
        if let Some((first, last)) = span {
            write!(out, ", {} to {}", format_utc(*first), format_utc(*last))?;
        }
        if *damaged > 0 {
            write!(out, "; {damaged} readings are not what was written")?;
        }
        writeln!(out)?;
    }
    let total: u64 = lanes.values().map(|sum| sum.readings).sum();
    let damaged: u64 = lanes.values().map(|sum| sum.damaged).sum();
    let mut wrong = Vec::new();
    if let Found::Damaged(what) = found {
        wrong.push(what);
    }
    if chunks.damaged_pages() > 0 {
        wrong.push(format!("pages of its chunks that can't be read: {}", chunks.damaged_pages()));
    }
    if damaged > 0 {
        wrong.push(format!("{damaged} readings are not what was written"));
    }
    for (table, Unread { pages, rows }) in file.unread() {
        let counts = [(pages, "pages"), (rows, "rows")].into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts.map(|(count, what)| format!("{count} {what}")).collect();
        wrong.push(format!("{} of its table {table} can't be read", counts.join(" and ")));
    }
    if wrong.is_empty() {
        writeln!(out, "{shown}: in order, {total} readings, {} bytes", file.size())?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{shown}: damaged: {}; {total} readings can be read", wrong.join("; "))?;
    writeln!(out, "  an agent whose buffer this is brings them over by itself at its next start")?;
    writeln!(out, "  to bring them into another gateway's buffer: headwater buffer import {shown} --config …")?;
    Ok(ExitCode::FAILURE)
}
