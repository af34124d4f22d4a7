//! Streams and destinations: who takes what, and where it goes.

use super::{
    LEAST_MEMORY, Problems, credentials, folder, kinesis, max_age,
    values::{MAX_FIREHOSE_NAME, MAX_STREAM_NAME, is_stream_name, is_topic_filter, unknown_placeholders},
};
use crate::{
    config::{
        Config, DestinationConfig, DrainOrder, Encoding, StreamConfig,
        mistake::{nearest, one_of},
    },
    units::format_duration,
};

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, stream) in &config.streams {
        problems.name(&["streams", name]);
        destination(name, stream, config, problems);
        for (n, from) in stream.from.iter().enumerate() {
            source(name, n, from, config, problems);
        }
        if stream.from.is_empty() && stream.enabled {
            let example = config.sources.keys().next().map_or("broker", String::as_str);
            problems.missing(
                &["streams", name, "from"],
                format!("is missing; write the sources it takes, for example from = [{example:?}]"),
            );
        }
        settings(name, stream, config, problems);
    }
    for (name, destination) in &config.destinations {
        problems.name(&["destinations", name]);
        match destination {
            DestinationConfig::Kinesis(service) => kinesis::check(name, "kinesis", service, problems),
            DestinationConfig::Firehose(service) => kinesis::check(name, "firehose", service, problems),
            DestinationConfig::File(file) => folder::check(name, file, config, problems),
        }
        if let Some(service) = destination.service() {
            credentials::check(name, &service.credentials, problems);
        }
    }
    unrouted(config, problems);
}

fn destination(name: &str, stream: &StreamConfig, config: &Config, problems: &mut Problems) {
    let at = ["streams", name, "destination"];
    let known = || names(config.destinations.keys(), &stream.destination, "[destinations]");
    if stream.destination.is_empty() {
        if stream.enabled {
            problems.missing(&at, format!("is missing; write {}", known()));
        }
    } else if !config.destinations.contains_key(&stream.destination) {
        let text = format!("is {:?}, and no destination is called so; write {}", stream.destination, known());
        problems.wrong(&at, text).rests_on(&["destinations", &stream.destination]);
    }
}

fn source(name: &str, n: usize, from: &str, config: &Config, problems: &mut Problems) {
    let at = ["streams", name, "from"];
    let (source, filter) = from.split_once(':').map_or((from, None), |(source, filter)| (source, Some(filter)));
    if !config.sources.contains_key(source) {
        let known = names(config.sources.keys(), source, "[sources]");
        let text = format!("has {source:?}, and no source is called so; write {known}");
        problems.wrong(&at, text).element(n).rests_on(&["sources", source]);
    }
    if let Some(filter) = filter.filter(|filter| !is_topic_filter(filter)) {
        let text = format!(
            "has {from:?}, and {filter:?} is no topic filter; write + for one whole level, # for all that follow, at the end"
        );
        problems.wrong(&at, text).element(n);
    }
}

/// The name that was probably meant, or all there are.
fn names<'a>(known: impl Iterator<Item = &'a String>, meant: &str, table: &str) -> String {
    let known: Vec<_> = known.map(String::as_str).collect();
    match nearest(meant, known.iter().copied()) {
        Some(near) => format!("{near:?}"),
        None if known.is_empty() => format!("one into {table} first"),
        None => one_of(&known, |name| format!("{name:?}")),
    }
}

