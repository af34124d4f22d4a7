//! Every setting with its meaning, its unit, its default and the reason for it.
//!
//! A table is keyed by a name, so that the layers of a fleet merge key by key. Unknown keys are errors: a setting that is silently
//! ignored is a gateway that silently does something else.

pub mod check;
mod credentials;
mod endpoints;
mod file;
mod fleet;
mod kinds;
mod layers;
mod load;
mod mistake;
mod named;
mod quiet;
mod read;
mod sources;

pub use credentials::{CredentialsConfig, IotConfig};
pub use endpoints::Endpoints;
pub use file::{Compression, FileConfig, Keep};
pub use load::{DEFAULT_PATH, Files, Loaded, Origins, Report, examine, load, load_on, parse};
pub use mistake::{ConfigErrors, Mistake, Place};
pub(crate) use named::CREDENTIALS_FOLDER;
pub use quiet::QuietHours;
pub use sources::{FlowControl, FramingConfig, MqttConfig, MqttVersion, Parity, PayloadFormat, SerialConfig, SourceConfig};

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    addresses::{Address, AddressRange},
    units::{self, ByteCount, ByteRate},
};

/// The whole configuration of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this gateway is and where it keeps its state.
    pub device: DeviceConfig,
    /// Where readings come from, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Which readings go where, by name.
    pub streams: BTreeMap<String, StreamConfig>,
    /// The clouds that streams lead to, by name.
    pub destinations: BTreeMap<String, DestinationConfig>,
    /// How much waits on the gateway, and where.
    pub buffer: BufferConfig,
    /// The local page and its interfaces.
    pub http: HttpConfig,
}

/// Who this gateway is and where it keeps its state.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// The gateway's name in every reading. Default: the name of the device's file in a fleet, else the host name, put in by
    /// [`fn@load`]; the names that every new board has are refused.
    pub id: String,
    /// The buffer lives here. Put it on a disk that keeps what it synced when power is cut.
    pub state_dir: PathBuf,
    /// A Unix socket, mode 0660, for `headwater status`.
    pub socket: PathBuf,
    /// A file that is made, and touched again, when a time server has set the clock. Where its folder is missing nobody tells, and a
    /// possible time is believed.
    pub clock_synchronized: PathBuf,
    /// Labels of this gateway, added to its metrics.
    pub tags: BTreeMap<String, String>,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            state_dir: "/var/lib/headwater".into(),
            socket: "/run/headwater/headwater.sock".into(),
            clock_synchronized: "/run/systemd/timesync/synchronized".into(), // systemd-timesyncd(8), which most gateways have
            tags: BTreeMap::new(),
        }
    }
}

/// Which readings go into one Kinesis stream, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// `false` leaves the stream configured, but nothing is routed to it; what it has buffered is still sent.
    pub enabled: bool,
    /// A name under `[destinations]`.
    pub destination: String,
    /// The name of the Kinesis or Firehose stream; of a folder, what its files are called by. Default for a folder: the name of the
    /// stream here.
    pub stream: String,
    /// Names under `[sources]`, optionally with a topic filter: `"broker:plant/+/+/temp"`.
    pub from: Vec<String>,
    /// What a user record is.
    pub encoding: Encoding,
    /// How many ordered sequences, 1 to 256; one fills a shard.
    pub lanes: u16,
    /// How long a reading may wait for company before it is sent.
    #[serde(with = "units::duration")]
    pub linger: Duration,
    /// A template for the user records' partition keys, from `{topic}`, `{source}` and `{device.id}`. Default: the lane's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    /// Whether readings travel together, many in one Kinesis record.
    pub aggregation: Aggregation,
    /// 0 to 100. On a slow link, one with a higher number is sent first, and those below it have an eighth of the link; when the whole
    /// buffer is full, its readings give way last.
    pub priority: u16,
    /// What goes first of what waits.
    pub drain_order: DrainOrder,
    /// As in `[buffer]`, for this stream alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// Bytes of this stream's readings that may wait here; beyond it, `when_full` decides. Default: no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<ByteCount>,
    /// As in `[buffer]`, for this stream alone.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            destination: String::new(),
            stream: String::new(),
            from: Vec::new(),
            encoding: Encoding::Cbor, // names every reading, at half the bytes of JSON
            lanes: 1,
            linger: Duration::from_millis(250), // a reading is in the stream within a second on any link that works
            partition_key: None,
            aggregation: Aggregation::Auto, // cheap where it can be, and nothing lost where it can't
            priority: 0,
            drain_order: DrainOrder::OldestFirst, // what a consumer need not sort
            when_full: None,
            max_size: None,
            max_age: None,
        }
    }
}

/// What a user record in the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The envelope as a CBOR map.
    #[default]
    Cbor,
    /// The envelope as one line of JSON.
    Json,
    /// The payload and nothing else: no names, so a consumer sees neither gaps nor duplicates.
    Raw,
}

/// Whether readings travel together, many in one Kinesis record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Unless the stream distributes records itself, as a consumer on KCL would drop aggregates then.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: each is a record of its own, and their order is not promised.
    Off,
}

