//! `headwater buffer import`: readings of another file come into this gateway's buffer, under the names that they have.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;

use super::{failed, note, opened};
use crate::{
    agent,
    buffer::{self, BufferError, Chunk, LaneId, Layout, import::Imported},
    cli::{ConfigArgs, Failed, load},
    config::{Config, Encoding, Files},
    ingest,
    reading::Timestamp,
    record::{
        RunId,
        kpl::{HashKeyUse, put_record},
    },
};

/// Reads a quarantined or copied file back into this gateway's buffer
///
/// The file is a buffer (`buffer.db`, `buffer.db.corrupt-TIME`), or JSON lines as `headwater buffer export` writes them. Names are kept,
/// and what is in the buffer already is left out, so the command can be repeated. The agent sends imported readings first, after its
/// next start. From JSON lines bytes come back as the base64 text that they were exported as; a buffer file keeps them.
///
/// Stop the agent first. Exit code: 0 when everything came over; 1 when the file is damaged; 3 when the buffer is in use.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater buffer import /media/card/var/lib/headwater/buffer.db\n  headwater buffer import readings.jsonl --config config/gateway.toml"
)]
pub struct ImportArgs {
    /// The file
    pub path: PathBuf,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// One line of an export.
#[derive(Deserialize)]
struct Line {
    lane: String,
    run: String,
    seq: Option<u64>,
    /// In the place of `seq`, in a notice.
    from: Option<u64>,
    #[serde(default)]
    ts: i64,
    rx: Option<i64>,
    #[serde(default)]
    src: String,
    #[serde(default)]
    topic: String,
    /// Of a reading without an envelope.
    key: Option<String>,
    data: Option<String>,
}

/// Brings the file's readings into the buffer of the configuration.
pub fn import(args: &ImportArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let config = load(&args.config, env, Files::Skipped)?.config;
    let target = config.device.state_dir.join("buffer.db");
    let max_size = config.buffer.max_size.0;
    let layouts: Vec<Layout> =
        config.streams.iter().flat_map(|(name, stream)| agent::layouts_of(&config.device.id, name, stream)).collect();
    let (mut missing, mut damaged) = (0, false);
    let imported = if let Some(text) = text_of(&args.path)? {
        let mut lines = Lines { config: &config, layouts: &layouts, text: BufReader::new(text), next: None, unread: 0 };
        let imported = buffer::import::import(&target, max_size, &[], lines.by_ref());
        missing += lines.unread;
        imported
    } else {
        let file;
        (file, damaged) = opened(&args.path)?;
        let lanes = file.lanes().unwrap_or_default();
        let mut chunks = file.chunks();
        let known = |lane: LaneId| lanes.iter().map(|known| &known.lane).find(|known| known.id == lane);
        let found = chunks.by_ref().filter_map(|item| {
            let layout = known(item.lane).map(|lane| lane.layout.clone());
            let layout = layout.or_else(|| buffer::guess(&layouts, item.chunk.as_ref()?).cloned());
            let found = layout.zip(item.chunk);
            missing += if found.is_none() { item.readings } else { 0 };
            found
        });
        let imported = buffer::import::import(&target, max_size, &file.settings(), found);
        damaged |= chunks.damaged_pages() > 0;
        imported
    };
    let Imported { readings, known } = imported.map_err(failed)?;
    note(&format!("{readings} readings imported, {known} were here already, {missing} can't be read"));
    Ok(if missing == 0 && !damaged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What an import takes of `text`, and how many of its lines it does not.
#[cfg(any(test, fuzzing))]
pub(crate) fn taken_from(config: &Config, text: &[u8]) -> (Vec<(Layout, Chunk)>, u64) {
    let layouts: Vec<Layout> =
        config.streams.iter().flat_map(|(name, stream)| agent::layouts_of(&config.device.id, name, stream)).collect();
    let mut lines = Lines { config, layouts: &layouts, text, next: None, unread: 0 };
    (lines.by_ref().collect(), lines.unread)
}

/// The file, if it is lines of JSON. A database begins with its magic, or with anything that is no text; one whose log alone is left is not
/// there.
fn text_of(path: &Path) -> Result<Option<File>, Failed> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(BufferError::Read { path: path.into(), source: source.into() })),
    };
    let mut first = [0];
    let is_text = file.read(&mut first).is_ok_and(|read| first[..read] == *b"{");
    Ok(if is_text { Some(File::open(path)?) } else { None })
}

