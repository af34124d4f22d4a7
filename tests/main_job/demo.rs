//! What a newcomer runs first.

use headwater::{
    agent,
    demo::{self, Options, Verdict},
};

use crate::support::{free_port, process::headwater};

#[tokio::test]
async fn the_demo_ends_well_when_every_reading_arrived_exactly_once_and_in_order() {
    let port = free_port().to_string();

    let output = headwater(["demo", "--seconds", "9", "--port", &port]).await;

    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("http://127.0.0.1:{port}/")), "{said}");
    assert!(said.contains("buffering") && said.contains("uplink away for 1 s more"), "{said}");
    assert!(said.contains("exactly once and in order"), "{said}");
}

#[tokio::test]
async fn the_demo_fails_when_readings_are_missing() {
    let options = Options { port: Some(free_port()), seconds: Some(3) };

    // An agent that acknowledges what the broker has, and carries only what the scale says.
    let verdict = demo::run(options, async |mut config, status, stop| {
        config.streams.get_mut("readings").unwrap().from = vec!["scale".into()];
        agent::run(config, status, stop).await
    });

    assert_eq!(verdict.await.unwrap(), Verdict::Failed);
}
