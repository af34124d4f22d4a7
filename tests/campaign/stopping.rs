//! The agent stops in order, whatever its sources and its buffer are busy with.

use std::{fs, path::Path};

use headwater::demo::kinesis::{Endpoint, Options};

use super::is_subscribed;
use crate::support::{eventually, free_port, mosquitto::Mosquitto, process::Headwater, publisher::Publisher};

/// Larger than the smallest buffer, memory included.
const MORE_THAN_FITS: usize = 40;

#[tokio::test]
async fn an_agent_whose_broker_is_away_stops_without_an_error_at_every_time() {
    let cloud = Endpoint::start(Options::default()).await.unwrap();
    let mut agent = Headwater::configured(&config(free_port(), &cloud));

    for _ in 0..8 {
        agent.start_until("running").await;

        agent.stops().await;
    }
}

#[tokio::test]
async fn an_agent_with_a_full_buffer_stops_without_an_error() {
    let broker = Mosquitto::new().setting("log_type", "subscribe").max_queued(0).start().await;
    let cloud = Endpoint::start(Options::default()).await.unwrap();
    cloud.away();
    let mut agent = Headwater::configured(&config(broker.port(), &cloud));
    agent.start_until("connected to the broker").await;
    is_subscribed(&broker).await;
    let large = || vec![b'x'; 400 << 10];
    Publisher::to(&broker, "camera").publish_all(1, (0..MORE_THAN_FITS).map(|_| ("plant/camera", large()))).await;
    // The limit of the database leaves its WAL some of the 8 MiB, so it is full well before.
    eventually("the buffer is full", async || {
        let size = size_of(&agent.dir().join("state"));
        if size > 5 << 20 { Ok(()) } else { Err(format!("{size} bytes")) }
    })
    .await;

    agent.stops().await;
}

#[tokio::test]
async fn an_agent_whose_last_request_is_never_answered_stops_without_an_error() {
    let broker = Mosquitto::new().setting("log_type", "subscribe").start().await;
    let cloud = Endpoint::start(Options::default()).await.unwrap();
    cloud.black_hole();
    let mut agent = Headwater::configured(&config(broker.port(), &cloud));
    agent.start_until("connected to the broker").await;
    is_subscribed(&broker).await;
    Publisher::to(&broker, "sensor").publish("plant/temp", "21.5", 1).await;

    agent.stops().await;
}

fn size_of(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

fn config(broker: u16, cloud: &Endpoint) -> String {
    format!(
        r#"
        [device]
        id = "gw-1"
        state_dir = "{{dir}}/state"
        socket = "{{dir}}/headwater.sock"
        [sources.broker]
        kind = "mqtt"
        url = "mqtt://127.0.0.1:{broker}"
        topics = ["plant/#"]
        payload = "bytes"
        [streams.readings]
        destination = "cloud"
        stream = "plant-readings"
        from = ["broker"]
        [destinations.cloud]
        kind = "kinesis"
        region = "eu-west-1"
        endpoint = "{}"
        [buffer]
        memory = "1 MiB"
        max_size = "8 MiB"
        when_full = "block"
        [http]
        listen = "off"
        "#,
        cloud.url()
    )
}
