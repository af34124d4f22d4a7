//! What a newcomer runs first.

use headwater::{
    agent,
    demo::{self, Options, Verdict},
};

use rustix::process::Signal;

use crate::support::{
    free_port,
    part::Part,
    process::{command, headwater},
};

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
async fn a_demo_without_an_end_judges_itself_when_somebody_has_seen_enough() {
    let mut demo = Part::start("the demo", command().args(["demo", "--port", &free_port().to_string()]));
    demo.out.line_with("   3 s ").await;

    demo.signal(Signal::INT);

    demo.out.line_with("Ctrl-C again").await;
    let verdict = demo.out.line_with("exactly once and in order").await;
    assert!(verdict.starts_with("all "), "{verdict}");
    assert_eq!(demo.ends().await.code(), Some(0), "{}", demo.out.all());
}

#[tokio::test]
async fn who_presses_ctrl_c_again_does_not_wait_for_the_verdict() {
    let mut demo = Part::start("the demo", command().args(["demo", "--port", &free_port().to_string()]));
    // What waits then is sent after a wait by chance.
    demo.out.line_with("uplink away for 1 s more").await;
    demo.signal(Signal::INT);
    demo.out.line_with("Ctrl-C again").await;

    demo.signal(Signal::INT);

    assert_eq!(demo.ends().await.code(), Some(0), "{}", demo.out.all());
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