/// What of a stream goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainOrder {
    /// What arrived first: each lane comes in the order of its `seq`.
    #[default]
    OldestFirst,
    /// What arrives now, while what has waited longer fills the rest of the link. Each comes in the order of its `seq`, one beside the
    /// other; a consumer sorts by `seq`.
    LiveFirst,
}

/// Where streams lead to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// Amazon Kinesis Data Streams.
    Kinesis(KinesisConfig),
    /// Amazon Data Firehose.
    Firehose(KinesisConfig),
    /// Files in a folder of the gateway.
    File(FileConfig),
}

impl DestinationConfig {
    /// The service of AWS that it is, if it is one.
    pub fn service(&self) -> Option<&KinesisConfig> {
        match self {
            Self::Kinesis(service) | Self::Firehose(service) => Some(service),
            Self::File(_) => None,
        }
    }

    fn service_mut(&mut self) -> Option<&mut KinesisConfig> {
        match self {
            Self::Kinesis(service) | Self::Firehose(service) => Some(service),
            Self::File(_) => None,
        }
    }
}

/// A service of Amazon in one region, as one account.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KinesisConfig {
    /// The AWS region. Never guessed: an endpoint's name need not contain it.
    pub region: String,
    /// URLs of the interface VPC endpoint, tried in order: the regional name, then zonal ones. Default: the service's public name in the region.
    #[serde(skip_serializing_if = "Endpoints::is_empty")]
    pub endpoint: Endpoints,
    /// The service's public FIPS name in the region, in place of `endpoint`.
    pub fips: bool,
    /// Connect to private addresses only (RFC 1918, unique-local, loopback), for readings and for credentials alike.
    pub private_only: bool,
    /// Ranges of addresses that count as private too, such as `"100.64.0.0/10"`.
    pub allow_addresses: Vec<AddressRange>,
    /// Addresses of host names that are not to be looked up. The name stays the one that TLS asks for.
    pub resolve: BTreeMap<String, Vec<Address>>,
    /// URL of an HTTP proxy, `http://` and no other, that everything goes through by CONNECT. It looks names up itself, so `private_only` can't be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// PEM file with the roots that the endpoint's certificate must come from. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Who we are to AWS.
    pub credentials: CredentialsConfig,
    /// What leaves for this destination, at most, over all its streams. Default: what link and stream take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<ByteRate>,
    /// Hours of the day, in UTC, in which nothing is sent.
    pub quiet_hours: Vec<QuietHours>,
    /// What leaves for this destination in a calendar month (UTC), at most. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_month: Option<ByteCount>,
}

impl Default for KinesisConfig {
    fn default() -> Self {
        Self {
            region: String::new(),
            endpoint: Endpoints::default(),
            fips: false,
            private_only: true, // a wrong zone or name server sends readings over the Internet, and nobody notices
            allow_addresses: Vec::new(),
            resolve: BTreeMap::new(),
            proxy: None,
            ca: None,
            credentials: CredentialsConfig::default(),
            max_rate: None,
            quiet_hours: Vec::new(),
            max_bytes_per_month: None,
        }
    }
}

/// How much waits on the gateway when the cloud is out of reach.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BufferConfig {
    /// The longest an unconfirmed reading stays in memory only; `"0s"` writes each at once.
    #[serde(with = "units::duration")]
    pub hold: Duration,
    /// Readings in memory, at most.
    pub memory: ByteCount,
    /// Bytes on disk, all files together; beyond it, `when_full` decides. At least `"8 MiB"`.
    pub max_size: ByteCount,
    /// Bytes of the file system that are left to everyone else: below it the buffer does not grow, and `when_full` decides.
    pub keep_free: ByteCount,
    /// What gives way when the buffer is full.
    pub when_full: WhenFull,
    /// Readings that have waited longer are dropped. Default: none are. At least `"1s"`, and no less than `hold`.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(1),
            memory: ByteCount::mib(4),
            max_size: ByteCount::gib(2),    // about a month at 0.8 KiB/s
            keep_free: ByteCount::mib(256), // a gateway whose disk is full can't even be updated
            when_full: WhenFull::DropOldest,
            max_age: None,
        }
    }
}

/// What gives way when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest readings, counted and visible as a gap in `seq`.
    #[default]
    DropOldest,
    /// The newest readings: what arrives is acknowledged, counted and not kept.
    DropNewest,
    /// Every second reading of a topic, oldest first; then all but every fourth, and so on: what stays has the shape of the whole time.
    Thin,
    /// Nothing: the sources wait, and the broker keeps what it can.
    Block,
}

/// The local page and its interfaces.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address of `/`, `/api/status`, `/metrics` and `/healthz`, or `"off"`. Only a loopback address: there is no log-in.
    #[serde(with = "listen")]
    pub listen: Option<SocketAddr>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 8470))) }
    }
}

mod listen {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(from)?;
        if text == "off" {
            return Ok(None);
        }
        let refused = || D::Error::custom(format!("{text:?} is neither an address such as \"127.0.0.1:8470\" nor \"off\""));
        text.parse().map(Some).map_err(|_| refused())
    }

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub fn serialize<S: Serializer>(listen: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        match listen {
            Some(address) => to.collect_str(address),
            None => to.serialize_str("off"),
        }
    }
}
