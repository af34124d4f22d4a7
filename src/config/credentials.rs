//! Settings of who we are to AWS.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who we are to AWS.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CredentialsConfig {
    /// Environment, profile, process, container: the chain that every AWS tool walks.
    #[default]
    Default,
    /// The device's certificate, at the credentials provider of AWS IoT.
    Iot(IotConfig),
    /// What a program prints, as every AWS tool knows it under `credential_process`.
    Process {
        /// The program and its arguments. No shell reads them.
        command: Vec<String>,
    },
    /// One key that never changes, for emulators and tests. Its secret half is not a setting: it would end up in backups.
    Static {
        /// The public half.
        access_key_id: String,
        /// File that holds the secret half alone, readable by us only.
        secret_access_key_file: PathBuf,
    },
}

/// The device's certificate, at the credentials provider of AWS IoT.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IotConfig {
    /// `https://PREFIX.credentials.iot.REGION.amazonaws.com`, of the account and region where the certificate is registered. The name
    /// stays as it is even where its address is another one: AWS IoT tells accounts apart by it.
    pub endpoint: String,
    /// The role alias that leads to the role we take.
    pub role_alias: String,
    /// PEM file with the roots that the endpoint's certificate must come from, Amazon Root CA 1. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file with the device's certificate; with its chain, where the authority is registered with AWS IoT.
    pub cert: PathBuf,
    /// PEM file with its private key, readable by us only.
    pub key: PathBuf,
    /// The thing's name, for policies with `${credentials-iot:ThingName}`; `{device.id}` is filled in. Default: none is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thing_name: Option<String>,
}
