//! The way to a service, whichever it is: its endpoints, connections and credentials.
//!
//! A link lives as long as the agent, and goes by the first of its endpoints that answers.
//!
//! Invariant: opening it sends nothing and waits for nobody, so an absent endpoint or name server delays no start.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::{
    BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::client::{
    connection::ConnectionMetadata,
    dns::{ResolveDns, SharedDnsResolver},
};

use super::{
    ClientError, PutError, Service, Target,
    clock::ServiceClock,
    credentials::{Asking, HeldCredentials},
    endpoint::{Endpoint, Resolver},
    failover::Failover,
    guard::Guard,
    http::Http,
    tls::Untimely,
    trial::Trial,
    trouble::Trouble,
    trust::Trust,
    tunnel::Proxy,
    way::{Answering, Failure, ServiceError, Way},
};
use crate::{backoff, config::KinesisConfig};

/// For name, TCP and TLS together: four round trips or more, each of up to two seconds on a mobile link that wakes up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An endpoint that was left and takes longer than this to say anything is not back.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes in the answer to a put: 500 records, each with a shard and a sequence number or a message, are a quarter of it.
pub(super) const PUT_ANSWER: usize = 1 << 20;

/// The way to a service, by any of its endpoints; cheap to clone. `C` is the SDK's client.
#[derive(Debug)]
pub(super) struct Link<C>(Arc<Inner<C>>);

impl<C> Clone for Link<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<C> {
    service: Service,
    ends: Vec<End<C>>,
    failover: Mutex<Failover>,
    credentials: HeldCredentials,
    trial: Trial,
    clock: ServiceClock,
}

/// One endpoint.
#[derive(Debug)]
struct End<C> {
    sdk: C,
    endpoint: Endpoint,
    resolver: Resolver,
    connected: Mutex<Option<SocketAddr>>,
}

/// The way of one request, to one of the endpoints.
#[derive(Debug)]
pub(super) struct Passage<'a, C> {
    link: &'a Inner<C>,
    place: usize,
}

impl<C> Link<C> {
    /// Gets everything ready; `build` makes the SDK's client. Reads the files that `config` names; contacts nobody.
    pub(super) fn open(
        service: Service,
        config: &KinesisConfig,
        names: impl ResolveDns + 'static,
        build: impl Fn(&SdkConfig) -> C,
    ) -> Result<Self, ClientError> {
        let endpoints = Endpoint::all(service, config)?;
        let proxy = config.proxy.as_deref().map(proxy).transpose()?;
        let (proxy, way) = proxy.unzip();
        let guard = Guard::new(config.private_only, &config.allow_addresses, &config.resolve).asking(names).through(way);
        for endpoint in &endpoints {
            let refused = |source| ClientError::Public { url: endpoint.url.clone(), source };
            guard.judge_literal(&endpoint.host).map_err(refused)?;
        }
        let trust = Trust::load(config.ca.as_deref(), endpoints.iter().any(|endpoint| endpoint.tls))?;
        let region = Region::new(config.region.clone());
        let resolver = SharedDnsResolver::new(guard.clone());
        // Whoever issues credentials on this machine or on its cable is not behind the proxy.
        let beyond = proxy.clone().map(|proxy| proxy.no_proxy("localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10,fd00:ec2::/32"));
        let http = Http { guard: guard.clone(), resolver, tls: trust.of_credentials(), proxy: beyond }.client();
        let clock = ServiceClock::default();
        let ask = Asking { region: region.clone(), http, clock: clock.clone() };
        let credentials = HeldCredentials::open(&config.credentials, ask, guard.clone())?;

        let trust = Arc::new(trust);
        let trial = Trial {
            guard: guard.clone(),
            trust: Arc::clone(&trust),
            endpoints: endpoints.clone(),
            credentials: credentials.clone(),
        };
        let end = |endpoint: Endpoint| {
            let resolver = Resolver::new(guard.clone());
            let shared = SharedDnsResolver::new(resolver.clone());
            let http = Http { guard: guard.clone(), resolver: shared, tls: trust.of_endpoint(), proxy: proxy.clone() };
            let settings = SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(region.clone())
                .endpoint_url(&*endpoint.url)
                .http_client(http.client())
                .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
                .identity_cache(IdentityCache::no_cache())
                // Our own clock learns from the answers, and need not be corrected again.
                .time_source(clock.clone())
                .disable_clock_skew_correction(true)
                .retry_config(RetryConfig::disabled())
                // Nothing but the caller's limit for the rest: a large record takes long on a slow link, and that is no fault.
                .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .build();
            End { sdk: build(&settings), endpoint, resolver, connected: Mutex::default() }
        };
        let ends: Vec<_> = endpoints.into_iter().map(end).collect();
        let failover = Mutex::new(Failover::of(ends.len()));
        Ok(Self(Arc::new(Inner { service, ends, failover, credentials, trial, clock })))
    }

    /// The URL that the next request goes to.
    pub(super) fn endpoint(&self) -> &str {
        &self.0.current().endpoint.url
    }

