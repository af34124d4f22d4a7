//! Payloads and topics of every size.

use serde_cbor::Value;

use crate::support::gateway::Gateway;

const KIB: usize = 1 << 10;
/// The largest reading, encoded.
const MOST: usize = 1000 * KIB;
/// From far below the bound to far above it, 1 MiB and what a client takes into memory at all among them.
const SIZES: [usize; 8] = [2, 700 * KIB, 999 * KIB, MOST, MOST + 1, 1 << 20, (4 << 20) - 100, 5 << 20];

/// The streams and how they are encoded.
const STREAMS: [(&str, &str); 3] = [("readings", "cbor"), ("lines", "json"), ("plain", "raw")];

#[tokio::test]
async fn json_of_any_size_arrives_or_is_counted_as_too_large() {
    arrives_or_is_counted("json").await;
}

#[tokio::test]
async fn cbor_of_any_size_arrives_or_is_counted_as_too_large() {
    arrives_or_is_counted("cbor").await;
}

#[tokio::test]
async fn text_of_any_size_arrives_or_is_counted_as_too_large() {
    arrives_or_is_counted("text").await;
}

#[tokio::test]
async fn bytes_of_any_size_arrive_or_are_counted_as_too_large() {
    arrives_or_is_counted("bytes").await;
}

async fn arrives_or_is_counted(format: &str) {
    let plan = Gateway::new().stream("lines", "plant-lines").set("streams.lines.encoding", "json");
    let plan = plan.stream("plain", "plant-plain").set("streams.plain.encoding", "raw");
    let mut gateway = plan.set("sources.broker.payload", format).set("buffer.memory", "16 MiB").starts().await;
    gateway.cloud.create_stream("plant-lines", 1);
    gateway.cloud.create_stream("plant-plain", 1);

    for size in SIZES {
        // A JSON string and text; as CBOR it is the number -3 with something behind it.
        gateway.field.publishes_message("plant/7/temp", format!("\"{}\"", "x".repeat(size - 2))).await;
    }
    gateway.field.publishes_message("plant/7/temp", "1").await;

    let all = SIZES.len() as u64 + 1;
    let settled = gateway
        .agent
        .shows("all are settled", |status| status.count("/ledger/received") == 3 * all && status.count("/ledger/buffered") == 0);
    let status = settled.await;
    status.balances();
    for (stream, encoding) in STREAMS {
        // Around the payload stand some 200 bytes; in base64 it takes a third more.
        let in_base64 = encoding == "json" && matches!(format, "cbor" | "bytes");
        let fits = |size: usize| match encoding {
            "raw" => size <= MOST,
            _ if in_base64 => size <= 700 * KIB,
            _ => size <= 999 * KIB,
        };
        let too_large = SIZES.iter().filter(|size| !fits(**size)).count() as u64;
        let of = |column: &str| status.count(&format!("/streams/{stream}/ledger/{column}"));
        assert_eq!(of("rejected/too_large"), too_large, "{format} in {encoding}");
        assert_eq!(of("delivered"), all - too_large, "{format} in {encoding}");
    }
    assert_eq!(gateway.cloud.payloads("plant-plain").last().unwrap(), b"1", "what follows arrives");
}

#[tokio::test]
async fn a_topic_of_any_length_and_any_letters_arrives() {
    let plan = Gateway::new().stream("lines", "plant-lines").set("streams.lines.encoding", "json");
    let mut gateway = plan.set("streams.lines.partition_key", "{topic}").starts().await;
    gateway.cloud.create_stream("plant-lines", 1);
    let beginnings = ["plant/", "plant//", "plant/$SYS/", "plant/\"\\/", "plant/°😀/"];
    let mut topics: Vec<String> = beginnings.map(|topic| format!("{topic}temp")).into();
    // The longest that MQTT has room for, and some more of them, which differ in their ends.
    topics.extend((100..140).map(|n| format!("plant/{}{n}", "t".repeat(65_535 - 9))));
    topics.push(format!("plant/{}", "😀".repeat((65_535 - 6) / 4)));

    for topic in &topics {
        gateway.field.publishes_message(topic, "21.5").await;
    }

    let all = 2 * topics.len() as u64;
    gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == all).await.balances();
    for stream in ["plant-readings", "plant-lines"] {
        let readings = gateway.cloud.readings(stream);
        assert!(readings.iter().all(|reading| reading.val == Some(Value::Float(21.5))));
        assert!(readings.iter().map(|reading| &reading.topic).eq(&topics), "{stream}");
    }
}
