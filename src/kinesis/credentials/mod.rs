//! Who we are to AWS: asked for late, kept while valid, renewed before they expire, given up when the service says so.
//!
//! The SDK's own cache can't be told to forget, and trusts a clock that a gateway without a battery may have wrong, so it is off.
//!
//! Invariant: one question at a time, and none within a minute of the last answer, or within the pause that a failure asks for:
//! whatever the clocks say, and however many requests want credentials.

mod chain;
mod error;
mod file;
mod iot;
mod issued;
mod process;
mod schedule;

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError as SdkError, future},
};
use tokio::{
    sync::{Mutex as Turn, Notify, watch},
    time::Instant,
};
use tracing::debug;

pub(super) use self::chain::Asking;
use self::{
    chain::Chain,
    file::SecretFile,
    iot::Iot,
    process::Process,
    schedule::{Freshness, LONGEST_WAIT, Terms, pause},
};
pub use self::{error::CredentialsError, schedule::Fault};
use super::{ClientError, clock::ServiceClock, guard::Guard};
use crate::{
    backoff::{self, Backoff},
    config::CredentialsConfig,
    identity::Validity,
    reading::Timestamp,
};

/// What is known of the credentials of one destination, for people.
#[derive(Clone, Debug, Default)]
pub struct CredentialsNews {
    /// Where they come from, as `kind` has it.
    pub kind: &'static str,
    /// When those that are in use expire, by the service's clock.
    pub expiry: Option<Timestamp>,
    /// The certificate that stands for us, and how long it does.
    pub certificate: Option<(PathBuf, Validity)>,
    /// Why there are no new ones; none when the last question was answered.
    pub failure: Option<Arc<CredentialsError>>,
}

/// The credentials of one destination; cheap to clone.
#[derive(Clone, Debug)]
pub struct HeldCredentials(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    source: Source,
    clock: ServiceClock,
    known: Mutex<Known>,
    /// Whoever has it asks.
    turn: Turn<()>,
    /// A request has found that it is time to renew them.
    due: Notify,
    news: watch::Sender<CredentialsNews>,
}

#[derive(Debug)]
enum Source {
    Chain(Chain),
    File(SecretFile),
    Iot(Box<Iot>),
    Process(Process),
}

#[derive(Debug)]
struct Known {
    held: Option<Held>,
    failure: Option<Failure>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Held {
    credentials: Credentials,
    terms: Terms,
    since: Instant,
}

#[derive(Debug)]
struct Failure {
    why: Arc<CredentialsError>,
    until: Instant,
}

/// What can be had without asking.
type Answer = Result<Credentials, Arc<CredentialsError>>;

impl Source {
    fn open(config: &CredentialsConfig, ask: Asking, guard: Guard) -> Result<Self, ClientError> {
        match config {
            CredentialsConfig::Default => Ok(Self::Chain(Chain::new(ask))),
            CredentialsConfig::Static { access_key_id, secret_access_key_file } => {
                let file = SecretFile { access_key_id: access_key_id.clone(), path: secret_access_key_file.clone() };
                file.read().map_err(ClientError::Credentials)?;
                Ok(Self::File(file))
            }
            CredentialsConfig::Iot(iot) => Ok(Self::Iot(Box::new(Iot::open(iot, guard, ask.clock)?))),
            CredentialsConfig::Process { command } => Ok(Self::Process(Process::new(command))),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Chain(_) => "default",
            Self::File(_) => "static",
            Self::Iot(_) => "iot",
            Self::Process(_) => "process",
        }
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        match self {
            Self::Chain(chain) => chain.ask().await,
            Self::File(file) => file.read(),
            Self::Iot(iot) => iot.ask().await,
            Self::Process(process) => process.ask().await,
        }
    }

    fn certificate(&self) -> Option<(PathBuf, Validity)> {
        match self {
            Self::Iot(iot) => Some((iot.certificate.clone(), iot.validity()?)),
            Self::Chain(_) | Self::File(_) | Self::Process(_) => None,
        }
    }
}

impl HeldCredentials {
    /// Those of `config`. Nobody is asked yet; a file that can't be used is an error at once.
    pub(super) fn open(config: &CredentialsConfig, ask: Asking, guard: Guard) -> Result<Self, ClientError> {
        let clock = ask.clock.clone();
        let source = Source::open(config, ask, guard)?;
        let news = CredentialsNews { kind: source.kind(), certificate: source.certificate(), ..CredentialsNews::default() };
        Ok(Self(Arc::new(Holder {
            source,
            clock,
            known: Mutex::new(Known { held: None, failure: None, backoff: Backoff::up_to(LONGEST_WAIT) }),
            turn: Turn::new(()),
            due: Notify::new(),
            news: watch::Sender::new(news),
        })))
    }