    /// The address of the last connection there, or else the one that was tried last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let end = self.0.current();
        let connected = *end.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.or_else(|| end.resolver.last().map(|ip| SocketAddr::new(ip, end.endpoint.port)))
    }

    /// Endpoints before that one, and why they are not used.
    pub(super) fn left(&self) -> Vec<(&str, String)> {
        let failover = self.0.failover();
        failover.left().map(|(place, why)| (&*self.0.ends[place].endpoint.url, why.to_owned())).collect()
    }

    /// What requests are signed with, and at what time.
    pub(super) fn signing(&self) -> (HeldCredentials, ServiceClock) {
        (self.0.credentials.clone(), self.0.clock.clone())
    }

    /// The way of the next request.
    pub(super) fn passage(&self) -> Passage<'_, C> {
        Passage { link: &self.0, place: self.0.failover().next() }
    }

    /// The layers of the way, to be tried out.
    pub(super) fn trial(&self) -> Trial {
        self.0.trial.clone()
    }

    /// The place of an endpoint that is to be asked now whether it is back; see [`Self::passage_to`].
    pub(super) fn look(&self, now: Instant) -> Option<usize> {
        self.0.failover().look(now)
    }

    /// The way to the endpoint at `place`, which [`Self::look`] gave, or which is one of [`Self::trial`].
    pub(super) fn passage_to(&self, place: usize) -> Passage<'_, C> {
        Passage { link: &self.0, place }
    }
}

impl<C> Inner<C> {
    fn failover(&self) -> MutexGuard<'_, Failover> {
        self.failover.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> &End<C> {
        let place = self.failover().next();
        &self.ends[place]
    }
}

impl<C> Passage<'_, C> {
    fn end(&self) -> &End<C> {
        &self.link.ends[self.place]
    }

    /// The SDK's client.
    pub(super) fn sdk(&self) -> &C {
        &self.end().sdk
    }

    /// A stream at its end, as errors name it.
    pub(super) fn target(&self, stream: &str) -> Target {
        Target { service: self.link.service, stream: stream.to_owned(), endpoint: Arc::clone(&self.end().endpoint.url) }
    }

    /// Sends one request and says how far it came.
    pub(super) async fn send<T, E: ServiceError, F: Answering<T, E>>(
        &self,
        timeout: Duration,
        way: &Way,
        start: impl FnOnce(Way) -> F,
    ) -> Result<T, Failure> {
        // Asked for before the SDK does, which would call it a failed request; and in its own time, which is not that of a put.
        if let Err(why) = self.link.credentials.get().await {
            return Err(Failure::of_credentials(why));
        }
        let exchange = async { start(way.clone()).await.map_err(|error| way.failure(error)) };
        let outcome = match tokio::time::timeout(timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(way.late(timeout)),
        };
        self.learn(&outcome, way);
        outcome
    }

    fn learn<T>(&self, outcome: &Result<T, Failure>, way: &Way) {
        let end = self.end();
        if let Some(address) = way.connection().and_then(|connection| connection.remote_addr()) {
            *end.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        }
        match outcome {
            Err(Failure::NotSent(_)) => end.resolver.next_turn(),
            // What an HTTP/2 connection did not answer it may never answer again, and it would be used again for an hour.
            Err(Failure::NoAnswer(_)) => way.connection().iter().for_each(ConnectionMetadata::poison),
            // What was signed at the wrong time says nothing of the credentials; the next signature has the right one.
            Err(Failure::Refused(refusal)) if refusal.is_of_credentials() && !way.was_untimely() => self.link.credentials.refused(),
            _ => {}
        }
        let (now, mut failover) = (Instant::now(), self.link.failover());
        match outcome.as_ref().err().and_then(Failure::of_endpoint) {
            Some(why) => failover.failed(now, self.place, why, backoff::random()),
            None => failover.answered(now, self.place),
        }
    }

    /// Why a put to `target` failed.
    pub(super) fn put_error(&self, target: Target, failure: Failure) -> PutError {
        match failure {
            Failure::Barred(source) => PutError::Public { target, source },
            Failure::NoCredentials(why) => PutError::NoCredentials { target, why, pause: self.link.credentials.pause() },
            Failure::NotSent(source) => match Untimely::of(&self.end().endpoint.host, &*source) {
                Some(untimely) => PutError::Untimely { target, untimely },
                None => PutError::Unreachable { target, source: Trouble::before(&*source) },
            },
            Failure::NoAnswer(source) => PutError::Unknown { target, source },
            Failure::Refused(refusal) => PutError::refused(target, refusal),
        }
    }

    /// Watches a request whose answer has at most `answer` bytes.
    pub(super) fn way(&self, answer: usize) -> Way {
        Way::new(answer, self.link.clock.clone())
    }
}

/// As the SDK wants it, and as we do.
fn proxy(url: &str) -> Result<(ProxyConfig, Proxy), ClientError> {
    let refused = |source| ClientError::Proxy { url: url.to_owned(), source };
    let own = Proxy::parse(url).map_err(|why| refused(why.into()))?;
    let sdks = ProxyConfig::all(url).map_err(|error| refused(error.into()))?;
    Ok((sdks, own))
}
