//! `headwater tail`: reads a stream back as its consumers do, and says what is missing in it.
//!
//! Invariant: every record is printed once or counted as a duplicate; nothing is left out in silence.

pub(super) mod envelope;
mod reader;
mod shards;
mod tracker;

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::ConfigArgs;

pub use self::tracker::Counts;
use self::{
    reader::{Reader, Step},
    tracker::Tracker,
};
use crate::{
    clock,
    config::{Config, DestinationConfig, Encoding, KinesisConfig, StreamConfig},
    kinesis::{self, Arrived, Client, ClientError, HashKey, ReadError, Start},
    reading::Timestamp,
    record::deaggregate::{deaggregate, kcl_accepts},
    status::with_causes,
    units,
};

/// Reads a stream back, and prints its readings as JSON lines
///
/// Splits aggregates, leaves duplicates out, and tells on stderr which readings are missing, until Ctrl-C.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  headwater tail readings\n  headwater tail readings --from 10min --lane 0 | jq .val")]
pub struct TailArgs {
    /// A name under `[streams]`
    pub stream: String,
    /// Where to begin: latest, oldest, a time such as 2026-11-21T05:30:00Z, or how long ago, such as 10min
    #[arg(long, default_value = "latest", value_name = "latest|oldest|TIME")]
    pub from: Beginning,
    /// Print one lane only
    #[arg(long, value_name = "N")]
    pub lane: Option<u16>,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With what comes from now on.
    Latest,
    /// With the oldest that the stream has.
    Oldest,
    /// With this time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl FromStr for Beginning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is none of latest, oldest, 2026-11-21T05:30:00Z, 10min");
        match text {
            "latest" => Ok(Self::Latest),
            "oldest" => Ok(Self::Oldest),
            _ => {
                let ago = units::parse_duration(text).ok().map(Self::Ago);
                // As every reading has it.
                let millis = || text.parse().ok().map(|millis| Self::At(Timestamp(millis)));
                ago.or_else(millis).or_else(|| kinesis::parse_time(text).map(Self::At)).ok_or_else(refused)
            }
        }
    }
}

impl Beginning {
    fn start(self, Timestamp(now): Timestamp) -> Start {
        match self {
            Self::Latest => Start::Latest,
            Self::Oldest => Start::Oldest,
            Self::At(time) => Start::At(time),
            Self::Ago(ago) => Start::At(Timestamp(now - i64::try_from(ago.as_millis()).unwrap_or(now))),
        }
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The name is not under `[streams]`.
    #[error("there is no [streams.{name}]; {}", known(.streams))]
    NoStream {
        /// As given.
        name: String,
        /// Those that there are.
        streams: Vec<String>,
    },
    /// The stream's destination is not under `[destinations]`.
    #[error("there is no [destinations.{destination}], where [streams.{stream}] leads")]
    NoDestination {
        /// As given.
        stream: String,
        /// As configured.
        destination: String,
    },
    /// What Firehose took can't be read back from it.
    #[error(
        "[streams.{stream}] leads to Firehose, which hands everything on and can't be read; look where it delivers to, such as its S3 \
         bucket"
    )]
    HandedOn {
        /// As given.
        stream: String,
    },
    /// It is in files.
    #[error("[streams.{stream}] leads to files, which need no tail; read {}, of which .part is being written", path.display())]
    Files {
        /// As given.
        stream: String,
        /// All of them.
        path: PathBuf,
    },
    /// The destination's settings can't be used.
    #[error("[destinations.{destination}] can't be used")]
    Settings {
        /// As configured.
        destination: String,
        /// Why not.
        source: ClientError,
    },
    /// The stream can't be read, and waiting does not help.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody takes what is printed.
    #[error("can't print the readings")]
    Print(#[from] io::Error),
}

fn known(streams: &[String]) -> String {
    match streams {
        [] => "the configuration has no streams".into(),
        names => format!("the configuration has {}", names.join(", ")),
    }
}

/// What was read in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Readings by their fate.
    pub counts: Counts,
    /// Records without names: `encoding = "raw"`, or another producer's.
    pub anonymous: u64,
    /// Aggregates that Amazon's consumer library drops, since not all of their records belong to the shard.
    pub refused_by_kcl: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Counts { readings, duplicates, missing, dropped } = self.counts;
        write!(f, "{readings} readings, {duplicates} duplicates left out, {missing} missing, {dropped} dropped by their gateway")?;
        if self.anonymous > 0 {
            write!(f, ", {} records without names", self.anonymous)?;
        }
        if self.refused_by_kcl > 0 {
            write!(f, ", {} aggregates that KCL would drop", self.refused_by_kcl)?;
        }
        Ok(())
    }
}

/// Prints the readings of a stream to `out`, one a line, until `stop` or until nobody takes them; what is wrong goes to stderr.
pub async fn tail(config: &Config, args: &TailArgs, stop: CancellationToken, out: &mut impl Write) -> Result<Summary, TailError> {
    let (stream, destination) = find(config, &args.stream)?;
    let settings = |source| TailError::Settings { destination: stream.destination.clone(), source };
    let client = Client::open(destination).await.map_err(settings)?;
    let now = clock::now();
    let mut reader = Reader::new(client, &stream.stream, args.from.start(now), now);
    let mut printer = Printer {
        raw: stream.encoding == Encoding::Raw,
        lane: args.lane,
        tracker: Tracker::default(),
        summary: Summary::default(),
    };
    loop {
        let news = tokio::select! {
            () = stop.cancelled() => break,
            news = reader.next() => news?,
        };
        match news {
            Step::Away(error) => note(&format!("{}; trying again", with_causes(&error))),
            Step::Back => note("the stream can be read again"),
            Step::Records(hashes, records) => match printer.print_all(&hashes, &records, out).and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break, // whoever takes them has seen enough
                done => done?,
            },
        }
    }
    let summary = printer.summary();
    note(&summary.to_string());
    Ok(summary)
}

