//! The agent stops in order, whatever its sources and its buffer are busy with.

use std::{fs, path::Path};

use crate::support::{
    eventually,
    gateway::{Gateway, Plan},
};

/// Larger than the smallest buffer, memory included.
const MORE_THAN_FITS: u64 = 40;

#[tokio::test]
async fn an_agent_whose_broker_is_away_stops_without_an_error_at_every_time() {
    let mut gateway = small().installs().await;
    gateway.field.broker.kill().await;

    for _ in 0..8 {
        gateway.agent.start_until("running").await;

        gateway.agent.stops().await;
    }
}

#[tokio::test]
async fn an_agent_with_a_full_buffer_stops_without_an_error() {
    let mut gateway = small().starts().await;
    gateway.cloud.away();
    gateway.field.floods("plant/camera", MORE_THAN_FITS, 400 << 10).await;
    // The limit of the database leaves its WAL some of the 8 MiB, so it is full well before.
    eventually("the buffer is full", async || {
        let size = size_of(&gateway.agent.dir().join("state"));
        if size > 5 << 20 { Ok(()) } else { Err(format!("{size} bytes")) }
    })
    .await;

    gateway.agent.stops().await;
}

#[tokio::test]
async fn an_agent_whose_last_request_is_never_answered_stops_without_an_error() {
    let mut gateway = small().starts().await;
    gateway.cloud.black_hole();
    gateway.field.publishes(1).await;

    gateway.agent.stops().await;
}

#[tokio::test]
async fn an_agent_whose_question_about_its_stream_is_never_answered_stops_without_an_error() {
    let mut gateway = small().set("streams.readings.aggregation", "auto").installs().await;
    gateway.cloud.black_hole();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(1).await;
    gateway.holds(1).await;

    gateway.agent.stops().await;

    assert_eq!(gateway.cloud.counts().describes, 0, "nobody has told it");
}

/// The smallest buffer, which may not drop.
fn small() -> Plan {
    let plan = Gateway::new().set("sources.broker.payload", "bytes").set("buffer.when_full", "block");
    plan.set("buffer.memory", "1 MiB").set("buffer.max_size", "8 MiB")
}

fn size_of(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
