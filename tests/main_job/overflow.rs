//! What gives way by each rule, and what the application behind the stream learns of it.

use crate::{
    records::decoded,
    support::{
        cloud::STREAM,
        consumer::{Consumer, ONCE, Reading},
        gateway::{Gateway, Plan},
        process::Picture,
    },
};

/// Of 20,000 bytes each: twice what fits.
const FLOOD: u64 = 800;

#[tokio::test]
async fn with_drop_oldest_a_notice_stands_where_the_oldest_were() {
    let mut gateway = flooded(small_buffer(), FLOOD).await;
    gateway.cloud.back();

    gateway.what_is_left_is_in(STREAM).await;

    let dropped = gateway.agent.status().await.count("/ledger/dropped/drop_oldest");
    assert!((200..600).contains(&dropped), "{dropped}");
    let notices = gateway.cloud.notices(STREAM);
    // Another one only where readings that were on their way lie between.
    let (before, first) = &notices[0];
    assert_eq!((*before, first.from), (None, 0));
    assert!(notices.windows(2).all(|pair| pair[1].0.is_some_and(|between| between > pair[0].1.to)), "{notices:?}");
    assert!(
        notices.iter().all(|(_, notice)| notice.n == notice.to - notice.from + 1 && notice.why == "drop_oldest"),
        "{notices:?}"
    );
    all_is_explained(&mut gateway, STREAM, dropped);
}

#[tokio::test]
async fn with_drop_newest_a_notice_stands_behind_what_was_kept() {
    let mut gateway = flooded(small_buffer().set("buffer.when_full", "drop-newest"), FLOOD).await;
    gateway.cloud.back();
    gateway.agent.shows("nothing waits", |status| status.count("/backlog/bytes") == 0).await;
    gateway.field.publishes(8).await;

    gateway.what_is_left_is_in(STREAM).await;

    let dropped = gateway.agent.status().await.count("/ledger/dropped/drop_newest");
    assert!((200..600).contains(&dropped), "{dropped}");
    let notices = gateway.cloud.notices(STREAM);
    // What came last was kept again where the uplink was back before it had to be written, and so may be what came between.
    for (last, notice) in &notices {
        assert_eq!(Some(notice.from), last.map(|last| last + 1), "{notices:?}");
        assert_eq!((notice.n, notice.why.as_str()), (notice.to - notice.from + 1, "drop_newest"), "{notices:?}");
    }
    assert_eq!(notices.iter().map(|(_, notice)| notice.n).sum::<u64>(), dropped, "{notices:?}");
    all_is_explained(&mut gateway, STREAM, dropped);
}

#[tokio::test]
async fn with_thin_what_stays_has_the_shape_of_the_whole_time() {
    let mut gateway = flooded(small_buffer().set("buffer.when_full", "thin"), 2 * FLOOD).await;
    gateway.cloud.back();

    gateway.what_is_left_is_in(STREAM).await;

    let dropped = gateway.agent.status().await.count("/ledger/dropped/thin");
    assert!(dropped > FLOOD, "{dropped}");
    let kept = gateway.cloud.readings(STREAM);
    let eighth = |n: u64| kept.iter().filter(|reading| reading.seq / (FLOOD / 4) == n).count();
    let shape: Vec<usize> = (0..8).map(eighth).collect();
    assert!(shape.iter().all(|n| *n >= 8), "{shape:?}");
    // In the older half each sensor's readings are as far from each other as the next one's, but for one step between two levels.
    for sensor in 0..8 {
        let of_it = kept.iter().filter(|reading| reading.topic == format!("plant/{sensor}/temp") && reading.seq < FLOOD);
        let numbers: Vec<u64> = of_it.map(Reading::number).collect();
        let steps: Vec<u64> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
        assert!(*least >= 2 && most <= &(4 * least), "sensor {sensor}: {steps:?}");
    }
    assert!(gateway.cloud.notices(STREAM).iter().all(|(_, notice)| notice.why == "thin"));
    all_is_explained(&mut gateway, STREAM, dropped);
}

#[tokio::test]
async fn readings_that_waited_longer_than_max_age_are_dropped_and_one_notice_says_so() {
    let mut gateway = small_buffer().set("streams.readings.max_age", "3s").set("buffer.hold", "0s").starts().await;
    gateway.cloud.away();
    gateway.field.publishes(100).await;
    let gone = |status: &Picture| status.count("/ledger/dropped/max_age") == 100;
    gateway.agent.shows("they are too old", gone).await.balances();

    gateway.cloud.back();
    gateway.agent.shows("the notice is in", |status| status.count("/backlog/bytes") == 0).await;
    gateway.field.publishes(8).await;

    gateway.what_is_left_is_in(STREAM).await;
    let notices = gateway.cloud.notices(STREAM);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].1.why, "max_age");
    all_is_explained(&mut gateway, STREAM, 100);
}

