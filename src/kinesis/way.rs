//! One request: whether it left, what came back, and what its failure is.

use std::{
    error::Error,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_sdk_kinesis::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef},
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connection::{CaptureSmithyConnection, ConnectionMetadata},
        interceptors::dyn_dispatch_hint,
        orchestrator::HttpResponse,
    },
};

use super::{
    Cause, Refusal,
    answer::{Seen, harmless},
    clock::ServiceClock,
    credentials::CredentialsError,
    guard::PublicAddress,
    trouble::Trouble,
    verdict::Verdict,
};
use crate::reading::Timestamp;

/// A signature is taken for five minutes: one that was refused although the clock was less wrong than this was refused for another
/// reason. Source: AWS IAM user guide, "Signature Version 4".
const TOLERATED: Duration = Duration::from_mins(4);
pub(super) trait ServiceError: Error + ProvideErrorMetadata + Send + Sync + 'static {}
impl<E: Error + ProvideErrorMetadata + Send + Sync + 'static> ServiceError for E {}

pub(super) trait Answering<T, E>: Future<Output = Result<T, SdkError<E, HttpResponse>>> {}
impl<T, E, F: Future<Output = Result<T, SdkError<E, HttpResponse>>>> Answering<T, E> for F {}

/// How far a request came that brought nothing.
pub(super) enum Failure {
    Barred(PublicAddress),
    NoCredentials(Arc<CredentialsError>),
    NotSent(Cause),
    NoAnswer(Trouble),
    Refused(Refusal),
}

impl Failure {
    /// There are none to sign it with.
    pub(super) fn of_credentials(why: Arc<CredentialsError>) -> Self {
        match PublicAddress::in_chain(&*why) {
            Some(public) => Self::Barred(public.clone()),
            None => Self::NoCredentials(why),
        }
    }

    /// Why, if another endpoint might do better.
    pub(super) fn of_endpoint(&self) -> Option<String> {
        match self {
            Self::Barred(public) => Some(public.to_string()),
            Self::NotSent(cause) => Some(Trouble::before(&**cause).to_string()),
            Self::NoAnswer(trouble) => Some(trouble.to_string()),
            Self::Refused(refusal) if refusal.verdict() == Verdict::Unavailable => Some(refusal.to_string()),
            Self::Refused(_) | Self::NoCredentials(_) => None,
        }
    }
}

/// Watches one request: whether it was given a connection, after which its bytes may have left; and what came back.
#[derive(Clone, Debug)]
pub(super) struct Way {
    connected: Arc<OnceLock<CaptureSmithyConnection>>,
    seen: Seen,
    /// Bytes of the answer, at most.
    answer: usize,
    clock: ServiceClock,
    /// By how much the answer has moved the service's time.
    moved: Arc<OnceLock<Duration>>,
}

impl Way {
    /// The answer has at most `answer` bytes, and tells `clock` the service's time.
    pub(super) fn new(answer: usize, clock: ServiceClock) -> Self {
        Self { connected: Arc::default(), seen: Seen::default(), answer, clock, moved: Arc::default() }
    }

    /// Whether it was signed at another time than the service's.
    pub(super) fn was_untimely(&self) -> bool {
        self.moved.get().is_some_and(|moved| *moved > TOLERATED)
    }

    pub(super) fn connection(&self) -> Option<ConnectionMetadata> {
        self.connected.get().and_then(CaptureSmithyConnection::get)
    }

    /// What the SDK's error makes of it.
    pub(super) fn failure<E: ServiceError>(&self, error: SdkError<E, HttpResponse>) -> Failure {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match (status, error.code()) {
            (Some(status), Some(code)) => {
                let message = harmless(error.message().unwrap_or_default());
                Failure::Refused(Refusal { status, code: code.to_owned(), message })
            }
            (Some(status), None) if !(200..300).contains(&status) => {
                Failure::Refused(Refusal { status, code: String::new(), message: self.seen.body() })
            }
            _ => self.unanswered(error.into_source().unwrap_or_else(Into::into)),
        }
    }

    fn unanswered(&self, cause: Cause) -> Failure {
        match PublicAddress::in_chain(&*cause) {
            Some(public) => Failure::Barred(public.clone()),
            None if self.connection().is_some() => Failure::NoAnswer(self.no_answer(&*cause)),
            None => Failure::NotSent(cause),
        }
    }

    /// It was waited for `time`.
    pub(super) fn late(&self, time: Duration) -> Failure {
        match self.connection() {
            Some(_) => Failure::NoAnswer(Trouble::late(time).showing(self.seen.shown())),
            None => Failure::NotSent(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// The service's time when it answered, as far as it says.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.seen.date()
    }

    /// What came back is none, because of `error`.
    pub(super) fn no_answer(&self, error: &(dyn Error + 'static)) -> Trouble {
        Trouble::after(error).showing(self.seen.shown())
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
        let headers = context.response().headers();
        if let Some(moved) = self.clock.learn(headers.get("date"), headers.get("age")) {
            self.moved.get_or_init(|| moved);
        }
        self.seen.watch(context.response_mut(), self.answer);
        Ok(())
    }
}
