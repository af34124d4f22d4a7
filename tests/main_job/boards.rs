//! What a board may do otherwise than the machine that builds for it: its processor, its C library, its width of a time.
//!
//! `make emulated` runs these with the binaries for boards, and so does `make unit` with the one for this machine.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use headwater::clock;

use super::tls::{client_of, secret_file};
use crate::support::{
    certificates::Authority, consumer::ONCE, gateway::Gateway, mosquitto::Clients, process::headwater, publisher::Publisher,
};

/// The first day of 2045, in seconds since 1970: 32 bits hold no more than 2038.
const THEN: i64 = 2_366_841_600;

#[tokio::test]
async fn readings_that_waited_through_an_outage_and_a_power_cut_arrive_over_tls_exactly_once_and_in_order() {
    let plant = Authority::new();
    let plan = Gateway::new()
        .broker(|broker| broker.tls(&plant, Clients::WithCertificate).setting("log_type", "all"))
        .set("buffer.hold", "0s")
        .set("sources.broker.ca", "{dir}/plant.pem")
        .set("sources.broker.client_cert", "{dir}/gateway.pem")
        .set("sources.broker.client_key", "{dir}/gateway.key");
    let mut gateway = plan.installs().await;
    let (certificate, key) = plant.client("gateway");
    let files = [("plant.pem", plant.pem()), ("gateway.pem", certificate.clone()), ("gateway.key", key.clone())];
    files.iter().for_each(|(name, content)| secret_file(&gateway.agent.dir().join(name), content));
    let mut options = rumqttc::MqttOptions::new("sensors", "localhost", gateway.field.broker.port());
    options.set_transport(rumqttc::Transport::tls_with_config(client_of(&plant, &certificate, &key).into()));
    gateway.field.publishes_through(Publisher::with(options));
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;

    gateway.cloud.away();
    gateway.field.publishes(300).await;
    gateway.field.is_acknowledged(400).await;
    gateway.agent.power_off().await;
    gateway.agent.start();
    gateway.holds(300).await;
    gateway.field.publishes(100).await;
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_buffer_whose_files_are_dated_2045_opens_and_drains() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.away();
    gateway.field.publishes(50).await;
    gateway.holds(50).await;
    gateway.agent.stops().await;
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(THEN.unsigned_abs());
    let buffer = gateway.agent.dir().join("state/buffer.db");
    for file in fs::read_dir(buffer.parent().unwrap()).unwrap() {
        File::open(file.unwrap().path()).unwrap().set_modified(then).unwrap();
    }

    let verified = headwater(["buffer".as_ref(), "verify".as_ref(), buffer.as_os_str()]).await;
    assert!(verified.status.success(), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stdout).contains("50 readings"), "{verified:?}");
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_clock_that_says_2045_stops_nothing() {
    let mut gateway = Gateway::new().with_a_clock().set("buffer.hold", "0s").installs().await;
    gateway.agent.clock().is_off_by(THEN - clock::now().0 / 1000);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.cloud.away();
    gateway.field.publishes(50).await;
    gateway.holds(50).await;

    gateway.agent.clock().is_off_by(0);
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert!(gateway.cloud.readings("plant-readings").iter().all(|reading| reading.ts / 1000 >= THEN));
    gateway.agent.stops().await;
}

#[tokio::test]
async fn check_and_show_read_what_we_ship() {
    let shipped = |path: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    for path in ["config/gateway.toml", "config/fleet"] {
        let checked = headwater(["check".as_ref(), shipped(path).as_os_str()]).await;
        assert!(checked.status.success(), "{checked:?}");
    }

    let config = shipped("config/gateway.toml");
    let shown = headwater(["show".as_ref(), "--config".as_ref(), config.as_os_str()]).await;

    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.parse::<toml::Table>().is_ok_and(|table| table.contains_key("buffer")), "{shown}");
}
