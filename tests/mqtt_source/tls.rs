//! TLS to a broker that asks for a certificate, a user name and a password.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use headwater::config::MqttConfig;
use tempfile::TempDir;

use crate::{
    field::Field,
    gateway::{Gateway, payloads},
    support::{
        certificates::Authority,
        mosquitto::{Clients, Mosquitto},
    },
};

/// A broker that takes only who has a certificate of `authority` and the password, and a gateway that has both in `folder`.
async fn guarded_broker(authority: &Authority, folder: &Path) -> (Field, MqttConfig) {
    let options = Mosquitto::new().password("gateway", "open sesame").tls(authority, Clients::WithCertificate);
    let field = Field::start_with(options).await;

    let (certificate, key) = authority.client("gw-1");
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Some(path)
    };
    let config = MqttConfig {
        ca: file("ca.pem", &authority.pem()),
        client_cert: file("gateway.pem", &certificate),
        client_key: file("gateway.key", &key),
        username: Some("gateway".into()),
        password_file: file("password", "open sesame\n"),
        ..field.config(1)
    };
    (field, config)
}

#[tokio::test]
async fn readings_arrive_over_tls_with_client_certificate_and_password() {
    let folder = TempDir::new().unwrap();
    let (field, config) = guarded_broker(&Authority::new(), folder.path()).await;

    // What the broker says of itself, with QoS 2.
    let mut gateway = Gateway::start(MqttConfig { topics: vec!["$SYS/broker/version".into()], ..config });

    assert!(payloads(&gateway.takes(1).await)[0].starts_with("mosquitto version"));
    gateway.has_made_safe(1);
    field.broker_sees("PUBACK", Some(1)).await;
    gateway.stops().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_as_the_brokers_refusal() {
    let folder = TempDir::new().unwrap();
    let (_field, config) = guarded_broker(&Authority::new(), folder.path()).await;
    fs::write(config.password_file.as_ref().unwrap(), "wrong").unwrap();

    let mut gateway = Gateway::start(config);

    assert!(gateway.complains("source broker").await.contains("refused the connection"));
    gateway.stops().await;
}

#[tokio::test]
async fn a_broker_from_an_unknown_authority_is_not_trusted() {
    let folder = TempDir::new().unwrap();
    let (_field, config) = guarded_broker(&Authority::new(), folder.path()).await;
    fs::write(config.ca.as_ref().unwrap(), Authority::new().pem()).unwrap();

    let mut gateway = Gateway::start(config);

    assert!(gateway.complains("source broker").await.starts_with("no TLS with broker"));
    gateway.stops().await;
}
