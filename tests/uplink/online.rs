//! `headwater check --online`: what will the agent find?

use std::ffi::OsStr;

use crate::{
    behind_a_line,
    support::{
        certificates::Authority,
        cloud::STREAM,
        consumer::ONCE,
        files::Files,
        free_port,
        gateway::Gateway,
        process::{Headwater, headwater},
    },
};

/// Runs the command with `more` arguments; its exit code and what it says.
async fn checks(agent: &Headwater, more: &[&str]) -> (Option<i32>, String) {
    let config = agent.config();
    let args = ["check", "--online"].into_iter().chain(more.iter().copied()).map(OsStr::new).chain([config.as_os_str()]);
    let ended = headwater(args).await;
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (ended.status.code(), said)
}

fn has_line(said: &str, parts: &[&str]) {
    assert!(said.lines().any(|line| parts.iter().all(|part| line.contains(part))), "no line with {parts:?} in:\n{said}");
}

#[tokio::test]
async fn everything_that_the_agent_needs_is_tried_beside_it_and_nothing_is_left_behind() {
    let mut gateway = Gateway::new().with_scale().installs().await;
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    let (code, said) = checks(&gateway.agent, &[]).await;

    assert_eq!(code, Some(0), "{said}");
    has_line(&said, &["ok    disk", "MiB free"]);
    has_line(&said, &["ok    clock"]);
    has_line(&said, &["ok    broker", "takes us"]);
    has_line(&said, &["ok    scale", "may be opened"]);
    has_line(&said, &["ok    cloud", gateway.cloud.url(), "is at 127.0.0.1"]);
    has_line(&said, &["ok    cloud", "speaks TLS 1.3"]);
    has_line(&said, &["ok    cloud", "credentials, without an expiry"]);
    has_line(&said, &["ok    cloud", STREAM, "would take a small record"]);
    has_line(&said, &["ok    cloud", STREAM, "would take a record of 1000 KiB"]);
    assert_eq!(gateway.cloud.received(STREAM).len(), 0, "a rehearsal stores nothing");
    gateway.field.publishes(10).await;
    gateway.field.weighs(10).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.field.hears("already connected"), 0, "the agent's session was taken over");
    gateway.agent.stops().await;
}

#[tokio::test]
async fn each_part_that_fails_has_a_line_that_says_what_to_do_and_the_others_are_tried_all_the_same() {
    let plan = Gateway::new()
        .set("sources.broker.url", format!("mqtt://127.0.0.1:{}", free_port()))
        .with_scale()
        .set("sources.scale.port", "{dir}/unplugged")
        .set("destinations.cloud.endpoint", vec![format!("https://127.0.0.1:{}", free_port()), "https://3325256711".to_owned()]);
    let gateway = plan.installs().await;

    let (code, said) = checks(&gateway.agent, &[]).await;

    assert_eq!(code, Some(1), "{said}");
    has_line(&said, &["ok    disk"]);
    has_line(&said, &["WRONG broker", "no connection", "check that the broker runs"]);
    has_line(&said, &["WRONG scale", "unplugged", "plug the adapter in"]);
    has_line(&said, &["WRONG cloud", "refused", "security group"]);
    has_line(&said, &["WRONG cloud", "3325256711", "198.51.100.7", "private DNS"]);
}

#[tokio::test]
async fn a_stream_that_is_not_there_and_a_certificate_that_nobody_vouches_for_are_found() {
    let gateway = Gateway::new().set("streams.readings.stream", "absent").installs().await;
    let (code, said) = checks(&gateway.agent, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    has_line(&said, &["WRONG cloud", "stream absent", "does not exist", "check `stream`"]);

    std::fs::write(gateway.agent.dir().join("office.pem"), Authority::new().pem()).unwrap();
    let (code, said) = checks(&gateway.agent, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    has_line(&said, &["WRONG cloud", "no TLS", "set `ca`"]);
}

#[tokio::test]
async fn a_way_that_swallows_large_packets_is_told_from_one_that_is_closed() {
    let (gateway, line) = behind_a_line(Gateway::new()).await;
    line.swallows_beyond(64 << 10);

    let (code, said) = checks(&gateway.agent, &["--patience", "3s"]).await;

    assert_eq!(code, Some(1), "{said}");
    has_line(&said, &["ok    cloud", STREAM, "would take a small record"]);
    has_line(&said, &["WRONG cloud", "one of 1000 KiB is not", "MTU"]);
}

#[tokio::test]
async fn a_file_that_only_the_service_has_is_missing_with_the_command_that_gives_it() {
    let plan = Gateway::new().set("destinations.cloud.credentials.kind", "static");
    let plan = plan.set("destinations.cloud.credentials.access_key_id", "test");
    let secret = "$CREDENTIALS_DIRECTORY/aws-secret";
    let gateway = plan.set("destinations.cloud.credentials.secret_access_key_file", secret).installs().await;

    let (code, said) = checks(&gateway.agent, &[]).await;

    assert_eq!(code, Some(1), "{said}");
    has_line(&said, &["WRONG cloud", secret, "systemd-run --pipe --wait -p User=headwater -p LoadCredential="]);
}

#[tokio::test]
async fn a_configuration_with_mistakes_is_not_tried() {
    let gateway = Gateway::new().set("buffer.hold", 5).installs().await;

    let (code, said) = checks(&gateway.agent, &[]).await;

    assert_eq!(code, Some(2), "{said}");
    has_line(&said, &["buffer.hold is the number 5"]);
    assert_eq!(gateway.cloud.counts().requests, 0);
}

#[tokio::test]
async fn a_folder_that_readings_go_to_is_looked_at_and_not_made() {
    let gateway = Gateway::new().into_files().installs().await;
    let files = Files::of(&gateway);

    let (code, said) = checks(&gateway.agent, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    has_line(&said, &["WRONG disk", "/files can't be used", "mount its disk"]);
    assert!(files.names().is_empty());

    files.appear();
    let (_, said) = checks(&gateway.agent, &[]).await;
    has_line(&said, &["ok    disk", "/files has 0 MiB of our files"]);
}
