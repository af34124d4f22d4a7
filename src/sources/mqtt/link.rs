//! The way to the broker: TCP, with TLS or without.
//!
//! Everything is read again for each connection, so that a renewed certificate or password needs no restart.

use std::{path::Path, sync::Arc};

use http::Uri;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName, sign::SingleCertAndKey};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    config::MqttConfig,
    identity::{Identity, Secret, certificates, read_secret},
    sources::error::SourceError,
};

/// Bytes both ways.
pub trait Link: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Link for T {}

/// Connects, and shakes hands for TLS.
pub async fn open(config: &MqttConfig) -> Result<Box<dyn Link>, SourceError> {
    let url = &config.url;
    let Address { host, port, tls } = Address::parse(url).ok_or_else(|| SourceError::BrokerUrl { url: url.clone() })?;
    let unreachable = |source| SourceError::BrokerUnreachable { url: url.clone(), source };

    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
    // An acknowledgement is small, and the broker's window waits for it.
    tcp.set_nodelay(true).map_err(unreachable)?;
    if !tls {
        return Ok(Box::new(tcp));
    }

    let name = ServerName::try_from(host).map_err(|_| SourceError::BrokerUrl { url: url.clone() })?;
    let connector = TlsConnector::from(Arc::new(client_config(config)?));
    let tls = connector.connect(name, tcp).await.map_err(|source| SourceError::BrokerTls { url: url.clone(), source })?;
    Ok(Box::new(tls))
}

/// Reads some small files, once a connection; what it takes beside the handshake does not count.
fn client_config(config: &MqttConfig) -> Result<ClientConfig, SourceError> {
    let mut roots = RootCertStore::empty();
    match &config.ca {
        Some(path) => {
            for root in certificates(path)? {
                roots.add(root).map_err(|source| SourceError::WrongRoot { path: path.clone(), source })?;
            }
        }
        // What can't be read here is missing there, and the handshake says so.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }

    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| SourceError::Tls { source })?
        .with_root_certificates(roots);
    Ok(match (&config.client_cert, &config.client_key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::load(certificate, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)))
        }
        _ => builder.with_no_client_auth(),
    })
}

/// The password, without the line end that editors add.
pub fn password(path: &Path) -> Result<Secret, SourceError> {
    Ok(read_secret(path)?)
}

#[derive(Debug, PartialEq)]
struct Address {
    host: String,
    port: u16,
    tls: bool,
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let (tls, usual) = match url.scheme_str()? {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return None,
        };
        // An IPv6 address is in brackets in a URL, and nowhere else.
        let host = url.host().filter(|host| !host.is_empty())?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: url.port_u16().unwrap_or(usual), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_url_has_a_scheme_a_host_and_maybe_a_port() {
        let address = |host: &str, port, tls| Some(Address { host: host.into(), port, tls });
        assert_eq!(Address::parse("mqtt://broker.plant"), address("broker.plant", 1883, false));
        assert_eq!(Address::parse("mqtts://broker.plant"), address("broker.plant", 8883, true));
        assert_eq!(Address::parse("mqtt://10.0.0.5:18830"), address("10.0.0.5", 18_830, false));
        assert_eq!(Address::parse("mqtts://[::1]:8884"), address("::1", 8884, true));
        for wrong in ["broker:1883", "http://broker", "mqtt://", "mqtt://:1883", "broker"] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }
}