fn settings(name: &str, stream: &StreamConfig, config: &Config, problems: &mut Problems) {
    let at = |key| ["streams", name, key];
    let destination = config.destinations.get(&stream.destination);
    let firehose = matches!(destination, Some(DestinationConfig::Firehose(_)));
    let file = matches!(destination, Some(DestinationConfig::File(_)));
    if stream.stream.is_empty() {
        if stream.enabled && !file {
            let service = if firehose { "Firehose" } else { "Kinesis" };
            let text = format!("is missing; write the {service} stream's name, for example stream = \"plant-readings\"");
            problems.missing(&at("stream"), text);
        }
    } else {
        let most = if firehose { MAX_FIREHOSE_NAME } else { MAX_STREAM_NAME };
        if !is_stream_name(&stream.stream, most) {
            let text = format!(
                "is {:?}; write the stream's name, not its ARN: 1 to {most} of A-Z, a-z, 0-9, '_', '-' and '.'",
                stream.stream
            );
            problems.wrong(&at("stream"), text);
        }
    }
    if firehose || file {
        joined(name, stream, problems);
    }
    problems.range(&at("lanes"), stream.lanes);
    problems.range(&at("priority"), stream.priority);
    max_age(&at("max_age"), stream.max_age, config.buffer.hold, problems);
    if let Some(template) = &stream.partition_key {
        let known = ["{topic}", "{source}", "{device.id}"];
        if template.is_empty() {
            problems.wrong(&at("partition_key"), "is empty; write for example \"{topic}\" or remove it");
        }
        for unknown in unknown_placeholders(template, &known) {
            let text = format!("has {unknown:?}, which is not filled in; write {} or none", known.join(" or "));
            problems.wrong(&at("partition_key"), text);
        }
    }
    if stream.drain_order == DrainOrder::LiveFirst && stream.encoding == Encoding::Raw {
        let text = "is \"live-first\", and raw readings have no `seq` by which a consumer could sort them; write \"oldest-first\", or \
                    \"cbor\" or \"json\" for the encoding";
        problems.warn(&at("drain_order"), text).rests_on(&["streams", name, "encoding"]);
    }
    let hold = config.buffer.hold;
    if stream.enabled && !hold.is_zero() && stream.linger >= hold {
        let text = format!(
            "is {:?}, and what waits longer than buffer.hold, {:?}, is written to the card even while the link is good; \
             write less, or raise buffer.hold",
            format_duration(stream.linger),
            format_duration(hold)
        );
        problems.warn(&at("linger"), text).rests_on(&["buffer", "hold"]);
    }
    if let Some(max_size) = stream.max_size {
        if max_size < LEAST_MEMORY {
            let text = format!(
                "is {:?}, and one reading may have 1,000 KiB; write at least {:?}",
                max_size.to_string(),
                LEAST_MEMORY.to_string()
            );
            problems.wrong(&at("max_size"), text);
        } else if max_size > config.buffer.max_size {
            let whole = config.buffer.max_size.to_string();
            let text = format!(
                "is {:?}, more than the whole buffer has; write at most {whole:?} or raise buffer.max_size",
                max_size.to_string()
            );
            problems.wrong(&at("max_size"), text).rests_on(&["buffer", "max_size"]);
        }
    }
}

/// What has no meaning where user records arrive one behind the other, without keys.
fn joined(name: &str, stream: &StreamConfig, problems: &mut Problems) {
    let at = |key| ["streams", name, key];
    let destination = ["destinations", &stream.destination];
    if stream.encoding == Encoding::Raw {
        let text = "is \"raw\", and nothing stands between two payloads there, so nobody can take them apart unless each ends in a mark \
                    of its own; write \"json\", one line a reading";
        problems.warn(&at("encoding"), text).rests_on(&destination);
    }
    if stream.partition_key.is_some() {
        problems.warn(&at("partition_key"), "has no meaning there, for records have no keys; remove it").rests_on(&destination);
    }
}

fn unrouted(config: &Config, problems: &mut Problems) {
    let streams = || config.streams.values().filter(|stream| stream.enabled);
    for (name, _) in config.sources.iter().filter(|(_, source)| source.enabled()) {
        let taken = streams().flat_map(|stream| &stream.from).any(|from| from.split(':').next() == Some(name));
        if !taken {
            let text = "is taken by no stream, so all its readings are rejected as unrouted; name it in a stream's from";
            problems.warn(&["sources", name], text).rests_on(&["streams"]);
        }
    }
}
