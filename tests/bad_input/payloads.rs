//! Payloads of every kind, read in every way, in every encoding.

use serde_cbor::Value;

use crate::support::{consumer::Reading, gateway::Gateway, process::Picture};

/// A payload, and the ways to read it that do. As bytes, all can be read.
struct Kind {
    name: &'static str,
    payload: Vec<u8>,
    reads_as: &'static [&'static str],
}

fn kinds() -> Vec<Kind> {
    let nested = |levels| [vec![b'['; levels], vec![b']'; levels]].concat();
    let kind = |name, payload: &[u8], reads_as| Kind { name, payload: payload.to_vec(), reads_as };
    vec![
        kind("number", b"21.5", &["json", "text"]),
        kind("object", "{\"t\": 21.5,\r\n \"unit\": \"°C\"}".as_bytes(), &["json", "text"]),
        kind("nothing", b"", &["text"]),
        kind("zeros", &[0; 64], &["text"]),
        kind("cut", b"{\"t\": 21.", &["text"]),
        kind("two", b"1 2", &["text"]),
        kind("not-a-number", b"NaN", &["text"]),
        kind("more-than-64-bits", b"123456789012345678901234567890", &["json", "text"]),
        kind("beyond-doubles", b"[1e400]", &["text"]),
        kind("four-hundred-digits", &[b'9'; 400], &["text"]),
        kind("half-a-pair", br#""\ud800""#, &["text"]),
        kind("wrong-utf8", b"\"\xC3\x28\"", &[]),
        kind("every-byte", &(0..=255).collect::<Vec<u8>>(), &[]),
        kind("ff", &[0xFF; 64 << 10], &[]),
        kind("deep", &nested(126), &["json", "text"]),
        kind("deeper", &nested(127), &["text"]),
        kind("deepest", &nested(200_000), &["text"]),
        kind("cbor-map", b"\xA1\x61\x63\xFB\x40\x35\x80\x00\x00\x00\x00\x00", &["cbor"]),
        kind("cbor-nan", b"\x83\xF9\x7E\x00\xF9\x7C\x00\xF7", &["cbor"]),
        kind("cbor-cut", b"\x82\x01", &[]),
        kind("cbor-lies", b"\x9B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", &[]),
        kind("cbor-deep", &[vec![0x81; 125], vec![0x80]].concat(), &["cbor"]),
        kind("cbor-deepest", &[vec![0x81; 200_000], vec![0x80]].concat(), &[]),
    ]
}

const LAST: &str = "what-follows";

#[tokio::test]
async fn any_payload_read_as_json_arrives_or_says_why_it_could_not_be_read() {
    arrive_as_promised("json").await;
}

#[tokio::test]
async fn any_payload_read_as_cbor_arrives_or_says_why_it_could_not_be_read() {
    arrive_as_promised("cbor").await;
}

#[tokio::test]
async fn any_payload_read_as_text_arrives_or_says_why_it_could_not_be_read() {
    arrive_as_promised("text").await;
}

#[tokio::test]
async fn any_payload_read_as_bytes_arrives() {
    arrive_as_promised("bytes").await;
}

async fn arrive_as_promised(format: &str) {
    let plan = Gateway::new().stream("lines", "plant-lines").set("streams.lines.encoding", "json");
    let plan = plan.stream("plain", "plant-plain").set("streams.plain.encoding", "raw");
    let mut gateway = plan.set("sources.broker.payload", format).starts().await;
    gateway.cloud.create_stream("plant-lines", 1);
    gateway.cloud.create_stream("plant-plain", 1);

    let kinds = kinds();
    for kind in &kinds {
        gateway.field.publishes_message(&format!("plant/{}", kind.name), kind.payload.clone()).await;
    }
    gateway.field.publishes_message(&format!("plant/{LAST}"), "1").await;
    let sent = kinds.len() + 1;
    let all = 3 * sent as u64;
    let status = gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == all).await;
    status.balances();

    let unreadable = |kind: &Kind| format != "bytes" && !kind.reads_as.contains(&format);
    let expected = kinds.iter().filter(|kind| unreadable(kind)).count();
    // "1" is text and JSON; as CBOR it is the number -18.
    assert_eq!(status.count("/sources/broker/unreadable"), expected as u64);
    let (cbor, json) = (gateway.cloud.readings("plant-readings"), gateway.cloud.readings("plant-lines"));
    let raw: Vec<_> = gateway.cloud.payloads("plant-plain");
    assert_eq!([cbor.len(), json.len(), raw.len()], [sent; 3]);
    for (place, kind) in kinds.iter().enumerate() {
        let topic = format!("plant/{}", kind.name);
        assert_eq!([&cbor[place].topic, &json[place].topic], [&topic; 2]);
        assert_eq!(raw[place], kind.payload, "{topic}");
        let base64 = base64_simd::STANDARD.encode_to_string(&kind.payload);
        let (bytes, text) = (Value::Bytes(kind.payload.clone()), Value::Text(base64));
        if unreadable(kind) {
            is_unreadable(&cbor[place], &bytes);
            is_unreadable(&json[place], &text);
        } else {
            assert!([&cbor[place], &json[place]].into_iter().all(|reading| reading.err.is_none() && reading.raw.is_none()));
            if format == "bytes" {
                assert_eq!((&cbor[place].val, &json[place].val), (&Some(bytes), &Some(text)));
            }
        }
    }
    assert!(cbor[sent - 1].topic.ends_with(LAST) && json[sent - 1].topic.ends_with(LAST));
}

