//! The way to one endpoint, whichever service answers there: connections, credentials, and how far a request came.
//!
//! One link lives as long as the agent: its client learns from every answer how wrong this gateway's clock is, and signs accordingly.
//!
//! Invariant: opening it sends nothing and waits for nobody, so an absent endpoint or name server delays no start.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use aws_config::{SdkConfig, provider_config::ProviderConfig};
use aws_credential_types::provider::{SharedCredentialsProvider, error::CredentialsError};
use aws_sdk_kinesis::{
    config::{
        BehaviorVersion, ConfigBag, IdentityCache, Intercept, Region, RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef},
        retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connection::{CaptureSmithyConnection, ConnectionMetadata},
        dns::ResolveDns,
        interceptors::dyn_dispatch_hint,
        orchestrator::HttpResponse,
    },
};

use super::{
    Cause, ClientError, PutError, Refusal, Service, Target,
    answer::{Seen, harmless},
    credentials::{self, HeldCredentials},
    endpoint::{Endpoint, Resolver},
    guard::{Guard, PublicAddress},
    trust::Trust,
};
use crate::{config::KinesisConfig, status::with_causes};

/// For name, TCP and TLS together: four round trips or more, each of up to two seconds on a mobile link that wakes up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes in the answer to a put: 500 records, each with a shard and a sequence number or a message, are a quarter of it.
pub(super) const PUT_ANSWER: usize = 1 << 20;

/// The way to one endpoint; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    service: Service,
    endpoint: Endpoint,
    resolver: Resolver,
    credentials: HeldCredentials,
    connected: Arc<Mutex<Option<SocketAddr>>>,
}

impl Link {
    /// Gets everything ready, and what an SDK client that goes this way is built from. Reads the files that `config` names; contacts
    /// nobody.
    pub(super) fn open(
        service: Service,
        config: &KinesisConfig,
        names: impl ResolveDns + 'static,
    ) -> Result<(Self, SdkConfig), ClientError> {
        let endpoint = Endpoint::of(service, config)?;
        let guard = Guard::new(config.private_only, &config.allow_addresses, &config.resolve).asking(names);
        let refused = |source| ClientError::Public { url: endpoint.url.clone(), source };
        guard.judge_literal(&endpoint.host).map_err(refused)?;
        let resolver = Resolver::new(guard.clone());
        let trust = Trust::load(config.ca.as_deref(), endpoint.tls)?;
        let region = Region::new(config.region.clone());
        let ask =
            ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(trust.credentials_client(&guard));
        let credentials = HeldCredentials::from(credentials::source(&config.credentials, &ask)?);

        let settings = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .endpoint_url(&*endpoint.url)
            .http_client(trust.endpoint_client(&guard, resolver.clone()))
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            // Nothing but the caller's limit for the rest: a large record takes long on a slow link, and that is no fault.
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Ok((Self { service, endpoint, resolver, credentials, connected: Arc::default() }, settings))
    }

    /// The endpoint's URL.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint.url
    }

    /// The address of the last connection, or else the one that was tried last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let connected = *self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.or_else(|| self.resolver.last().map(|ip| SocketAddr::new(ip, self.endpoint.port)))
    }

    /// A stream at its end, as errors name it.
    pub(super) fn target(&self, stream: &str) -> Target {
        Target { service: self.service, stream: stream.to_owned(), endpoint: Arc::clone(&self.endpoint.url) }
    }

    /// Sends one request and says how far it came.
    pub(super) async fn send<T, E: ServiceError, F: Answering<T, E>>(
        &self,
        timeout: Duration,
        way: &Way,
        start: impl FnOnce(Way) -> F,
    ) -> Result<T, Failure> {
        let exchange = async {
            // Asked for before the SDK does, which would call it a failed request.
            self.credentials.get().await.map_err(no_credentials)?;
            start(way.clone()).await.map_err(|error| failure(error, way))
        };
        let outcome = match tokio::time::timeout(timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(way.failure(format!("no answer within {timeout:?}").into())),
        };
        if let Some(address) = way.connection().and_then(|connection| connection.remote_addr()) {
            *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        }
        match &outcome {
            Err(Failure::NotSent(_)) => self.resolver.next_turn(),
            // What an HTTP/2 connection did not answer it may never answer again, and it would be used again for an hour.
            Err(Failure::NoAnswer(_)) => way.connection().iter().for_each(ConnectionMetadata::poison),
            _ => {}
        }
        outcome
    }

    /// Why a put to `target` failed. Credentials that were refused are not used again.
    pub(super) async fn put_error(&self, target: Target, failure: Failure) -> PutError {
        match failure {
            Failure::Barred(source) => PutError::Public { target, source },
            Failure::NoCredentials(source) => PutError::Credentials { target, source },
            Failure::NotSent(source) => PutError::Unreachable { target, source },
            Failure::NoAnswer(source) => PutError::Unknown { target, source },
            Failure::Refused(refusal) => {
                let error = PutError::refused(target, refusal);
                if matches!(error, PutError::Credentials { .. }) {
                    self.credentials.forget().await;
                }
                error
            }
        }
    }
}