#[tokio::test]
async fn with_less_than_keep_free_the_buffer_does_not_grow_and_the_status_says_what_keeps_it() {
    for rule in ["drop-newest", "drop-oldest"] {
        // What comes when the uplink is back must not have to be written, however slow it is.
        let plan = small_buffer().set("buffer.keep_free", "1000000 GiB").set("buffer.max_size", "1 GiB").set("buffer.hold", "20s");
        let mut gateway = flooded(plan.set("buffer.when_full", rule), 200).await;
        let dropped = |status: &Picture| status.count(&format!("/ledger/dropped/{}", rule.replace('-', "_")));
        let status = gateway.agent.shows("they go, although none of ours is on the disk", |status| dropped(status) > 100).await;
        let file = std::fs::metadata(gateway.agent.dir().join("state/buffer.db")).unwrap().len();
        assert!(file < 64 << 10, "{rule}: {file}");
        assert!(status.problems().iter().any(|problem| problem.contains("keep_free")), "{rule}: {status:?}");
        gateway.cloud.back();
        gateway.agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await;
        gateway.field.publishes(8).await;

        gateway.what_is_left_is_in(STREAM).await;
        let dropped = dropped(&gateway.agent.status().await);
        all_is_explained(&mut gateway, STREAM, dropped);
    }
}

#[tokio::test]
async fn a_stream_of_a_higher_priority_gives_way_last() {
    let plan = small_buffer().stream("alarms", "plant-alarms").set("streams.alarms.priority", 1);
    let plan = plan.set("streams.alarms.from", vec!["broker:plant/0/#"]);
    let mut gateway = plan.starts().await;
    gateway.cloud.create_stream("plant-alarms", 1);
    gateway.cloud.away();
    gateway.field.pads(20_000);

    gateway.field.publishes(FLOOD).await;
    let taken = |status: &Picture| status.count("/streams/readings/ledger/received") == FLOOD;
    gateway.agent.shows("all were taken", taken).await.balances();
    gateway.cloud.back();

    gateway.what_is_left_is_in(STREAM).await;
    let status = gateway.agent.status().await;
    assert_eq!(status.count("/streams/alarms/ledger/delivered"), FLOOD / 8);
    assert!(status.count("/streams/readings/ledger/dropped/drop_oldest") > 200, "{status:?}");
    assert_eq!(gateway.cloud.consumer("plant-alarms").missing(), 0);
}

#[tokio::test]
async fn by_each_rule_the_flood_of_one_stream_does_not_push_out_another() {
    for rule in ["drop-oldest", "drop-newest", "thin"] {
        let plan = Gateway::new().window(200).set("buffer.max_size", "16 MiB").set("buffer.memory", "1 MiB");
        let plan = plan.stream("loud", "plant-loud").set("streams.loud.max_size", "2 MiB").set("streams.loud.when_full", rule);
        let plan = plan.set("streams.loud.from", vec!["broker:plant/loud"]);
        let mut gateway = plan.set("streams.readings.from", vec!["broker:plant/+/temp"]).starts().await;
        gateway.cloud.create_stream("plant-loud", 1);
        gateway.cloud.away();

        gateway.field.publishes(100).await;
        for n in 0..FLOOD {
            gateway.field.publishes_message("plant/loud", format!("[{},\"{}\"]", n + 1, "x".repeat(20_000))).await;
        }
        let taken = |status: &Picture| status.count("/streams/loud/ledger/received") == FLOOD;
        gateway.agent.shows("all were taken", taken).await.balances();
        gateway.cloud.back();

        assert_eq!(gateway.everything_arrives().await, ONCE, "{rule}");
        let status = gateway.agent.status().await;
        let dropped = status.count(&format!("/streams/loud/ledger/dropped/{}", rule.replace('-', "_")));
        assert!((FLOOD / 2..FLOOD).contains(&dropped), "{rule}: {dropped}");
        gateway.agent.shows("the notice went too", |status| status.count("/backlog/bytes") == 0).await;
        all_is_explained(&mut gateway, "plant-loud", dropped);
    }
}

#[tokio::test]
async fn the_notice_survives_a_power_cut_and_is_sent_again_when_its_record_is_refused() {
    for rule in ["drop-oldest", "drop-newest", "thin"] {
        let mut gateway = flooded(small_buffer().set("buffer.hold", "0s").set("buffer.when_full", rule), FLOOD).await;
        gateway.agent.power_off().await;
        gateway.cloud.refuse_at_random(100.0, 1);
        let puts = gateway.cloud.counts().puts;
        gateway.cloud.back();
        gateway.agent.start();
        gateway.cloud.is_put(puts + 2).await;
        gateway.cloud.refuse_at_random(0.0, 1);
        // Before the file is open nothing waits either, as far as the status knows; and while it is full, `drop-newest` keeps nothing.
        let gone = |status: &Picture| status.count("/ledger/delivered") > 0 && status.count("/backlog/bytes") == 0;
        gateway.agent.shows("what waited has gone", gone).await.balances();

        gateway.field.publishes(8).await;

        let (missing, _) = gateway.what_is_left_is_in(STREAM).await;
        assert!(missing > 200, "{rule}: {missing}");
        all_is_explained(&mut gateway, STREAM, missing);
    }
}