/// Joins the lines of an export to chunks.
struct Lines<'a, R> {
    config: &'a Config,
    layouts: &'a [Layout],
    text: R,
    next: Option<(Layout, Chunk)>,
    /// Lines that are no readings, or of no stream that is configured.
    unread: u64,
}

/// A chunk ends at this size, as those do that ingest makes.
const CHUNK_BYTES: usize = 64 << 10;

impl<R: BufRead> Iterator for Lines<'_, R> {
    type Item = (Layout, Chunk);

    fn next(&mut self) -> Option<(Layout, Chunk)> {
        let mut open = self.next.take();
        let mut line = String::new();
        loop {
            line.clear();
            match self.text.read_line(&mut line) {
                Ok(0) => return open,
                Ok(_) if line.trim().is_empty() => continue,
                Ok(_) => {}
                Err(_) => {
                    // No text from here on; what came before counts.
                    self.unread += 1;
                    return open;
                }
            }
            let Some((layout, chunk)) = self.reading(&line) else {
                self.unread += 1;
                continue;
            };
            open = match open.take() {
                None => Some((layout, chunk)),
                Some((first, mut joined))
                    if first == layout
                        && joined.run == chunk.run
                        && joined.first_seq.checked_add(joined.readings) == Some(chunk.first_seq)
                        && joined.keys == chunk.keys
                        && !joined.notice
                        && !chunk.notice
                        && joined.data.len() < CHUNK_BYTES =>
                {
                    joined.data = [joined.data, chunk.data].concat().into();
                    joined.readings += 1;
                    Some((first, joined))
                }
                full => {
                    self.next = Some((layout, chunk));
                    return full;
                }
            };
        }
    }
}

impl<R> Lines<'_, R> {
    /// A chunk of one reading.
    fn reading(&self, text: &str) -> Option<(Layout, Chunk)> {
        let line: Line = serde_json::from_str(text).ok()?;
        let (stream, number) = line.lane.rsplit_once('/')?;
        let number: u16 = number.parse().ok()?;
        let settings = self.config.streams.get(stream)?;
        let layout = self.layouts.iter().find(|layout| layout.stream == stream && layout.number == number)?;
        let record = match (&line.data, settings.encoding) {
            (Some(data), _) => base64_simd::STANDARD.decode_to_vec(data).ok()?,
            (None, Encoding::Cbor) => {
                let mut record = Vec::new();
                let mut cbor = serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(&mut record));
                serde_transcode::transcode(&mut serde_json::Deserializer::from_str(text), &mut cbor).ok()?;
                record
            }
            (None, Encoding::Json | Encoding::Raw) => format!("{}\n", text.trim_end()).into_bytes(),
        };
        let key = match (&layout.template, line.key) {
            (None, _) => None,
            (Some(_), Some(key)) => Some(key),
            (Some(_), None) if line.seq.is_none() => Some(layout.partition_key.clone()),
            (Some(template), None) => Some(ingest::partition_key(template, &self.config.device.id, &line.src, &line.topic)),
        };
        let mut data = Vec::new();
        let hash_key = if layout.hash_key.is_some() { HashKeyUse::First } else { HashKeyUse::None };
        put_record(&mut data, 0, hash_key, &record);
        let chunk = Chunk {
            lane: LaneId(0),
            readings: u64::from(line.seq.is_some()),
            run: RunId(u64::from_str_radix(&line.run, 16).ok()?),
            // Larger numbers are nobody's, and SQLite has none.
            first_seq: line.seq.or(line.from).filter(|seq| i64::try_from(*seq).is_ok())?,
            arrived: Timestamp(line.rx.unwrap_or(line.ts)),
            unsure: None,
            notice: line.seq.is_none(),
            keys: key.map(|key| Arc::from([key])),
            data: Bytes::from(data),
        };
        Some((layout.clone(), chunk))
    }
}
