//! Sources: what each one needs, and what two of them cannot share.

use std::collections::HashMap;

use super::{
    MAX_READING, Problems,
    values::{Url, is_topic, is_topic_filter, read_url, unknown_placeholders},
};
use crate::{
    config::{Config, FramingConfig, MqttConfig, PayloadFormat, SerialConfig, SourceConfig},
    units::format_duration,
};

pub(super) fn check(config: &Config, problems: &mut Problems) {
    let mut sessions = HashMap::new();
    let mut ports = HashMap::new();
    for (name, source) in &config.sources {
        problems.name(&["sources", name]);
        match source {
            SourceConfig::Mqtt(mqtt) => {
                let url = broker(name, mqtt, problems);
                session(name, mqtt, problems);
                if mqtt.enabled
                    && let Some(url) = url
                {
                    let port = url.port.unwrap_or(if url.scheme == "mqtts" { 8883 } else { 1883 });
                    let client_id = mqtt.client_id.replace("{source}", name);
                    if let Some(other) = sessions.insert((url.host, port, client_id), name) {
                        let text = format!(
                            "is also that of sources.{other} at the same broker, and each would throw the other out; write {{source}} into it"
                        );
                        let (url, other_url) = (&["sources", name, "url"], &["sources", other, "url"]);
                        let problem = problems.wrong(&["sources", name, "client_id"], text);
                        problem.rests_on(url).rests_on(other_url).rests_on(&["sources", other, "client_id"]);
                    }
                }
            }
            SourceConfig::Serial(serial) => {
                line(name, serial, problems);
                if serial.enabled
                    && !serial.port.as_os_str().is_empty()
                    && let Some(other) = ports.insert(&serial.port, name)
                {
                    let text = format!("is also that of sources.{other}, and a line has one reader; write another port");
                    problems.wrong(&["sources", name, "port"], text);
                }
            }
        }
        timestamp(name, source, problems);
    }
}

fn broker(name: &str, mqtt: &MqttConfig, problems: &mut Problems) -> Option<Url> {
    let at = |key| ["sources", name, key];
    let url = match read_url(&mqtt.url, &["mqtt", "mqtts"], "mqtt://127.0.0.1:1883") {
        Ok(url) => url,
        Err(what) => {
            problems.wrong(&at("url"), what);
            return None;
        }
    };
    let tls = [("ca", &mqtt.ca), ("client_cert", &mqtt.client_cert), ("client_key", &mqtt.client_key)];
    if url.scheme == "mqtt" {
        for (key, _) in tls.iter().filter(|(_, file)| file.is_some()) {
            let text = "is set, but the url is not for TLS; write mqtts:// in the url or remove it";
            problems.wrong(&at(key), text).rests_on(&at("url"));
        }
    }
    let user = mqtt.username.is_some();
    let password = mqtt.password_file.is_some();
    let (cert, key) = (mqtt.client_cert.is_some(), mqtt.client_key.is_some());
    for (present, absent, set, other) in [
        ("client_cert", "client_key", cert, key),
        ("client_key", "client_cert", key, cert),
        ("username", "password_file", user, password),
        ("password_file", "username", password, user),
    ] {
        if set && !other {
            problems.wrong(&at(present), format!("is set without {absent}; write {absent} too")).rests_on(&at(absent));
        }
    }
    Some(url)
}

fn session(name: &str, mqtt: &MqttConfig, problems: &mut Problems) {
    let at = |key| ["sources", name, key];
    problems.range(&at("qos"), mqtt.qos);
    problems.range(&at("window"), mqtt.window);
    if mqtt.topics.is_empty() && mqtt.enabled {
        problems.missing(&at("topics"), "is missing; write for example topics = [\"plant/#\"]");
    }
    for (n, filter) in mqtt.topics.iter().enumerate().filter(|(_, filter)| !is_topic_filter(filter)) {
        let text =
            format!("has {filter:?}, which is no topic filter; write + for one whole level, # for all that follow, at the end");
        problems.wrong(&at("topics"), text).element(n);
    }
    let known = ["{device.id}", "{source}"];
    if mqtt.client_id.is_empty() {
        problems.wrong(
            &at("client_id"),
            "is empty, and the broker could not keep a session for us; write \"headwater-{device.id}-{source}\"",
        );
    }
    for unknown in unknown_placeholders(&mqtt.client_id, &known) {
        problems.wrong(&at("client_id"), format!("has {unknown:?}, which is not filled in; write {} or none", known.join(" or ")));
    }
    // The protocol carries it as whole seconds in 16 bits, and 0 switches it off. Source: MQTT 3.1.1, section 3.1.2.10.
    let seconds = mqtt.keep_alive.as_secs();
    if mqtt.keep_alive.subsec_nanos() != 0 || !(1..=u64::from(u16::MAX)).contains(&seconds) {
        let text = format!("is {:?}; write whole seconds from \"1s\" to \"65535s\"", format_duration(mqtt.keep_alive));
        problems.wrong(&at("keep_alive"), text);
    }
}

fn line(name: &str, serial: &SerialConfig, problems: &mut Problems) {
    let at = |key| ["sources", name, key];
    if serial.port.as_os_str().is_empty() && serial.enabled {
        problems.missing(&at("port"), "is missing; write the device file, best one under /dev/serial/by-id");
    }
    problems.range(&at("baud"), serial.baud);
    problems.range(&at("data_bits"), serial.data_bits);
    problems.range(&at("stop_bits"), serial.stop_bits);
    if serial.topic.is_empty() && serial.enabled {
        problems.missing(&at("topic"), "is missing; write what its readings are called, for example topic = \"plant/scale\"");
    } else if !serial.topic.is_empty() && !is_topic(&serial.topic) {
        problems.wrong(
            &at("topic"),
            format!("is {:?}, and a topic has no + and no #; write for example \"plant/scale\"", serial.topic),
        );
    }
    let (FramingConfig::Lines { max_length } | FramingConfig::Delimiter { max_length, .. }) = &serial.framing;
    if max_length.0 == 0 || *max_length > MAX_READING {
        let text = format!("is {:?}; write \"1 B\" to {:?}", max_length.to_string(), MAX_READING.to_string());
        problems.wrong(&["sources", name, "framing", "max_length"], text);
    }
}

fn timestamp(name: &str, source: &SourceConfig, problems: &mut Problems) {
    let (payload, Some(pointer)) = source.payload() else { return };
    let at = ["sources", name, "timestamp"];
    // A `~` stands for itself only as `~0`. Source: RFC 6901, section 3.
    let escaped = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !pointer.starts_with('/') || !escaped {
        let meant = pointer.trim_start_matches(['$', '.']).replace('.', "/");
        let text = format!("is {pointer:?}, which is no JSON pointer; write for example {:?}", format!("/{meant}"));
        problems.wrong(&at, text);
    }
    if payload != PayloadFormat::Json {
        let text = "is a JSON pointer, and the payload is not JSON; write payload = \"json\" or remove it";
        problems.wrong(&at, text).rests_on(&["sources", name, "payload"]);
    }
}
