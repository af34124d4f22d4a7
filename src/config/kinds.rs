//! Tables that say by `kind` what they are.
//!
//! serde's own `tag = "kind"` copies such a table aside before it reads it, and a mistake in it has lost its key by then. So these
//! are read straight from the file, which asks one thing of the reader: it hands out `kind` first, as [`super::read`] does.

use std::{fmt, marker::PhantomData, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    CredentialsConfig, DestinationConfig, FileConfig, FramingConfig, IotConfig, KinesisConfig, MqttConfig, SerialConfig,
    SourceConfig, mistake::one_of, sources::default_max_frame,
};
use crate::units::ByteCount;

/// The key that says it.
pub(super) const KIND: &str = "kind";
/// What the reader is told to be the kind of a table that has none. serde has no words for that, and no file has this text.
pub(super) const NO_KIND: &str = "\0";

trait ByKind: Sized {
    const KINDS: &'static [&'static str];

    /// Reads the rest of the table; `kind` is one of [`Self::KINDS`].
    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error>;
}

impl ByKind for SourceConfig {
    const KINDS: &'static [&'static str] = &["mqtt", "serial"];

    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error> {
        match kind {
            "mqtt" => MqttConfig::deserialize(rest).map(Self::Mqtt),
            _ => SerialConfig::deserialize(rest).map(Self::Serial),
        }
    }
}

impl ByKind for DestinationConfig {
    const KINDS: &'static [&'static str] = &["kinesis", "firehose", "file"];

    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error> {
        match kind {
            "kinesis" => KinesisConfig::deserialize(rest).map(Self::Kinesis),
            "firehose" => KinesisConfig::deserialize(rest).map(Self::Firehose),
            _ => FileConfig::deserialize(rest).map(Self::File),
        }
    }
}

impl ByKind for CredentialsConfig {
    const KINDS: &'static [&'static str] = &["default", "iot", "process", "static"];

    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Static {
            access_key_id: String,
            secret_access_key_file: PathBuf,
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Process {
            command: Vec<String>,
        }

        match kind {
            "iot" => IotConfig::deserialize(rest).map(Self::Iot),
            "process" => Process::deserialize(rest).map(|Process { command }| Self::Process { command }),
            "static" => Static::deserialize(rest)
                .map(|Static { access_key_id, secret_access_key_file }| Self::Static { access_key_id, secret_access_key_file }),
            _ => Nothing::deserialize(rest).map(|Nothing {}| Self::Default),
        }
    }
}

impl ByKind for FramingConfig {
    const KINDS: &'static [&'static str] = &["lines", "delimiter"];

    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Lines {
            #[serde(default = "default_max_frame")]
            max_length: ByteCount,
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Delimiter {
            byte: u8,
            #[serde(default = "default_max_frame")]
            max_length: ByteCount,
        }

        match kind {
            "lines" => Lines::deserialize(rest).map(|Lines { max_length }| Self::Lines { max_length }),
            _ => Delimiter::deserialize(rest).map(|Delimiter { byte, max_length }| Self::Delimiter { byte, max_length }),
        }
    }
}

struct Table<T>(PhantomData<T>);

impl<'de, T: ByKind> Visitor<'de> for Table<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a table with {}", kinds::<T>())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<T, A::Error> {
        match table.next_key::<String>()? {
            Some(key) if key == KIND => {}
            _ => return Err(A::Error::unknown_variant(NO_KIND, T::KINDS)),
        }
        let kind = table.next_value_seed(Kind(T::KINDS))?;
        T::read(kind, MapAccessDeserializer::new(table))
    }
}

fn kinds<T: ByKind>() -> String {
    one_of(T::KINDS, |kind| format!("kind = {kind:?}"))
}

/// Refuses a wrong kind while its own place is still known.
struct Kind(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Kind {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<&'static str, D::Error> {
        let kind = String::deserialize(from)?;
        self.0.iter().find(|known| **known == kind).copied().ok_or_else(|| D::Error::unknown_variant(&kind, self.0))
    }
}

macro_rules! read_by_kind {
    ($($table:ty),*) => {$(
        impl<'de> Deserialize<'de> for $table {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_map(Table(PhantomData))
            }
        }
    )*};
}

read_by_kind!(SourceConfig, DestinationConfig, CredentialsConfig, FramingConfig);
