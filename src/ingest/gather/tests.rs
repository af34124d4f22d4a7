use bytes::Bytes;

use super::*;
use crate::{
    buffer::{Lane, LaneId, Layout},
    clock::{Boot, Setting, Trust, Unsure},
    config::{Config, PayloadFormat, StreamConfig},
    reading::{Timestamp, Topic, Uptime},
};

const LINGER: Duration = Duration::from_millis(250);

/// Streams by name, with what they take and how many lanes they have; one source, `broker`.
fn gathering(streams: &[(&str, &str, u16)]) -> Gathering {
    let mut config = Config::default();
    let mut settings = Vec::new();
    for (place, (name, from, lanes)) in (0..).zip(streams) {
        let stream = StreamConfig { from: vec![(*from).into()], lanes: *lanes, encoding: Encoding::Raw, ..StreamConfig::default() };
        let lane = |number| {
            let layout =
                Layout { stream: (*name).into(), number, of: *lanes, partition_key: "k".into(), hash_key: None, template: None };
            (Lane { id: LaneId(place * 100 + u32::from(number)), layout }, None)
        };
        let lanes: Vec<_> = (0..*lanes).map(lane).collect();
        settings.push(StreamSettings::new(name, &stream, RunId(1), &lanes));
        config.streams.insert((*name).into(), stream);
    }
    let routes = Arc::new(Routes::new(&config, |name| (name == "broker").then_some(SourceId(0))));
    let reader = PayloadReader { format: PayloadFormat::Bytes, timestamp: None };
    let source = SourceSettings { id: SourceId(0), name: "broker".into(), reader, window: Some(20) };
    Gathering::new("gw".into(), RunId(1), routes, Status::default(), vec![source], settings)
}

fn reading(topic: &str, payload: impl Into<Bytes>) -> Reading {
    Reading {
        topic: Topic::Owned(topic.into()),
        payload: payload.into(),
        arrived: Uptime(1000),
        fingerprint: Some(Fingerprint { packet: 1, hash: 2 }),
        dup: false,
    }
}

fn ledger(gathering: &Gathering, stream: &str) -> (u64, u64) {
    let state = gathering.status.lock();
    let ledger = &state.streams[stream].ledger;
    assert!(ledger.balances());
    (ledger.buffered, ledger.rejected.total())
}

#[test]
fn a_reading_goes_to_every_stream_that_takes_it_and_a_group_is_all_that_arrived() {
    let mut gathering = gathering(&[("all", "broker", 1), ("heat", "broker:+/temp", 1)]);
    let now = Instant::now();
    gathering.take(now, 0, &[reading("a/temp", "1"), reading("a/door", "2")]);
    gathering.take(now, 0, &[reading("b/temp", "3")]);

    let group = gathering.seal().unwrap();

    let readings: Vec<_> = group.chunks.iter().map(|chunk| (chunk.lane.0, chunk.readings, chunk.first_seq)).collect();
    assert_eq!(readings, [(0, 3, 0), (100, 2, 0)]);
    assert_eq!((group.marks[0].up_to, group.marks[0].fingerprints.len()), (3, 3));
    assert_eq!((ledger(&gathering, "all"), ledger(&gathering, "heat")), ((3, 0), (2, 0)));
    assert!(gathering.seal().is_none(), "nothing has arrived since");
}

#[test]
fn numbers_go_on_from_chunk_to_chunk() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    for first_seq in [0, 2, 4] {
        gathering.take(Instant::now(), 0, &[reading("a", "1"), reading("a", "2")]);
        assert_eq!(gathering.seal().unwrap().chunks[0].first_seq, first_seq);
    }
}

#[test]
fn a_topic_stays_in_its_lane_and_topics_spread_over_all_lanes() {
    let mut gathering = gathering(&[("all", "broker", 4)]);
    let batch: Vec<_> = (0..100).map(|n| reading(&format!("sensor/{n}"), "1")).collect();
    gathering.take(Instant::now(), 0, &batch);
    let once: Vec<_> = gathering.seal().unwrap().chunks.iter().map(|chunk| (chunk.lane, chunk.readings)).collect();
    gathering.take(Instant::now(), 0, &batch);
    let again: Vec<_> = gathering.seal().unwrap().chunks.iter().map(|chunk| (chunk.lane, chunk.readings)).collect();

    assert_eq!(once, again);
    assert!(once.len() == 4 && once.iter().all(|(_, readings)| *readings > 10), "{once:?}");
}

#[test]
fn the_lane_of_a_topic_is_the_same_in_every_version() {
    assert_eq!([lane_of("plant/1/temp", 8), lane_of("plant/2/temp", 8), lane_of("", 8)], LANES_OF_VERSION_1);
}

/// Orders in streams depend on these: changing them would need a migration.
const LANES_OF_VERSION_1: [usize; 3] = [3, 5, 4];

