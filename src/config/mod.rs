//! Every setting with its meaning, its unit, its default and the reason for it.
//!
//! A table is keyed by a name, so that the layers of a fleet merge key by key. Unknown keys are errors: a setting that is silently
//! ignored is a gateway that silently does something else.

pub mod check;
pub mod layers;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units::{self, ByteCount};

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
    /// The gateway's name in every reading. Default: the host name; the names that every new board has are refused.
    pub id: String,
    /// The buffer lives here. Put it on a disk that keeps what it synced when power is cut.
    pub state_dir: PathBuf,
    /// A Unix socket, mode 0660, for `headwater status`.
    pub socket: PathBuf,
    /// Labels of this gateway, added to its metrics.
    pub tags: BTreeMap<String, String>,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            id: gethostname::gethostname().to_string_lossy().into_owned(),
            state_dir: "/var/lib/headwater".into(),
            socket: "/run/headwater/headwater.sock".into(),
            tags: BTreeMap::new(),
        }
    }
}

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SourceConfig {
    /// An MQTT broker.
    Mqtt(MqttConfig),
    /// A serial line.
    Serial(SerialConfig),
}

impl SourceConfig {
    /// Whether the source is to be started.
    pub fn enabled(&self) -> bool {
        match self {
            Self::Mqtt(mqtt) => mqtt.enabled,
            Self::Serial(serial) => serial.enabled,
        }
    }

    /// How its payloads are read.
    pub fn payload(&self) -> (PayloadFormat, Option<&str>) {
        match self {
            Self::Mqtt(mqtt) => (mqtt.payload, mqtt.timestamp.as_deref()),
            Self::Serial(serial) => (serial.payload, serial.timestamp.as_deref()),
        }
    }
}

/// A subscription to an MQTT broker, with a session that outlives connections.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `false` leaves the source configured, but not started.
    pub enabled: bool,
    /// `mqtt://HOST:1883`, or `mqtts://HOST:8883` for TLS.
    pub url: String,
    /// Names the broker's session for us, so it must stay the same. `{device.id}` and `{source}` are filled in.
    pub client_id: String,
    /// Topic filters; `+` and `#` as in MQTT.
    pub topics: Vec<String>,
    /// 0, 1 or 2. With 0 nobody sends a reading again.
    pub qos: u8,
    /// Unacknowledged messages that the broker allows in flight to us (mosquitto: `max_inflight_messages`, 20). Raise both for speed:
    /// a write is asked for when half of it is unacknowledged.
    pub window: u16,
    /// MQTT version; only `"3.1.1"`.
    pub version: MqttVersion,
    /// Seconds-scale silence after which each side asks whether the other is there.
    #[serde(with = "units::duration")]
    pub keep_alive: Duration,
    /// PEM file with the roots that the broker's certificate must come from. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file with our certificate, when the broker asks for one; needs `client_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// PEM file with its private key, readable by us only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// User name for the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File that holds the password alone, readable by us only. A password in the configuration would end up in backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// How to read the payload.
    pub payload: PayloadFormat,
    /// JSON pointer to the reading's own time in ms, for `payload = "json"`; a payload without it has its arrival as its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            url: "mqtt://127.0.0.1:1883".into(),
            client_id: "headwater-{device.id}-{source}".into(),
            topics: Vec::new(),
            qos: 1,
            window: 20, // mosquitto's own default: a larger one here would wait for messages that never come
            version: MqttVersion::V3_1_1,
            keep_alive: Duration::from_secs(30),
            ca: None,
            client_cert: None,
            client_key: None,
            username: None,
            password_file: None,
            payload: PayloadFormat::Json,
            timestamp: None,
        }
    }
}

/// The MQTT protocol version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum MqttVersion {
    /// MQTT 3.1.1, the version that every broker in the field speaks.
    #[default]
    #[serde(rename = "3.1.1")]
    V3_1_1,
}

