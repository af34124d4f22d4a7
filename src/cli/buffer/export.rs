//! `headwater buffer export`: the readings of a file as JSON lines.
//!
//! Invariant: a reading stands there as it would arrive; what can't be read is counted, and stops nothing.

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::json;

use super::{note, opened, unread};
use crate::{
    buffer::{
        Chunk, Lane,
        cold::{ColdFile, Refused},
    },
    cli::{Failed, tail::envelope},
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
    let (file, damaged) = opened(&args.path)?;
    let written = match &args.output {
        Some(path) => {
            let mut output = BufWriter::new(File::create(path)?);
            write_all(&file, args.rejected, &mut output).and_then(|unread| output.flush().map(|()| unread))
        }
        None => write_all(&file, args.rejected, &mut BufWriter::new(out)),
    };
    match written {
        Ok(None) if damaged => Ok(ExitCode::FAILURE),
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some(unread)) => {
            note(&format!("{unread}; headwater buffer verify tells more"));
            Ok(ExitCode::FAILURE)
        }
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS), // `| head` has seen enough
        Err(error) => Err(error.into()),
    }
}

/// Returns what can't be read.
fn write_all(file: &ColdFile, rejected: bool, out: &mut dyn Write) -> std::io::Result<Option<String>> {
    let lanes = file.lanes().unwrap_or_default();
    let lane_of = |id| lanes.iter().map(|lane| &lane.lane).find(|lane| lane.id == id);
    let mut missing = 0;
    if rejected {
        for Refused { lane, run, seq, reason, key, data, at } in file.rejected() {
            let Some(data) = data else {
                missing += 1;
                continue;
            };
            let lane = lane_of(lane);
            let key = key.as_deref().or(lane.map(|lane| lane.layout.partition_key.as_str())).unwrap_or_default();
            let reading = line_of(lane, &run.to_string(), seq, key, &data);
            writeln!(out, "{{\"at\":{},\"reason\":{},\"reading\":{reading}}}", at.0, json!(reason))?;
        }
        return Ok(unread(missing, 0));
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
fn write_chunk(lane: Option<&Lane>, chunk: &Chunk, out: &mut dyn Write) -> std::io::Result<u64> {
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