#[tokio::test]
async fn payload_malformed_too_large_too_deeply_nested_a_counted_rejection_or_an_err_record_and_never_a_stall() {
    let mut gateway = Gateway::new().starts().await;
    let nested = |levels| [vec![b'['; levels], vec![b']'; levels]].concat();
    let bad: [(&str, Vec<u8>); 5] = [
        ("malformed", b"{\"t\": 21.".to_vec()),
        ("no-text", b"\"\xC3\x28\"".to_vec()),
        ("too-deep-by-one", nested(127)),
        ("too-deep", nested(200_000)),
        ("too-large", format!("\"{}\"", "x".repeat(1000 << 10)).into()),
    ];

    for round in 0..3 {
        for (name, payload) in &bad {
            gateway.field.publishes_message(&format!("plant/{name}"), payload.clone()).await;
        }
        gateway.field.publishes_message("plant/good", nested(124 + round)).await;
    }

    // Four of the five travel with the reason.
    let settled = |status: &Picture| status.count("/ledger/delivered") == 3 * 5 && status.count("/ledger/buffered") == 0;
    let status = gateway.agent.shows("all are settled", settled).await;
    status.balances();
    assert_eq!((status.count("/ledger/rejected/too_large"), status.count("/sources/broker/unreadable")), (3, 12));
    let readings = gateway.cloud.readings("plant-readings");
    for (place, reading) in readings.iter().enumerate() {
        match bad.get(place % 5).filter(|(name, _)| *name != "too-large") {
            Some((name, payload)) => {
                assert_eq!(reading.topic, format!("plant/{name}"));
                is_unreadable(reading, &Value::Bytes(payload.clone()));
            }
            None => assert_eq!((reading.topic.as_str(), reading.err.as_ref()), ("plant/good", None)),
        }
    }
    gateway.agent.stops().await;
}

fn is_unreadable(reading: &Reading, payload: &Value) {
    let Reading { topic, val, raw, err, .. } = reading;
    assert_eq!((val, raw.as_ref()), (&None, Some(payload)), "{topic}");
    assert!(err.as_ref().is_some_and(|why| !why.is_empty()), "{topic}");
}

#[tokio::test]
async fn a_source_whose_payloads_are_something_else_is_named_with_what_to_do_until_it_is_right() {
    let mut gateway = Gateway::new().starts().await;

    for _ in 0..5 {
        gateway.field.publishes_message("plant/7/temp", "21.5;22.0").await;
    }
    let problem = |part: &'static str| move |status: &Picture| status.problems().iter().any(|problem| problem.contains(part));
    let status = gateway.agent.shows("the source is named", problem("can't be read as json")).await;
    let problems = status.problems().concat();
    assert!(problems.contains("plant/7/temp") && problems.contains("`payload`"), "{problems}");
    gateway.agent.shows("they are counted", |status| status.count("/sources/broker/unreadable") == 5).await;

    for _ in 0..20 {
        gateway.field.publishes_message("plant/7/temp", "21.5").await;
    }
    gateway.agent.shows("it is right again", |status| status.problems().is_empty()).await;
    assert_eq!(gateway.agent.log().matches("can't be read as json").count(), 1, "{}", gateway.agent.log());
}

#[tokio::test]
async fn the_first_topic_that_no_stream_takes_is_named_once() {
    let mut gateway = Gateway::new().set("streams.readings.from", vec!["broker:plant/+/temp"]).starts().await;

    for n in 0..5 {
        gateway.field.publishes_message(&format!("plant/{n}/noise"), "1").await;
    }

    let status = gateway.agent.shows("they are counted", |status| status.count("/ledger/rejected/unrouted") == 5).await;
    let problems = status.problems().concat();
    assert!(problems.contains("plant/0/noise") && problems.contains("`from`"), "{problems}");
    assert_eq!(gateway.agent.log().matches("no stream takes").count(), 1);
}