#[tokio::test]
async fn both_independent_decoders_read_notices_and_what_is_left_between_them() {
    let mut plan = small_buffer().set("buffer.when_full", "thin").without("streams.readings");
    let streams = ["cbor-one", "json-keyed"];
    for stream in streams {
        let of = |key: &str| format!("streams.{stream}.{key}");
        plan = plan.stream(stream, stream).set(&of("encoding"), &stream[..4]);
    }
    let plan = plan.set("streams.json-keyed.partition_key", "{topic}").set("streams.json-keyed.lanes", 2);
    let mut gateway = plan.starts().await;
    streams.iter().for_each(|stream| assert!(gateway.cloud.create_stream(stream, 2)));
    gateway.cloud.away();
    gateway.field.pads(20_000);
    gateway.field.publishes(FLOOD).await;
    gateway.agent.shows("all were taken", |status| status.count("/ledger/received") == 2 * FLOOD).await.balances();
    gateway.cloud.back();
    gateway.agent.shows("nothing waits", |status| status.count("/backlog/bytes") == 0).await.balances();

    for stream in streams {
        let mut consumer = Consumer::default();
        decoded(&gateway.cloud.received(stream)).await.iter().for_each(|user| consumer.takes(&user.data));
        let dropped = gateway.agent.status().await.count(&format!("/streams/{stream}/ledger/dropped/thin"));
        assert!(dropped > 100, "{stream}: {dropped}");
        assert_eq!((consumer.missing(), consumer.explained()), (dropped, dropped), "{stream}");
    }
}

#[tokio::test]
async fn raw_readings_are_dropped_without_a_notice_and_counted() {
    for rule in ["drop-oldest", "drop-newest", "thin"] {
        let plan = small_buffer().set("streams.readings.encoding", "raw").set("buffer.when_full", rule);
        let gateway = flooded(plan, FLOOD).await;
        gateway.cloud.back();

        let status = gateway.agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await;
        status.balances();
        let dropped = status.count(&format!("/ledger/dropped/{}", rule.replace('-', "_")));
        assert!(dropped > 200, "{rule}: {dropped}");
        let texts = gateway.cloud.texts(STREAM);
        assert_eq!(texts.len() as u64, FLOOD - dropped, "{rule}");
        assert!(texts.iter().all(|text| text.starts_with('[')), "{rule}");
    }
}

#[tokio::test]
async fn tail_prints_the_notice_and_counts_nothing_as_missing() {
    for rule in ["drop-oldest", "thin"] {
        let mut gateway = flooded(small_buffer().set("buffer.when_full", rule), FLOOD).await;
        gateway.cloud.back();
        gateway.what_is_left_is_in(STREAM).await;
        let dropped = gateway.agent.status().await.count(&format!("/ledger/dropped/{}", rule.replace('-', "_")));

        let mut tail = gateway.agent.tails("readings");
        tail.out.line_with("\"kind\":\"dropped\"").await;
        let last = gateway.cloud.readings(STREAM).last().unwrap().seq;
        tail.out.line_with(&format!("\"seq\":{last},")).await;
        tail.signal(rustix::process::Signal::INT);
        let summary = tail.err.line_with("duplicates left out").await;
        tail.ends().await;

        let expected = format!("{} readings, 0 duplicates left out, 0 missing, {dropped} dropped", FLOOD - dropped);
        assert!(summary.contains(&expected), "{rule}: {summary}");
    }
}

fn small_buffer() -> Plan {
    Gateway::new().set("buffer.max_size", "8 MiB").set("buffer.memory", "1 MiB").window(200)
}

/// An installation whose uplink is away, and whose agent has taken `n` readings of 20,000 bytes.
async fn flooded(plan: Plan, n: u64) -> Gateway {
    let mut gateway = plan.starts().await;
    gateway.cloud.away();
    gateway.field.pads(20_000);
    gateway.field.publishes(n).await;
    gateway.agent.shows("all were taken", |status| status.count("/ledger/received") == n).await.balances();
    gateway
}

/// Checks that the application misses `dropped` readings, and that notices account for all of them.
fn all_is_explained(gateway: &mut Gateway, stream: &str, dropped: u64) {
    let consumer = gateway.cloud.consumer(stream);
    assert_eq!((consumer.missing(), consumer.explained(), consumer.repeats), (dropped, dropped, ONCE), "{stream}");
}