/// How the bytes of a payload are to be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadFormat {
    /// One JSON value.
    #[default]
    Json,
    /// One CBOR item.
    Cbor,
    /// UTF-8 text.
    Text,
    /// Bytes as they are.
    Bytes,
}

/// A device on a serial line that sends on its own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SerialConfig {
    /// `false` leaves the source configured, but not started.
    pub enabled: bool,
    /// The device file. A name under `/dev/serial/by-id` stays the same when the adapter is plugged in again.
    pub port: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// `none`, `odd` or `even`.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// `none`, `software` (XON/XOFF) or `hardware` (RTS/CTS).
    pub flow_control: FlowControl,
    /// Where one reading ends and the next begins.
    pub framing: FramingConfig,
    /// How to read the payload.
    pub payload: PayloadFormat,
    /// JSON pointer to the reading's own time in ms, for `payload = "json"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// What this source's readings are called.
    pub topic: String,
}

impl Default for SerialConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            port: PathBuf::new(),
            baud: 9600, // what most scales, meters and receivers leave the factory with
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            flow_control: FlowControl::None,
            framing: FramingConfig::default(),
            payload: PayloadFormat::Text,
            timestamp: None,
            topic: String::new(),
        }
    }
}

/// The parity bit of a serial character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// An odd number of ones.
    Odd,
    /// An even number of ones.
    Even,
}

/// Who may stop whom on a serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowControl {
    /// Nobody.
    #[default]
    None,
    /// XON/XOFF characters.
    Software,
    /// The RTS and CTS lines.
    Hardware,
}

/// Where one reading ends and the next begins.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FramingConfig {
    /// Text lines that end in LF or CR LF; empty ones are skipped.
    Lines {
        /// A longer line is noise: it is counted and skipped up to the next line end.
        #[serde(default = "default_max_frame")]
        max_length: ByteCount,
    },
    /// Frames that end in a given byte.
    Delimiter {
        /// The byte that ends a frame, 0 to 255.
        byte: u8,
        /// As for lines.
        #[serde(default = "default_max_frame")]
        max_length: ByteCount,
    },
}

fn default_max_frame() -> ByteCount {
    ByteCount::kib(4)
}

impl Default for FramingConfig {
    fn default() -> Self {
        Self::Lines { max_length: default_max_frame() }
    }
}

/// Which readings go into one Kinesis stream, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// `false` leaves the stream configured, but nothing is routed to it; what it has buffered stays.
    pub enabled: bool,
    /// A name under `[destinations]`.
    pub destination: String,
    /// The Kinesis stream's name.
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
    /// As in `[buffer]`, for this stream alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// Bytes of this stream's readings that may wait here; beyond it, `when_full` decides. Default: no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<ByteCount>,
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
            when_full: None,
            max_size: None,
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

/// Where streams lead to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// Amazon Kinesis Data Streams.
    Kinesis(KinesisConfig),
}

/// Amazon Kinesis Data Streams in one region, as one account.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KinesisConfig {
    /// The AWS region. Never guessed: an endpoint's name need not contain it.
    pub region: String,
    /// URL of the interface VPC endpoint. Default: the region's public name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// PEM file with the roots that the endpoint's certificate must come from. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Who we are to AWS.
    pub credentials: CredentialsConfig,
}

/// Who we are to AWS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CredentialsConfig {
    /// Environment, profile, process, container: the chain that every AWS tool walks.
    #[default]
    Default,
    /// One key that never changes, for emulators and tests. Its secret half is not a setting: it would end up in backups.
    Static {
        /// The public half.
        access_key_id: String,
        /// File that holds the secret half alone, readable by us only.
        secret_access_key_file: PathBuf,
    },
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
    /// What gives way when the buffer is full.
    pub when_full: WhenFull,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(1),
            memory: ByteCount::mib(4),
            max_size: ByteCount::gib(2), // about a month at 0.8 KiB/s
            when_full: WhenFull::DropOldest,
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