    /// Those that can be used now. Waits for the source only when there are none.
    pub(super) async fn get(&self) -> Answer {
        if let Some(answer) = self.known() {
            return answer;
        }
        let _turn = self.0.turn.lock().await;
        // Whoever had the turn before may have brought them.
        match self.known() {
            Some(answer) => answer,
            None => self.ask().await,
        }
    }

    /// Renews them whenever a request has found that it is time. Never ends.
    pub async fn renewals(&self) -> Infallible {
        loop {
            self.0.due.notified().await;
            let _turn = self.0.turn.lock().await;
            if self.may_be_renewed()
                && let Err(why) = self.ask().await
            {
                debug!(why = why.in_full(), "credentials were not renewed");
            }
        }
    }

    /// The service did not accept them: they are not used again once others may be asked for.
    pub(super) fn refused(&self) {
        if let Some(held) = &mut self.lock().held {
            held.terms.refused = true;
        }
    }

    /// How long nobody will be asked, after a failure.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.lock().failure.as_ref().map(|failure| failure.until.saturating_duration_since(Instant::now()))
    }

    /// Tells every change of what is known of them.
    pub fn news(&self) -> watch::Receiver<CredentialsNews> {
        self.0.news.subscribe()
    }

    /// Looks at the certificate's file again: somebody may have renewed it.
    pub fn look_at_certificate(&self) {
        let certificate = self.0.source.certificate();
        self.0.news.send_if_modified(|news| {
            let before = std::mem::replace(&mut news.certificate, certificate);
            before != news.certificate
        });
    }

    fn known(&self) -> Option<Answer> {
        let known = self.lock();
        match known.held.as_ref().map(|held| (held.freshness(&self.0.clock), held)) {
            Some((Freshness::Good, held)) => return Some(Ok(held.credentials.clone())),
            Some((Freshness::Due, held)) => {
                self.0.due.notify_one();
                return Some(Ok(held.credentials.clone()));
            }
            Some((Freshness::Expired, _)) | None => {}
        }
        known.failure.as_ref().filter(|failure| Instant::now() < failure.until).map(|failure| Err(failure.why.clone()))
    }

    fn may_be_renewed(&self) -> bool {
        let known = self.lock();
        known.held.as_ref().is_some_and(|held| held.freshness(&self.0.clock) != Freshness::Good)
            && known.failure.as_ref().is_none_or(|failure| failure.until <= Instant::now())
    }

    /// By whoever has the turn.
    async fn ask(&self) -> Answer {
        let asked = self.0.source.ask().await;
        let mut known = self.lock();
        let (answer, expiry) = match asked {
            Ok(credentials) => {
                known.backoff.reset();
                known.failure = None;
                let terms = Terms::new(self.0.clock.now(), credentials.expiry(), backoff::random());
                known.held = Some(Held { credentials: credentials.clone(), terms, since: Instant::now() });
                let expiry = credentials.expiry();
                (Ok(credentials), expiry)
            }
            Err(why) => {
                let why = Arc::new(why);
                let until = Instant::now() + pause(why.fault(), &mut known.backoff, backoff::random());
                known.failure = Some(Failure { why: why.clone(), until });
                (Err(why), known.held.as_ref().and_then(|held| held.terms.expiry))
            }
        };
        drop(known);
        self.0.news.send_replace(CredentialsNews {
            kind: self.0.source.kind(),
            expiry: expiry.map(timestamp),
            certificate: self.0.source.certificate(),
            failure: answer.as_ref().err().cloned(),
        });
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn freshness(&self, clock: &ServiceClock) -> Freshness {
        self.terms.freshness(clock.now(), self.since.elapsed())
    }
}

impl ProvideCredentials for HeldCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.get().await.map_err(SdkError::provider_error) })
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
