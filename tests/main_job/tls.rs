//! TLS on both sides, as a plant's security officer wants it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rumqttc::MqttOptions;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::support::{certificates::Authority, consumer::ONCE, gateway::Gateway, mosquitto::Clients, publisher::Publisher};

#[tokio::test]
async fn readings_arrive_over_tls_with_client_certificate_and_password_in_and_a_private_ca_out() {
    let plant = Authority::new();
    let plan = Gateway::new()
        .broker(|broker| broker.tls(&plant, Clients::WithCertificate).password("gateway", "open sesame"))
        .set("sources.broker.ca", "{dir}/plant.pem")
        .set("sources.broker.client_cert", "{dir}/gateway.pem")
        .set("sources.broker.client_key", "{dir}/gateway.key")
        .set("sources.broker.username", "gateway")
        .set("sources.broker.password_file", "{dir}/password")
        .set("destinations.cloud.credentials.kind", "static")
        .set("destinations.cloud.credentials.access_key_id", "AKID")
        .set("destinations.cloud.credentials.secret_access_key_file", "{dir}/secret");
    let mut gateway = plan.installs().await;
    let (certificate, key) = plant.client("gateway");
    let files = [
        ("plant.pem", plant.pem()),
        ("gateway.pem", certificate.clone()),
        ("gateway.key", key.clone()),
        ("password", "open sesame\n".to_owned()),
        ("secret", "secret\n".to_owned()),
    ];
    files.iter().for_each(|(name, content)| secret_file(&gateway.agent.dir().join(name), content));
    let mut options = MqttOptions::new("sensors", "localhost", gateway.field.broker.port());
    options.set_credentials("gateway", "open sesame");
    options.set_transport(rumqttc::Transport::tls_with_config(client_of(&plant, &certificate, &key).into()));
    gateway.field.publishes_through(Publisher::with(options));

    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(500).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.stops().await;
}

pub(crate) fn secret_file(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn client_of(authority: &Authority, certificate: &str, key: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap()
}
