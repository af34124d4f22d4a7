//! `headwater buffer export`: the readings of a file as JSON lines.
//!
//! Invariant: a reading stands there as it would arrive; what can't be read is counted, and stops nothing.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{note, opened, unread};
use crate::{
    buffer::{
        Chunk, Lane,
        cold::{ColdFile, Refused, beside},
    },
    cli::{Failed, tail::envelope},
    durable::{folder_of, take_place},
    record::kpl::first_record,
};

/// Writes the readings of a buffer file as JSON lines, one a reading
///
/// In the order of each lane, as they would arrive: CBOR becomes JSON, and bytes become base64. Readings of a stream with encoding =
/// "raw" have no names of their own, so lane, run and seq stand beside their data. The file is read and nothing else.
///
/// Exit code: 0 when all readings were written; 1 when the file is damaged.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater buffer export buffer.db | jq .val\n  headwater buffer export buffer.db.corrupt-20261121T053000Z --output readings.jsonl"
)]
pub struct ExportArgs {
    /// The file
    pub path: PathBuf,
    /// Where to write; without it the standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The readings that the destination refused, with its reason, instead of those that wait
    #[arg(long)]
    pub rejected: bool,
}

/// Writes the readings to `out`, or to the file that the arguments name.
pub fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<ExitCode, Failed> {
    if let Some(output) = &args.output
        && is_of(output, &args.path)
    {
        return Err(NotWritten::Source { output: output.clone() }.into());
    }
    let (file, damaged) = opened(&args.path)?;
    let unread = match &args.output {
        Some(output) => write_file(output, |out| write_all(&file, args.rejected, out))
            .map_err(|source| NotWritten::Failed { output: output.clone(), source })?,
        None => match write_all(&file, args.rejected, &mut BufWriter::new(out)) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS), // `| head` has seen enough
            unread => unread?,
        },
    };
    if let Some(unread) = &unread {
        note(&format!("{unread}; headwater buffer verify tells more"));
    }
    Ok(if unread.is_some() || damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The output can't be written.
#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error("{} belongs to the buffer that is read, and would be lost; name another file with --output", output.display())]
    Source { output: PathBuf },
    #[error("{} can't be written; check that this user may write in its folder, and that the disk has room", output.display())]
    Failed { output: PathBuf, source: io::Error },
}

/// Whether `output` is the buffer at `path`, or is called like a file that belongs to it.
fn is_of(output: &Path, path: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|of| (of.dev(), of.ino())).ok();
    let name = |path: &Path| Some((identity(folder_of(path))?, path.file_name()?.to_owned()));
    let is = |file: PathBuf| {
        let same_file = identity(output).is_some_and(|output| identity(&file) == Some(output));
        same_file || name(output).is_some_and(|output| name(&file) == Some(output))
    };
    let target = fs::canonicalize(path).ok();
    let paths = [Some(path.to_owned()), target].into_iter().flatten();
    paths.into_iter().any(|path| ["", "-wal", "-shm", "-journal", "-reserve"].iter().any(|suffix| is(beside(&path, suffix))))
}

/// Lets `write` write a file that takes the place of `output` when it is whole and on the disk. What is no file, as a pipe or a terminal,
/// takes it as it comes.
fn write_file<T>(output: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
    let old = match fs::metadata(output) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let mut out = BufWriter::new(File::options().write(true).open(output)?);
        let done = write(&mut out)?;
        return out.flush().map(|()| done);
    }
    // A link goes on to lead where it led.
    let place = if old.is_some() { fs::canonicalize(output)? } else { output.to_owned() };
    let new = beside(&place, &format!(".{}.new", std::process::id()));
    let file = File::create_new(&new)?;
    let written = (|| {
        if let Some(old) = old {
            file.set_permissions(old.permissions())?;
        }
        let mut out = BufWriter::new(&file);
        let done = write(&mut out)?;
        out.flush()?;
        drop(out);
        take_place(&file, &new, &place).map(|()| done)
    })();
    if written.is_err() {
        // Why it failed is what counts; if this fails too, a file more lies there.
        let _removed = fs::remove_file(&new);
    }
    written
}

/// Returns what can't be read.
fn write_all(file: &ColdFile, rejected: bool, out: &mut dyn Write) -> io::Result<Option<String>> {
    let lanes = file.lanes().unwrap_or_default();
    let lane_of = |id| lanes.iter().map(|lane| &lane.lane).find(|lane| lane.id == id);
    let mut missing = 0;
    if rejected {
        let (rejected, missing) = file.rejected();
        for Refused { lane, run, seq, reason, key, data, at } in rejected {
            let Some(data) = data else { continue };
            let lane = lane_of(lane);
            let key = key.as_deref().or(lane.map(|lane| lane.layout.partition_key.as_str())).unwrap_or_default();
            let reading = line_of(lane, &run.to_string(), seq, key, &data);
            writeln!(out, "{{\"at\":{},\"reason\":{},\"reading\":{reading}}}", at.0, json!(reason))?;
        }
        return Ok(unread(missing.rows, missing.pages));
    }
    let mut chunks = file.chunks();
    for item in chunks.by_ref() {
        let lane = lane_of(item.lane);
        match &item.chunk {
            Some(chunk) => missing += chunk.readings - write_chunk(lane, chunk, out)?,
            None => missing += item.readings,
        }
    }
    Ok(unread(missing, chunks.damaged_pages()))
}

/// Returns how many readings were written.
fn write_chunk(lane: Option<&Lane>, chunk: &Chunk, out: &mut dyn Write) -> io::Result<u64> {
    let (mut fields, mut written) = (&chunk.data[..], 0);
    while let Ok(record) = first_record(fields) {
        let key = chunk.keys.as_ref().and_then(|keys| keys.get(usize::try_from(record.partition_key).ok()?));
        let key = key.map(String::as_str).or(lane.map(|lane| lane.layout.partition_key.as_str())).unwrap_or_default();
        writeln!(out, "{}", line_of(lane, &chunk.run.to_string(), chunk.first_seq.wrapping_add(written), key, record.data))?;
        written += 1;
        fields = &fields[record.field_len..];
        if fields.is_empty() {
            break;
        }
    }
    Ok(written.min(chunk.readings))
}

fn line_of(lane: Option<&Lane>, run: &str, seq: u64, key: &str, data: &[u8]) -> String {
    if let Some((_, line)) = envelope::decode(data) {
        return line;
    }
    let lane = lane.map(|lane| format!("{}/{}", lane.layout.stream, lane.layout.number));
    json!({ "lane": lane, "run": run, "seq": seq, "key": key, "data": base64_simd::STANDARD.encode_to_string(data) }).to_string()
}