fn find<'a>(config: &'a Config, name: &str) -> Result<(&'a StreamConfig, &'a KinesisConfig), TailError> {
    let Some(stream) = config.streams.get(name) else {
        return Err(TailError::NoStream { name: name.to_owned(), streams: config.streams.keys().cloned().collect() });
    };
    match config.destinations.get(&stream.destination) {
        Some(DestinationConfig::Kinesis(kinesis)) => Ok((stream, kinesis)),
        Some(DestinationConfig::Firehose(_)) => Err(TailError::HandedOn { stream: name.to_owned() }),
        Some(DestinationConfig::File(file)) => {
            let path = file.path.join(format!("*-{}*", if stream.stream.is_empty() { name } else { &stream.stream }));
            Err(TailError::Files { stream: name.to_owned(), path })
        }
        None => Err(TailError::NoDestination { stream: name.to_owned(), destination: stream.destination.clone() }),
    }
}

fn note(text: &str) {
    eprintln!("headwater tail: {text}");
}

struct Printer {
    raw: bool,
    lane: Option<u16>,
    tracker: Tracker,
    summary: Summary,
}

impl Printer {
    fn print_all(&mut self, hashes: &RangeInclusive<HashKey>, records: &[Arrived], out: &mut impl Write) -> io::Result<()> {
        for record in records {
            let Some(inner) = deaggregate(&record.data) else {
                self.print(None, &record.partition_key, &record.data, out)?;
                continue;
            };
            if !kcl_accepts(&inner, hashes) {
                self.summary.refused_by_kcl += 1;
                let sequence = &record.sequence;
                note(&format!("KCL would drop the {} readings of record {sequence}: not all belong to its shard", inner.len()));
            }
            for user in inner {
                self.print(Some(&record.partition_key), user.partition_key, user.data, out)?;
            }
        }
        Ok(())
    }

    /// Prints a user record with this `key`; `aggregate` is the key of the record that it came in with others.
    fn print(&mut self, aggregate: Option<&str>, key: &str, data: &[u8], out: &mut impl Write) -> io::Result<()> {
        let wanted = |lane: Option<u16>| self.lane.is_none_or(|wanted| lane == Some(wanted));
        let decoded = if self.raw { None } else { envelope::decode(data) };
        let Some((names, line)) = decoded else {
            if !wanted(envelope::lane_number(aggregate.unwrap_or(key))) {
                return Ok(());
            }
            self.summary.anonymous += 1;
            return writeln!(out, "{}", envelope::anonymous(key, data));
        };
        if !wanted(names.lane_number()) {
            return Ok(());
        }
        let verdict = self.tracker.look(&names);
        // Readings that travel one by one come in any order, so most gaps are filled later; what is not is in the summary.
        if aggregate.is_some() {
            verdict.gaps.iter().for_each(|gap| note(&gap.to_string()));
        }
        if verdict.duplicate { Ok(()) } else { writeln!(out, "{line}") }
    }

    fn summary(&self) -> Summary {
        Summary { counts: self.tracker.counts(), ..self.summary }
    }
}

/// The line that is printed for a user record.
#[cfg(any(test, fuzzing))]
pub(crate) fn printed(data: &[u8]) -> String {
    envelope::decode(data).map_or_else(|| envelope::anonymous("key", data), |(_, line)| line)
}

/// The lane and the number of a reading.
#[cfg(any(test, fuzzing))]
pub(crate) fn names_of(data: &[u8]) -> Option<(String, Option<u64>)> {
    envelope::decode(data).map(|(names, _)| (names.lane, names.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_a_word_a_time_or_a_while_ago() {
        let now = Timestamp(1_800_000_000_000);
        let start = |text: &str| text.parse::<Beginning>().map(|from| from.start(now));
        assert_eq!(start("latest"), Ok(Start::Latest));
        assert_eq!(start("oldest"), Ok(Start::Oldest));
        assert_eq!(start("10min"), Ok(Start::At(Timestamp(1_799_999_400_000))));
        assert_eq!(start("2026-11-21T05:30:00Z"), Ok(Start::At(Timestamp(1_795_239_000_000))));
        assert_eq!(start("2026-11-21T06:30:00+01:00"), Ok(Start::At(Timestamp(1_795_239_000_000))));
        assert_eq!(start("1795239000000"), Ok(Start::At(Timestamp(1_795_239_000_000))));
        assert!(start("yesterday").unwrap_err().contains("10min"));
    }

    #[test]
    fn a_name_that_is_not_configured_is_answered_with_those_that_are() {
        let mut config = Config::default();
        assert!(find(&config, "reading").unwrap_err().to_string().contains("no streams"));
        config.streams.insert("readings".into(), StreamConfig { destination: "cloud".into(), ..StreamConfig::default() });

        assert_eq!(
            find(&config, "reading").unwrap_err().to_string(),
            "there is no [streams.reading]; the configuration has readings"
        );
        assert!(find(&config, "readings").unwrap_err().to_string().contains("[destinations.cloud]"));
    }
}
