//! The way to an endpoint, layer by layer, for a technician who asks which one is broken.
//!
//! Invariant: nothing is stored anywhere, and no reading waits for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::{ProtocolVersion, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::{
    credentials::{CredentialsError, HeldCredentials},
    endpoint::Endpoint,
    guard::{Guard, HostError},
    trouble::Trouble,
    trust::Trust,
};
use crate::reading::Timestamp;

/// What a destination is reached with; cheap to clone.
#[derive(Clone, Debug)]
pub struct Trial {
    pub(super) guard: Guard,
    pub(super) trust: Arc<Trust>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) credentials: HeldCredentials,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// All of them.
    pub found: Vec<IpAddr>,
    /// Those that may be connected to.
    pub permitted: Vec<IpAddr>,
}

/// A record that was sent for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The service does not know the parameter that asks it to store nothing, and has stored the record.
    pub stored: bool,
    /// The service's time when it answered, to the second, as far as it says.
    pub at: Option<Timestamp>,
}

impl Trial {
    /// The endpoints' URLs, in their order; the other functions take their places.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| &*endpoint.url)
    }

    /// Looks up the name of the endpoint at `place`.
    pub async fn name(&self, place: usize) -> Result<Addresses, HostError> {
        let (found, permitted) = self.guard.look_up(&self.endpoints[place].host).await?;
        Ok(Addresses { found, permitted })
    }

    /// Connects to it and shakes hands. The address, and the version of TLS; none for an endpoint without it.
    pub async fn handshake(&self, place: usize) -> Result<(SocketAddr, Option<&'static str>), Broken> {
        let endpoint = &self.endpoints[place];
        let tcp = self.guard.connect(&endpoint.host, endpoint.port).await.map_err(Broken::Tcp)?;
        let peer = tcp.peer_addr().map_err(|error| Broken::Tls(Trouble::before(&error)))?;
        if !endpoint.tls {
            return Ok((peer, None));
        }
        let config = self.trust.client_config().map_err(|error| Broken::Tls(Trouble::before(&*error)))?;
        let host = endpoint.host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| Broken::Tls(Trouble::before(&error)))?;
        let tls =
            TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| Broken::Tls(Trouble::before(&error)))?;
        let version = match tls.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        Ok((peer, Some(version)))
    }

    /// Asks for credentials. Until when they are good; none: for ever.
    pub async fn credentials(&self) -> Result<Option<Timestamp>, Arc<CredentialsError>> {
        let credentials = self.credentials.get().await?;
        let since = |expiry: std::time::SystemTime| expiry.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let expiry = credentials.expiry().map(since).and_then(|since| i64::try_from(since.as_millis()).ok());
        Ok(expiry.map(Timestamp))
    }
}

/// The layer that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No connection.
    #[error(transparent)]
    Tcp(HostError),
    /// No TLS on it, and what to do about that.
    #[error("no TLS")]
    Tls(#[source] Trouble),
}
