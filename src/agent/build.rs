//! The stages as the configuration wants them.

use std::{collections::BTreeMap, sync::Arc};

use md5::{Digest, Md5};
use tokio::sync::watch;

use super::{AgentError, StageError};
use crate::{
    backoff,
    buffer::{Buffer, BufferSettings, Lane, Layout, Opened, StreamRules, World},
    clock::{Belief, Clock},
    config::{Config, DestinationConfig, SourceConfig, StreamConfig},
    drain::{self, DestinationSettings, Drain, DrainSettings, Meter, Outlet},
    durable,
    file::{self, Folder},
    ingest::{self, Ingest, IngestSettings, Intake, SourceSettings, StreamSettings, route::Routes},
    kinesis::{Client, Firehose},
    reading::SourceId,
    record::{PayloadReader, Previous, RunId},
    status::Status,
};

/// What of the configuration is switched on, in the order in which stages know it.
pub(super) struct Plan {
    pub(super) sources: Vec<(String, SourceConfig)>,
    pub(super) streams: Vec<(String, StreamConfig)>,
    pub(super) layouts: Vec<Layout>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Self {
        let streams: Vec<_> = config
            .streams
            .iter()
            .filter(|(_, stream)| stream.enabled)
            .map(|(name, stream)| (name.clone(), stream.clone()))
            .collect();
        let layouts = streams.iter().flat_map(|(name, stream)| layouts_of(&config.device.id, name, stream)).collect();
        let sources =
            config.sources.iter().filter(|(_, source)| source.enabled()).map(|(name, source)| (name.clone(), source.clone()));
        Self { sources: sources.collect(), streams, layouts }
    }

    fn source_ids(&self) -> impl Iterator<Item = (SourceId, &str, &SourceConfig)> {
        (0..).map(SourceId).zip(&self.sources).map(|(id, (name, source))| (id, name.as_str(), source))
    }

    fn source(&self, name: &str) -> Option<SourceId> {
        self.source_ids().find(|(_, known, _)| *known == name).map(|(id, ..)| id)
    }
}

/// The lanes of a stream: lane i of n takes hash keys from MD5(`DEVICE/STREAM`) + i · 2^128 / n on, so that the lanes of one gateway
/// spread evenly over the shards, and those of many gateways too.
pub(crate) fn layouts_of(device: &str, name: &str, stream: &StreamConfig) -> Vec<Layout> {
    let first = u128::from_be_bytes(Md5::digest(format!("{device}/{name}")).into());
    let layout = |number: u16| {
        let hash_key = first.wrapping_add(share_of_hash_keys(number, stream.lanes));
        Layout {
            stream: name.into(),
            number,
            of: stream.lanes,
            partition_key: format!("{device}/{name}/{number}"),
            hash_key: (stream.lanes > 1 || stream.partition_key.is_some()).then_some(hash_key),
            template: stream.partition_key.clone(),
        }
    };
    (0..stream.lanes).map(layout).collect()
}

/// `number` · 2^128 / `of`, rounded down.
fn share_of_hash_keys(number: u16, of: u16) -> u128 {
    let (number, of) = (u128::from(number), u128::from(of.max(1)));
    // 2^128 itself does not fit: it is quotient · n + rest, with a rest of 1 to n.
    let (quotient, rest) = (u128::MAX / of, u128::MAX % of + 1);
    number * quotient + number * rest / of
}

pub(super) async fn open_buffer(config: &Config, plan: &Plan, status: &Status) -> Result<Opened, AgentError> {
    let state_dir = config.device.state_dir.clone();
    durable::make_folder(&state_dir, durable::sync_folder)
        .map_err(|source| AgentError::StateDir { path: state_dir.clone(), source })?;
    let window = |(id, name, source): (SourceId, &str, &SourceConfig)| match source {
        SourceConfig::Mqtt(mqtt) if mqtt.qos > 0 => Some((name.to_owned(), (id, mqtt.window))),
        SourceConfig::Mqtt(_) | SourceConfig::Serial(_) => None,
    };
    let stream = |(name, stream): (&String, &StreamConfig)| {
        let rules = StreamRules {
            when_full: stream.when_full.unwrap_or(config.buffer.when_full),
            max_size: stream.max_size.map(|size| size.0),
            max_age: stream.max_age.or(config.buffer.max_age),
            priority: stream.priority,
            encoding: stream.encoding,
            drain_order: stream.drain_order,
        };
        (name.clone(), rules)
    };
    let settings = BufferSettings {
        path: state_dir.join("buffer.db"),
        hold: config.buffer.hold,
        memory: config.buffer.memory.0,
        max_size: config.buffer.max_size.0,
        keep_free: config.buffer.keep_free.0,
        device: config.device.id.clone(),
        // One that is switched off takes nothing more; what it has still goes out.
        streams: config.streams.iter().map(stream).collect(),
        windows: plan.source_ids().filter_map(window).collect(),
        world: World::default(),
    };
    let (layouts, status) = (plan.layouts.clone(), status.clone());
    let opened = tokio::task::spawn_blocking(move || Buffer::open(&settings, &layouts, status)).await;
    Ok(opened.map_err(|panic| AgentError::Stage { stage: "buffer".into(), source: Some(StageError::Panic(panic)) })??)
}

