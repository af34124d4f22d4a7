//! The chain that every AWS tool walks.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use aws_config::{
    ecs::EcsCredentialsProvider, environment::EnvironmentVariableCredentialsProvider, meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError as SdkError},
};
use aws_sdk_kinesis::config::{Region, timeout::TimeoutConfig};
use aws_smithy_runtime_api::client::{http::SharedHttpClient, result::ConnectorError};
use tokio::{sync::Mutex, time::timeout};

use super::CredentialsError;
use crate::kinesis::{Cause, clock::ServiceClock, tls::Untimely, trouble::causes};

/// How long a question may take: a program or STS may have to be asked over the same slow link.
const WITHIN: Duration = Duration::from_mins(1);
/// How long one request of a question may take, of which there are three at most: else it would be waited for until somebody closes the
/// connection.
const REQUEST: Duration = Duration::from_secs(15);

/// Environment, profile (and the process that it names), web identity, container. Unlike the SDK's own chain it does not end by asking
/// 169.254.169.254 for an EC2 instance's role: on a gateway that address is anyone's on the local network. A profile may still name it.
pub(super) struct Chain {
    ask: Asking,
    /// A question that took too long. It goes on: given up, a program that hangs would be joined by another one a minute later.
    open: Mutex<Option<Question>>,
}

type Question = Pin<Box<dyn Future<Output = provider::Result> + Send>>;

/// What the chain asks with.
pub(crate) struct Asking {
    /// For STS.
    pub(crate) region: Region,
    /// Guards addresses, as everything that we ask of the cloud.
    pub(crate) http: SharedHttpClient,
    /// The service's time, by which requests are signed.
    pub(crate) clock: ServiceClock,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Chain").field("region", &self.ask.region).finish_non_exhaustive()
    }
}

impl Chain {
    /// Asks nobody yet.
    pub(super) fn new(ask: Asking) -> Self {
        Self { ask, open: Mutex::new(None) }
    }

    pub(super) async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let mut open = self.open.lock().await;
        let question = open.get_or_insert_with(|| self.ask.question());
        let Ok(answer) = timeout(WITHIN, question).await else { return Err(CredentialsError::NoAnswer { waited: WITHIN }) };
        *open = None;
        answer.map_err(why)
    }
}

impl Asking {
    /// A walk along the chain. Each one begins anew: the SDK's providers keep the profile as they have read it once, and a mistake that
    /// they have met once, for ever.
    fn question(&self) -> Question {
        let ask = ProviderConfig::without_region()
            .with_region(Some(self.region.clone()))
            .with_http_client(self.http.clone())
            .with_time_source(self.clock.clone())
            .with_timeout_config(TimeoutConfig::builder().operation_attempt_timeout(REQUEST).build());
        let chain = CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(&ask).build())
            .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(&ask).build())
            .or_else("Container", EcsCredentialsProvider::builder().configure(&ask).build());
        Box::pin(async move { chain.provide_credentials().await })
    }
}

/// What an error of the chain means: whoever finds nothing passes the question on, so all other errors are those of a source that is there.
fn why(error: SdkError) -> CredentialsError {
    let nobody = matches!(error, SdkError::CredentialsNotLoaded(_));
    let source: Cause = error.into();
    if nobody {
        return CredentialsError::Chain { source };
    }
    if let Some(untimely) = Untimely::of("whoever gives credentials", &*source) {
        return CredentialsError::Untimely(untimely);
    }
    let broken: Option<&ConnectorError> = causes(&*source).find_map(|cause| cause.downcast_ref());
    if broken.is_some() { CredentialsError::SourceAway { source } } else { CredentialsError::Source { source } }
}
