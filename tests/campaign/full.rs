//! A full buffer that may drop goes on taking readings, whatever is on its way out.

use headwater::demo::kinesis::{Endpoint, Options};
use serde_json::Value;

use super::is_subscribed;
use crate::support::{
    eventually,
    mosquitto::Mosquitto,
    process::{Headwater, headwater},
    publisher::Publisher,
};

/// Three times what fits.
const FLOOD: u64 = 15_000;

#[tokio::test]
async fn a_lane_that_has_nothing_left_to_drop_does_not_keep_others_from_dropping() {
    let broker = Mosquitto::new().setting("log_type", "subscribe").max_inflight(1000).max_queued(0).start().await;
    let cloud = Endpoint::start(Options::default()).await.unwrap();
    cloud.black_hole();
    let mut agent = Headwater::configured(&config(broker.port(), &cloud));
    agent.start_until("connected to the broker").await;
    is_subscribed(&broker).await;
    let mut sensor = Publisher::to(&broker, "sensor");
    let kilobyte = || vec![b'x'; 1000];

    // The head of the quiet lane is on its way for as long as the black hole lasts, and all the rest of it is dropped in the flood.
    sensor.publish_all(1, (0..50).map(|_| ("plant/quiet", kilobyte()))).await;
    received(&agent, "quiet", 50).await;
    sensor.publish_all(1, (0..350).map(|_| ("plant/quiet", kilobyte()))).await;
    received(&agent, "quiet", 400).await;
    sensor.publish_all(1, (0..FLOOD).map(|_| ("plant/loud", kilobyte()))).await;

    received(&agent, "loud", FLOOD).await;
}

/// Waits until the agent has taken so many readings into the stream.
async fn received(agent: &Headwater, stream: &str, readings: u64) {
    let config = agent.config();
    let config = config.to_str().unwrap();
    eventually(format_args!("{readings} readings of {stream}"), async || {
        let answer = headwater(["status", "--json", "--config", config]).await;
        let status: Value = serde_json::from_slice(&answer.stdout).map_err(|e| e.to_string())?;
        let taken = status["streams"][stream]["ledger"]["received"].as_u64();
        if taken == Some(readings) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
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
        window = 1000
        payload = "bytes"
        [streams.quiet]
        destination = "cloud"
        stream = "quiet"
        from = ["broker:plant/quiet"]
        [streams.loud]
        destination = "cloud"
        stream = "loud"
        from = ["broker:plant/loud"]
        [destinations.cloud]
        kind = "kinesis"
        region = "eu-west-1"
        endpoint = "{}"
        [buffer]
        hold = "0s"
        memory = "1 MiB"
        max_size = "8 MiB"
        [http]
        listen = "off"
        "#,
        cloud.url()
    )
}