#[test]
fn what_no_stream_takes_and_what_is_too_large_is_counted_and_has_its_receipt() {
    let mut gathering = gathering(&[("heat", "broker:+/temp", 1)]);
    gathering.take(
        Instant::now(),
        0,
        &[reading("a/door", "1"), reading("a/temp", vec![0; MAX + 1]), reading("a/temp", vec![0; MAX])],
    );

    let group = gathering.seal().unwrap();

    assert_eq!((group.chunks[0].readings, group.marks[0].up_to), (1, 3));
    assert_eq!((ledger(&gathering, UNROUTED), ledger(&gathering, "heat")), ((0, 1), (1, 1)));
}

const MAX: usize = crate::config::check::MAX_READING.as_len();

#[test]
fn a_group_is_due_when_its_first_reading_has_lingered_and_full_at_its_size() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    let now = Instant::now();
    assert_eq!(gathering.due(None), None);
    gathering.take(now, 0, &[reading("a", "1")]);
    gathering.take(now + LINGER / 2, 0, &[reading("a", "1")]);
    assert_eq!(gathering.due(None), Some(now + LINGER));
    assert_eq!(gathering.due(Some(Duration::ZERO)), Some(now), "or sooner, when it has to be written");
    assert!(!gathering.is_full());
    gathering.take(now, 0, &[reading("a", vec![0; CHUNK_BYTES])]);
    assert!(gathering.is_full());
}

#[test]
fn a_source_that_makes_topics_up_does_not_fill_the_memory() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    let batch: Vec<_> = (0..3 * TOPICS_A_SOURCE).map(|n| reading(&n.to_string(), "1")).collect();
    for batch in batch.chunks(512) {
        assert_eq!(gathering.take(Instant::now(), 0, batch), batch.len());
        gathering.seal();
    }
    assert!(gathering.sources[0].topics.len() <= TOPICS_A_SOURCE);
}

#[test]
fn a_group_that_is_full_takes_no_more_until_it_is_sealed() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    let batch: Vec<_> = (0..10).map(|_| reading("a", vec![0; CHUNK_BYTES / 2])).collect();

    assert_eq!(gathering.take(Instant::now(), 0, &batch), 2);
    assert!(gathering.is_full());
    assert_eq!(gathering.seal().unwrap().marks[0].up_to, 2);
    assert_eq!(gathering.take(Instant::now(), 0, &batch[2..]), 2);
}

#[test]
fn a_source_without_a_filter_leads_everything_to_its_stream() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    gathering.take(Instant::now(), 0, &[reading("$SYS/uptime", "1")]);
    assert_eq!(ledger(&gathering, "all"), (1, 0));
}

#[test]
fn topics_that_a_source_makes_up_take_a_bounded_part_of_the_memory() {
    let mut gathering = gathering(&[("all", "broker", 1), ("heat", "broker:+/temp", 1)]);
    for n in 0..100 {
        gathering.take(Instant::now(), 0, &[reading(&format!("{}{n}", "t".repeat(65_530)), "1")]);
        gathering.seal();
    }
    let source = &gathering.sources[0];
    let names: usize = source.topics.keys().map(|topic| topic.len()).sum();
    let targets = source.topics.values().flat_map(|targets| targets.iter());
    assert_eq!(names + targets.map(Target::size).sum::<usize>(), source.topic_bytes);
    assert!(source.topic_bytes <= TOPIC_BYTES_A_SOURCE, "{}", source.topic_bytes);
    assert_eq!(ledger(&gathering, "all"), (100, 0));
}

#[test]
fn the_largest_reading_leaves_no_large_scratch_pad_behind() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    gathering.take(Instant::now(), 0, &[reading("a", vec![0; 900 << 10])]);
    assert!(gathering.scratch.capacity() <= SCRATCH);
}

#[test]
fn a_payload_that_can_only_grow_is_too_large_before_it_is_encoded() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    gathering.take(Instant::now(), 0, &[reading("a", vec![0; 4 << 20])]);
    assert_eq!(ledger(&gathering, "all"), (0, 1));
    assert_eq!(gathering.scratch.capacity(), 0);
}

#[test]
fn readings_that_arrived_under_different_clocks_are_never_in_one_chunk() {
    let mut gathering = gathering(&[("all", "broker", 1)]);
    let wrong = Belief { boot: Boot(1), set: Setting(0), trust: Trust::Wrong };
    let right = Belief { set: Setting(1_795_219_200_000_000), trust: Trust::Right, ..wrong };
    let slewed = Belief { set: Setting(1_795_219_200_500_000), ..right };
    gathering.set_clock(wrong);
    gathering.take(Instant::now(), 0, &[reading("a", "1")]);

    assert!(gathering.ends_with(right) && !gathering.ends_with(wrong));
    let early = gathering.seal().unwrap();
    gathering.set_clock(right);
    gathering.take(Instant::now(), 0, &[reading("a", "2")]);

    assert!(!gathering.ends_with(slewed), "a small step between right times is none of a chunk's business");
    let late = gathering.seal().unwrap();
    let times = [early, late].map(|group| (group.chunks[0].arrived, group.chunks[0].unsure));
    let unsure = Some(Unsure { boot: Boot(1), set: Setting(0) });
    assert_eq!(times, [(Timestamp(1), unsure), (Timestamp(1_795_219_200_001), None)]);
}
