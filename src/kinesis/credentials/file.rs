//! A key whose secret half lies in a file of its own, read anew each time it is needed.

use std::path::PathBuf;

use aws_credential_types::Credentials;

use super::CredentialsError;
use crate::identity::read_secret;

#[derive(Debug)]
pub(super) struct SecretFile {
    pub(super) access_key_id: String,
    pub(super) path: PathBuf,
}

impl SecretFile {
    pub(super) fn read(&self) -> Result<Credentials, CredentialsError> {
        let secret = read_secret(&self.path)?;
        Ok(Credentials::new(&self.access_key_id, secret.reveal().trim(), None, None, "headwater-file"))
    }
}
