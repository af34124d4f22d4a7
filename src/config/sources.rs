//! Settings of the sources: MQTT brokers and serial lines.
//!
//! Invariant: a default here is what most devices in the field come with, so that a short file is a right one.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units::{self, ByteCount};

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Silence after which each side asks whether the other is there; whole seconds, at most `"65535s"`.
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

impl PayloadFormat {
    /// As it stands in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::Text => "text",
            Self::Bytes => "bytes",
        }
    }
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
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FramingConfig {
    /// Text lines that end in LF or CR LF; empty ones are skipped.
    Lines {
        /// A longer line is noise: it is counted and skipped up to the next line end.
        max_length: ByteCount,
    },
    /// Frames that end in a given byte.
    Delimiter {
        /// The byte that ends a frame, 0 to 255.
        byte: u8,
        /// As for lines.
        max_length: ByteCount,
    },
}

pub(super) fn default_max_frame() -> ByteCount {
    ByteCount::kib(4)
}

impl Default for FramingConfig {
    fn default() -> Self {
        Self::Lines { max_length: default_max_frame() }
    }
}