pub(super) trait ServiceError: Error + ProvideErrorMetadata + Send + Sync + 'static {}
impl<E: Error + ProvideErrorMetadata + Send + Sync + 'static> ServiceError for E {}

pub(super) trait Answering<T, E>: Future<Output = Result<T, SdkError<E, HttpResponse>>> {}
impl<T, E, F: Future<Output = Result<T, SdkError<E, HttpResponse>>>> Answering<T, E> for F {}

/// How far a request came that brought nothing.
pub(super) enum Failure {
    Barred(PublicAddress),
    NoCredentials(Cause),
    NotSent(Cause),
    NoAnswer(Cause),
    Refused(Refusal),
}

/// Watches one request: whether it was given a connection, after which its bytes may have left; and what came back.
#[derive(Clone, Debug)]
pub(super) struct Way {
    connected: Arc<OnceLock<CaptureSmithyConnection>>,
    seen: Seen,
    /// Bytes of the answer, at most.
    answer: usize,
}

impl Way {
    /// Reads at most `answer` bytes of what comes back.
    pub(super) fn reading(answer: usize) -> Self {
        Self { connected: Arc::default(), seen: Seen::default(), answer }
    }

    fn connection(&self) -> Option<ConnectionMetadata> {
        self.connected.get().and_then(CaptureSmithyConnection::get)
    }

    fn failure(&self, cause: Cause) -> Failure {
        match PublicAddress::in_chain(&*cause) {
            Some(public) => Failure::Barred(public.clone()),
            None if self.connection().is_some() => Failure::NoAnswer(self.with_answer(cause)),
            None => Failure::NotSent(cause),
        }
    }

    /// `cause`, and what came back, if anything did.
    pub(super) fn with_answer(&self, cause: Cause) -> Cause {
        match self.seen.shown() {
            Some(shown) => format!("{}: {shown}", with_causes(&*cause)).into(),
            None => cause,
        }
    }
}

#[dyn_dispatch_hint]
impl Intercept for Way {
    fn name(&self) -> &'static str {
        "Way"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(capture) = config.load::<CaptureSmithyConnection>() {
            self.connected.get_or_init(|| capture.clone());
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.seen.watch(context.response_mut(), self.answer);
        Ok(())
    }
}

fn no_credentials(error: CredentialsError) -> Failure {
    match PublicAddress::in_chain(&error) {
        Some(public) => Failure::Barred(public.clone()),
        None => Failure::NoCredentials(error.into()),
    }
}

fn failure<E: ServiceError>(error: SdkError<E, HttpResponse>, way: &Way) -> Failure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (status, error.code()) {
        (Some(status), Some(code)) => {
            let message = harmless(error.message().unwrap_or_default());
            Failure::Refused(Refusal { status, code: code.to_owned(), message })
        }
        (Some(status), None) if !(200..300).contains(&status) => {
            Failure::Refused(Refusal { status, code: String::new(), message: way.seen.body() })
        }
        _ => way.failure(error.into_source().unwrap_or_else(Into::into)),
    }
}
