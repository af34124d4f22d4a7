//! TLS to a broker that asks for a certificate, a user name and a password.

use std::{fs, path::Path, process::Command};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::{
    gateway::{Gateway, payloads},
    mosquitto::Mosquitto,
};

/// A plant's own CA, and what it issued to broker and gateway.
fn issue_certificates(folder: &Path) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "plant");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    for (name, subject) in [("broker", "localhost"), ("gateway", "gw-1")] {
        let key = KeyPair::generate().unwrap();
        let mut certificate = CertificateParams::new([subject.to_owned()]).unwrap();
        certificate.distinguished_name.push(DnType::CommonName, subject);
        let certificate = certificate.signed_by(&key, &ca).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

async fn guarded_broker() -> (Mosquitto, headwater::config::MqttConfig) {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    issue_certificates(folder.path());
    fs::write(path("password"), "open sesame\n").unwrap();
    let passwords = path("passwords");
    let made =
        Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args(["gateway", "open sesame"]).status().unwrap();
    assert!(made.success());

    let (ca, cert, key) = (path("ca.pem"), path("broker.pem"), path("broker.key"));
    let settings = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous false\npassword_file {}",
        ca.display(),
        cert.display(),
        key.display(),
        passwords.display()
    );
    let (client_cert, client_key, password_file) = (path("gateway.pem"), path("gateway.key"), path("password"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = [
        "-h",
        "localhost",
        "-u",
        "gateway",
        "-P",
        "open sesame",
        "--cafile",
        &text(&ca),
        "--cert",
        &text(&client_cert),
        "--key",
        &text(&client_key),
    ]
    .map(str::to_owned);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let broker = Mosquitto::start_with(&settings, folder, &options).await;

    let mut config = broker.config(1);
    config.url = format!("mqtts://localhost:{}", broker.port());
    config.username = Some("gateway".into());
    (config.ca, config.client_cert, config.client_key, config.password_file) =
        (Some(ca), Some(client_cert), Some(client_key), Some(password_file));
    (broker, config)
}

#[tokio::test]
async fn readings_arrive_over_tls_with_client_certificate_and_password() {
    let (mut broker, config) = guarded_broker().await;
    let mut gateway = Gateway::start(config);
    broker.logs("Sending SUBACK to headwater-gw-1-broker").await;

    broker.receives("plant/7/temp", &["1", "2"]).await;

    assert_eq!(payloads(&gateway.takes(2).await), ["1", "2"]);
    gateway.has_made_safe(2);
    broker.logs("Received PUBACK from headwater-gw-1-broker (Mid: 2").await;
    gateway.stops().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_as_the_brokers_refusal() {
    let (_broker, config) = guarded_broker().await;
    fs::write(config.password_file.as_ref().unwrap(), "wrong").unwrap();
    let mut gateway = Gateway::start(config);
    assert!(gateway.complains("source broker").await.contains("refused the connection"));
    gateway.stops().await;
}

#[tokio::test]
async fn a_broker_from_an_unknown_ca_is_not_trusted() {
    let (_broker, mut config) = guarded_broker().await;
    let other = TempDir::new().unwrap();
    issue_certificates(other.path());
    config.ca = Some(other.path().join("ca.pem"));
    let mut gateway = Gateway::start(config);
    assert!(gateway.complains("source broker").await.starts_with("no TLS with broker"));
    gateway.stops().await;
}