/// An outlet for each destination that is configured.
pub(crate) async fn open_destinations(config: &Config) -> Result<BTreeMap<String, Outlet>, AgentError> {
    let mut outlets = BTreeMap::new();
    for (name, destination) in &config.destinations {
        let outlet = match destination {
            DestinationConfig::Kinesis(config) => Client::open(config).await.map(Outlet::Kinesis),
            DestinationConfig::Firehose(config) => Firehose::open(config).await.map(Outlet::Firehose),
            DestinationConfig::File(file) => Ok(Outlet::Folder(Folder::new(file, &config.device.id))),
        };
        outlets.insert(name.clone(), outlet.map_err(|source| AgentError::Destination { name: name.clone(), source })?);
    }
    Ok(outlets)
}

pub(super) fn ingest_stage(
    config: &Config,
    plan: &Plan,
    run: RunId,
    clock: &Clock,
    lanes: &[(Lane, Option<Previous>)],
    buffer: &Buffer,
    status: &Status,
) -> (Vec<Intake>, Ingest) {
    let source = |(id, name, source): (SourceId, &str, &SourceConfig)| {
        let (format, timestamp) = source.payload();
        SourceSettings {
            id,
            name: name.into(),
            reader: PayloadReader { format, timestamp: timestamp.map(Into::into) },
            window: match source {
                SourceConfig::Mqtt(mqtt) => (mqtt.qos > 0).then_some(mqtt.window),
                SourceConfig::Serial(_) => None,
            },
        }
    };
    let stream = |(name, stream): &(String, StreamConfig)| StreamSettings::new(name, stream, run, &lanes_of(lanes, name));
    let settings = IngestSettings {
        device: config.device.id.clone(),
        run,
        hold: config.buffer.hold,
        clock: clock.clone(),
        sources: plan.source_ids().map(source).collect(),
        streams: plan.streams.iter().map(stream).collect(),
        routes: Arc::new(Routes::new(config, |name| plan.source(name))),
    };
    ingest::stage(settings, buffer.clone(), status)
}

fn lanes_of(lanes: &[(Lane, Option<Previous>)], stream: &str) -> Vec<(Lane, Option<Previous>)> {
    lanes.iter().filter(|(lane, _)| lane.layout.stream == stream).cloned().collect()
}

/// The destinations with what their links are given.
pub(super) fn metered(config: &Config, outlets: BTreeMap<String, Outlet>) -> Vec<DestinationSettings> {
    let destination = |(name, outlet): (String, Outlet)| {
        let service = config.destinations.get(&name).and_then(DestinationConfig::service);
        let file = config.device.state_dir.join(format!("uploads-{name}.json"));
        let meter = service.map_or_else(Meter::default, |service| Meter::open(service, Some(file)));
        DestinationSettings { name, outlet, meter }
    };
    outlets.into_iter().map(destination).collect()
}

/// The drain of today's `lanes` and of `older` ones.
pub(crate) fn drain_stage(
    config: &Config,
    destinations: Vec<DestinationSettings>,
    clock: watch::Receiver<Belief>,
    lanes: &[(Lane, Option<Previous>)],
    older: &[Lane],
    buffer: &Buffer,
    status: &Status,
) -> Drain {
    let stream = |(name, stream): (&String, &StreamConfig)| {
        Some(drain::StreamSettings {
            name: name.clone(),
            target: target_of(config, name, stream),
            destination: destinations.iter().position(|known| known.name == stream.destination)?,
            linger: stream.linger,
            aggregation: stream.aggregation,
            lanes: lanes_of(lanes, name).into_iter().map(|(lane, _)| lane).collect(),
            older: older.iter().filter(|lane| lane.layout.stream == *name).cloned().collect(),
            order: stream.drain_order,
            priority: stream.priority,
        })
    };
    let streams = config.streams.iter().filter_map(stream).collect();
    let settings = DrainSettings { destinations, streams, clock, random: backoff::random };
    Drain::new(settings, buffer.clone(), status.clone())
}

/// What a stream is called where it leads to.
fn target_of(config: &Config, name: &str, stream: &StreamConfig) -> String {
    match config.destinations.get(&stream.destination) {
        Some(DestinationConfig::File(_)) => {
            file::target(if stream.stream.is_empty() { name } else { &stream.stream }, stream.encoding)
        }
        _ => stream.stream.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_spread_evenly_over_the_hash_keys_and_one_lane_needs_none() {
        let lanes = |lanes| StreamConfig { lanes, ..StreamConfig::default() };
        let four = layouts_of("gw", "s", &lanes(4));
        let keys: Vec<u128> = four.iter().filter_map(|layout| layout.hash_key).collect();
        assert_eq!(keys[0], u128::from_be_bytes(Md5::digest("gw/s").into()));
        let quarter = 1_u128 << 126;
        assert_eq!(keys.iter().map(|key| key.wrapping_sub(keys[0])).collect::<Vec<_>>(), [0, quarter, 2 * quarter, 3 * quarter]);
        let third = 0x5555_5555_5555_5555_5555_5555_5555_5555;
        assert_eq!([0, 1, 2].map(|number| share_of_hash_keys(number, 3)), [0, third, 2 * third]);
        assert_eq!(layouts_of("gw", "s", &lanes(1))[0].hash_key, None);
        let keyed = StreamConfig { partition_key: Some("{topic}".into()), ..lanes(1) };
        assert_eq!(layouts_of("gw", "s", &keyed)[0].hash_key, Some(keys[0]));
    }
}
