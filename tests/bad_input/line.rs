//! Noise on a serial line, as fast as the line takes it.

use headwater::demo::random::Random;

use crate::support::{gateway::Gateway, process::Picture};

const MIB: usize = 1 << 20;
const LONGEST: usize = 4 << 10;

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    (0..bytes.div_ceil(8)).flat_map(|_| random.bits().to_le_bytes()).collect()
}

#[tokio::test]
async fn noise_with_frame_ends_arrives_byte_for_byte_and_what_follows_too() {
    let gateway = Gateway::new().with_scale().starts().await;
    let noise = noise(4 * MIB);

    gateway.field.line.sends(&noise).await;
    gateway.field.line.sends("\n21.5\r\n").await;

    let lines = noise.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (frames, overlong): (Vec<_>, Vec<_>) = lines.filter(|line| !line.is_empty()).partition(|line| line.len() <= LONGEST);
    let all = frames.len() as u64 + 1;
    let status = gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == all).await;
    status.balances();
    let unreadable = frames.iter().filter(|frame| std::str::from_utf8(frame).is_err()).count();
    assert_eq!(counts(&status), (all, overlong.len() as u64, unreadable as u64));
    assert!(status.problems().concat().contains("can't be read as text"), "{:?}", status.problems());
    let readings = gateway.cloud.readings("plant-readings");
    let payload = |reading: &crate::support::consumer::Reading| match (&reading.val, &reading.raw) {
        (Some(serde_cbor::Value::Text(text)), None) => text.clone().into_bytes(),
        (None, Some(serde_cbor::Value::Bytes(bytes))) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    assert!(readings.iter().map(payload).eq(frames.iter().map(|frame| frame.to_vec()).chain([b"21.5".to_vec()])));
}

#[tokio::test]
async fn noise_without_an_end_is_counted_once_takes_no_memory_and_stalls_nothing() {
    let mut gateway = Gateway::new().with_scale().starts().await;
    let mut noise = noise(8 * MIB);
    noise.retain(|byte| *byte != b'\n');
    gateway.field.weighs(1).await;
    gateway.agent.shows("the line is read", |status| status.count("/sources/scale/received") == 1).await;
    let before = gateway.agent.resident();

    gateway.field.line.sends(&noise).await;
    let grown = gateway.agent.resident().saturating_sub(before);
    gateway.field.line.sends("\n").await;
    gateway.field.weighs(50).await;
    gateway.field.publishes(50).await;

    gateway.everything_arrives().await;
    assert_eq!(counts(&gateway.agent.status().await), (51, 1, 0));
    assert!(grown < 4 * MIB as u64, "{grown} bytes more for {} of noise", noise.len());
}

/// Readings of the scale, frames that were none, and readings that were no text.
fn counts(status: &Picture) -> (u64, u64, u64) {
    let of = |what: &str| status.count(&format!("/sources/scale/{what}"));
    (of("received"), of("invalid"), of("unreadable"))
}
