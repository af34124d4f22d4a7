//! Credentials for a device certificate: the AWS IoT credentials provider, over mutual TLS.
//!
//! A connection of our own a question, once in an hour or so: key and certificate are read anew for it, so a renewed pair needs no
//! restart. The name in TLS and in the request is the endpoint's own, whatever address it is pinned to: AWS IoT tells accounts apart by it.
//!
//! Source: AWS IoT developer guide, "Authorizing direct calls to AWS services using AWS IoT Core credential provider".

mod refusal;

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, Error as TlsError, RootCertStore, crypto::ring, pki_types::ServerName, sign::SingleCertAndKey};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

pub use self::refusal::Remedy;
use super::{CredentialsError, issued};
use crate::{
    config::IotConfig,
    identity::{Identity, IdentityError, Validity},
    kinesis::{
        Cause, ClientError,
        answer::harmless,
        clock::ServiceClock,
        guard::{Guard, HostError},
        tls::{Untimely, tls_error},
        trouble::Trouble,
        trust,
    },
};

/// For all of one question: name, TCP, TLS and answer. On a slow mobile link that loses packets it takes some ten seconds.
const WITHIN: Duration = Duration::from_secs(30);
/// Largest answer: a session token has 1 to 4 KiB.
const MAX_ANSWER: usize = 64 << 10;

/// An endpoint of the credentials provider, and how we prove who we are there.
#[derive(Debug)]
pub(super) struct Iot {
    host: String,
    port: u16,
    /// The host, and the port where it is not the usual one.
    authority: String,
    path: String,
    thing_name: Option<HeaderValue>,
    pub(super) certificate: PathBuf,
    key: PathBuf,
    roots: Arc<RootCertStore>,
    guard: Guard,
    clock: ServiceClock,
}

impl Iot {
    /// Reads the files that `config` names, to find out early whether they are right. Asks nobody.
    pub(super) fn open(config: &IotConfig, guard: Guard, clock: ServiceClock) -> Result<Self, ClientError> {
        let wrong = || ClientError::CredentialsEndpoint { url: config.endpoint.clone() };
        let url: Uri = config.endpoint.parse().map_err(|_| wrong())?;
        let authority = url.authority().filter(|_| url.scheme_str() == Some("https")).ok_or_else(wrong)?;
        let thing_name = config.thing_name.as_deref().map(HeaderValue::from_str).transpose().map_err(|_| wrong())?;
        let iot = Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(443),
            authority: authority.as_str().to_owned(),
            path: format!("/role-aliases/{}/credentials", config.role_alias),
            thing_name,
            certificate: config.cert.clone(),
            key: config.key.clone(),
            roots: Arc::new(trust::roots(config.ca.as_deref())?),
            guard,
            clock,
        };
        iot.identity().map_err(|error| ClientError::Credentials(error.into()))?;
        Ok(iot)
    }

    fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::load(&self.certificate, &self.key)
    }

    /// How long the certificate that is there now is valid.
    pub(super) fn validity(&self) -> Option<Validity> {
        self.identity().ok().map(|identity| identity.validity)
    }

    pub(super) async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let config = self.tls()?;
        let exchange = async {
            let tcp = match self.guard.connect(&self.host, self.port).await {
                Ok(tcp) => tcp,
                Err(HostError::Public(source)) => return Err(CredentialsError::Public { endpoint: self.host.clone(), source }),
                Err(error) => return Err(self.unreachable(error)),
            };
            let name = ServerName::try_from(self.host.clone()).map_err(|error| self.unreachable(error))?;
            let tls = TlsConnector::from(config).connect(name, tcp).await;
            self.exchange(tls.map_err(|error| self.failed(error.into()))?).await
        };
        let late = |_| self.unreachable(format!("no answer within {WITHIN:?}"));
        let Answer { status, body } = timeout(WITHIN, exchange).await.map_err(late)??;
        if status != StatusCode::OK {
            return Err(refusal::refused(&self.host, status.as_u16(), &body));
        }
        let garbage = |source| CredentialsError::Garbage { endpoint: self.host.clone(), shown: issued::shown(&body), source };
        issued::from_iot(&body).map_err(garbage)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let identity = self.identity()?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unreachable(error))?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)));
        Ok(Arc::new(config))
    }

    async fn exchange(&self, tls: TlsStream<TcpStream>) -> Result<Answer, CredentialsError> {
        let failed = |error: hyper::Error| self.failed(error.into());
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(failed)?;
        let mut request = Request::get(&self.path).header(header::HOST, &self.authority);
        if let Some(thing) = &self.thing_name {
            request = request.header("x-amzn-iot-thingname", thing);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.unreachable(error))?;
        let mut answer = pin!(async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            self.clock.learn(header(header::DATE), header(header::AGE));
            let status = response.status();
            let body = read(response.into_body()).await.map_err(|source| self.failed(source))?;
            Ok(Answer { status, body })
        });
        // Nobody but this task drives the connection. When it has ended, what it has read is still to be had.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    /// TLS or HTTP came to nothing.
    fn failed(&self, source: Cause) -> CredentialsError {
        let endpoint = self.host.clone();
        if let Some(untimely) = Untimely::of(&endpoint, &*source) {
            return CredentialsError::Untimely(untimely);
        }
        match tls_error(&*source) {
            Some(TlsError::InvalidCertificate(_)) => {
                CredentialsError::Untrusted { endpoint, source: Trouble::before(&*source).into() }
            }
            // It has seen our certificate, or has missed it; TLS 1.3 tells only after the handshake.
            Some(TlsError::AlertReceived(_)) => {
                CredentialsError::NotAccepted { endpoint, certificate: self.certificate.clone(), source }
            }
            _ => self.unreachable(source),
        }
    }

    fn unreachable(&self, source: impl Into<Cause>) -> CredentialsError {
        let source = Trouble::before(&*source.into());
        CredentialsError::Unreachable { endpoint: self.host.clone(), source: source.into() }
    }
}

struct Answer {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
}

/// The whole body, in memory that does not move, so that it can be wiped.
async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes").into());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
