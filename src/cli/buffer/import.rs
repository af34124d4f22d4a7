//! `headwater buffer import`: readings of another file come into this gateway's buffer, under the names that they have.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;

use super::{failed, note, opened};
use crate::{
    agent::{self, AgentError},
    buffer::{self, BufferError, Chunk, LaneId, Layout, cold::beside, import::Imported},
    cli::{ConfigArgs, Failed, load},
    config::{Config, Encoding, Files},
    durable, ingest,
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
/// Stop the agent first. What root makes is given to whoever has the folder, as the agent's user has its own. Exit code: 0 when
/// everything came over; 1 when the file is damaged; 3 when the buffer is in use.
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
    let (mut missing, mut damaged, mut broken) = (0, false, None);
    let imported = if let Some(text) = text_of(&args.path)? {
        make_folder(&config.device.state_dir)?;
        let mut lines = Lines::of(&config, &layouts, text);
        let imported = buffer::import::import(&target, max_size, &[], lines.by_ref());
        missing += lines.unread;
        broken = lines.broken;
        imported
    } else {
        let file;
        (file, damaged) = opened(&args.path)?;
        make_folder(&config.device.state_dir)?;
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
    if let Some(source) = broken {
        return Err(unreadable(&args.path, source));
    }
    Ok(if missing == 0 && !damaged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What an import takes of `text`, and how many of its lines it does not.
#[cfg(any(test, fuzzing))]
pub(crate) fn taken_from(config: &Config, text: &[u8]) -> (Vec<(Layout, Chunk)>, u64) {
    let layouts: Vec<Layout> =
        config.streams.iter().flat_map(|(name, stream)| agent::layouts_of(&config.device.id, name, stream)).collect();
    let mut lines = Lines::of(config, &layouts, text);
    (lines.by_ref().collect(), lines.unread)
}

/// Where the buffer will be; the agent may never have run here.
fn make_folder(state_dir: &Path) -> Result<(), Failed> {
    durable::make_folder(state_dir, durable::sync_folder)
        .map_err(|source| AgentError::StateDir { path: state_dir.into(), source }.into())
}

fn unreadable(path: &Path, source: io::Error) -> Failed {
    failed(BufferError::Read { path: path.into(), source: source.into() })
}

/// The file, if it is lines of JSON, of which there may be none. A database begins with its magic, or with anything that is no text; one
/// whose log alone is left is not there, or is empty.
fn text_of(path: &Path) -> Result<Option<BufReader<File>>, Failed> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(path, source)),
    };
    let mut text = BufReader::new(file);
    let first = text.by_ref().bytes().find(|byte| !byte.as_ref().is_ok_and(u8::is_ascii_whitespace)).transpose();
    let is_text = match first {
        Ok(Some(first)) => first == b'{',
        Ok(None) => !beside(path, "-wal").exists(),
        // The first page of a database may be on a bad sector.
        Err(_) => false,
    };
    if is_text {
        text.rewind().map_err(|source| unreadable(path, source))?;
    }
    Ok(is_text.then_some(text))
}

/// Joins the lines of an export to chunks.
struct Lines<'a, R> {
    config: &'a Config,
    layouts: &'a [Layout],
    text: R,
    next: Option<(Layout, Chunk)>,
    /// Lines that are no readings, or of no stream that is configured.
    unread: u64,
    /// Why the text ended before its end.
    broken: Option<io::Error>,
}

/// A chunk ends at this size, as those do that ingest makes.
const CHUNK_BYTES: usize = 64 << 10;
/// No line is longer: a reading has at most 1,000 KiB, and no byte of it becomes more than six.
const LONGEST_LINE: u64 = 8 << 20;

