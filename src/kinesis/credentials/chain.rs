//! The chain that every AWS tool walks.

use aws_config::{
    ecs::EcsCredentialsProvider, environment::EnvironmentVariableCredentialsProvider, meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{Credentials, provider::ProvideCredentials};

use super::CredentialsError;

/// Environment, profile (and the process that it names), web identity, container. Unlike the SDK's own chain it does not end by asking
/// 169.254.169.254 for an EC2 instance's role: on a gateway that address is anyone's on the local network. A profile may still name it.
#[derive(Debug)]
pub(super) struct Chain(CredentialsProviderChain);

impl Chain {
    /// Asks nobody yet.
    pub(super) fn new(ask: &ProviderConfig) -> Self {
        let chain = CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(ask).build())
            .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(ask).build())
            .or_else("Container", EcsCredentialsProvider::builder().configure(ask).build());
        Self(chain)
    }

    pub(super) async fn ask(&self) -> Result<Credentials, CredentialsError> {
        self.0.provide_credentials().await.map_err(|error| CredentialsError::Chain { source: error.into() })
    }
}