impl<R: BufRead> Iterator for Lines<'_, R> {
    type Item = (Layout, Chunk);

    fn next(&mut self) -> Option<(Layout, Chunk)> {
        let mut open = self.next.take();
        let mut line = Vec::new();
        while self.broken.is_none() {
            match self.read_line(&mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    // What came before counts.
                    self.broken = Some(error);
                    break;
                }
            }
            let text = std::str::from_utf8(&line);
            if text.is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            let Some((layout, chunk)) = text.ok().and_then(|text| self.reading(text)) else {
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
        open
    }
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn of(config: &'a Config, layouts: &'a [Layout], text: R) -> Self {
        Self { config, layouts, text, next: None, unread: 0, broken: None }
    }

    /// Puts the next line into `line`; of one that is too long to be a reading's, the beginning. Returns how many bytes that is.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        line.clear();
        let read = self.text.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
        if read as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
            self.text.skip_until(b'\n')?;
        }
        Ok(read)
    }

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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, chown},
    };

    use super::{
        super::tests::{gateway, line},
        *,
    };

    /// What is taken of `text`, and how many lines are not.
    fn taken(text: &[u8]) -> (u64, u64) {
        let (_folder, args) = gateway();
        let config = load(&args.config, &[], Files::Skipped).unwrap().config;
        let (chunks, unread) = taken_from(&config, text);
        (chunks.iter().map(|(_, chunk)| chunk.readings).sum(), unread)
    }

    #[test]
    fn a_line_that_is_no_text_costs_itself_wherever_it_stands() {
        let bad = b"{\"lane\":\"s/0\",\"val\":\"\xFF\xFE\"}\n".to_vec();

        for bad_ones in [&[0][..], &[0, 1], &[3, 4, 5], &[46]] {
            let lines = (0..47).map(|seq| if bad_ones.contains(&seq) { bad.clone() } else { line(seq) });
            let text = lines.collect::<Vec<_>>().concat();
            assert_eq!(taken(&text), (47 - bad_ones.len() as u64, bad_ones.len() as u64), "{bad_ones:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_counted_once_and_not_kept() {
        let endless = vec![0; 3 * usize::try_from(LONGEST_LINE).unwrap()];

        assert_eq!(taken(&[line(0), endless, b"\n".to_vec(), line(1)].concat()), (2, 1));
    }

    /// Gives its bytes, and then what a failing disk gives.
    struct Failing<'a>(&'a [u8]);

    impl Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("a bad sector")) } else { self.0.read(into) }
        }
    }

    #[test]
    fn where_the_file_can_not_be_read_any_more_what_came_before_counts_and_the_import_fails() {
        let (_folder, args) = gateway();
        let config = load(&args.config, &[], Files::Skipped).unwrap().config;
        let layouts = agent::layouts_of("gw-7", "s", &config.streams["s"]);
        let text = [line(0), line(1)].concat();
        let mut lines = Lines::of(&config, &layouts, BufReader::new(Failing(&text)));

        let readings: u64 = lines.by_ref().map(|(_, chunk)| chunk.readings).sum();

        assert_eq!((readings, lines.unread), (2, 0), "no line is wrong");
        assert_eq!(lines.broken.map(|error| error.to_string()).as_deref(), Some("a bad sector"));
    }

    #[test]
    fn readings_are_imported_where_no_agent_has_run_yet() {
        let (folder, args) = gateway();
        fs::write(&args.path, [b"\n  \n".to_vec(), line(0)].concat()).unwrap();

        assert_eq!(import(&args, &[]).unwrap(), ExitCode::SUCCESS);

        let (file, damaged) = opened(&folder.path().join("lib/state/buffer.db")).unwrap();
        assert!(!damaged);
        assert_eq!(file.chunks().map(|item| item.readings).sum::<u64>(), 1);
    }

    #[test]
    fn what_an_import_makes_belongs_to_whoever_has_the_folder() {
        let (folder, args) = gateway();
        fs::write(&args.path, line(0)).unwrap();
        // Whoever may not give it away imports into a folder of their own, and that is true as well.
        let _given = chown(folder.path(), Some(12_345), Some(12_345));
        let owner = |path: &Path| fs::metadata(path).map(|of| (of.uid(), of.gid())).unwrap();

        assert_eq!(import(&args, &[]).unwrap(), ExitCode::SUCCESS);

        let state = folder.path().join("lib/state");
        let files = fs::read_dir(&state).unwrap().map(|file| file.unwrap().path());
        let made: Vec<_> = [folder.path().join("lib"), state.clone()].into_iter().chain(files).collect();
        assert!(["buffer.db", "buffer.db-reserve"].iter().all(|name| made.contains(&state.join(name))), "{made:?}");
        for path in made {
            assert_eq!(owner(&path), owner(folder.path()), "{}", path.display());
        }
    }

    #[test]
    fn what_an_export_of_nothing_has_written_is_imported() {
        let (_folder, args) = gateway();
        for nothing in ["", "\n", " \n\n"] {
            fs::write(&args.path, nothing).unwrap();
            assert_eq!(import(&args, &[]).unwrap(), ExitCode::SUCCESS, "{nothing:?}");
        }

        // Whatever was in the log of a database is still there when that is empty.
        fs::write(&args.path, "").unwrap();
        fs::write(beside(&args.path, "-wal"), [7; 40]).unwrap();
        assert_eq!(import(&args, &[]).unwrap(), ExitCode::FAILURE);
    }
}
