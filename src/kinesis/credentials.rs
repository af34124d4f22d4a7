//! Who we are to AWS, asked for late, kept while valid, and forgotten when the service says so.
//!
//! The SDK's own cache can't be told to forget, and trusts a clock that a gateway without a battery may have wrong, so it is off.
//!
//! Invariant: whatever the clock says, the source is asked at most once a minute, unless the service refused what it gave.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aws_config::{
    ecs::EcsCredentialsProvider, environment::EnvironmentVariableCredentialsProvider, meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use tokio::sync::Mutex;

use super::ClientError;
use crate::config::CredentialsConfig;

/// Shortest time between two questions to the source.
const MIN_AGE: Duration = Duration::from_mins(1);
/// Credentials without an expiry may have been replaced in their file after this time.
const MAX_AGE: Duration = Duration::from_mins(15);
/// So long before they expire new ones are asked for; the old ones serve until then. Greengrass does the same.
const MARGIN: Duration = Duration::from_mins(5);

/// The credentials of one destination; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct HeldCredentials(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    source: SharedCredentialsProvider,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    credentials: Credentials,
    asked: Instant,
}

/// What may be done with credentials that were asked for some time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    /// Use them.
    Good,
    /// Ask for new ones; use these if there are none.
    Due,
    /// Ask for new ones.
    Expired,
}

fn freshness(expiry: Option<SystemTime>, now: SystemTime, age: Duration) -> Freshness {
    match expiry {
        _ if age < MIN_AGE => Freshness::Good,
        None if age < MAX_AGE => Freshness::Good,
        None => Freshness::Due,
        Some(expiry) if now + MARGIN < expiry => Freshness::Good,
        Some(expiry) if now < expiry => Freshness::Due,
        Some(_) => Freshness::Expired,
    }
}

impl HeldCredentials {
    /// Credentials that come from `source`, which is not asked yet.
    pub(super) fn from(source: SharedCredentialsProvider) -> Self {
        Self(Arc::new(Holder { source, held: Mutex::new(None) }))
    }

    /// Asks the source if need be; one question at a time.
    pub(super) async fn get(&self) -> provider::Result {
        let mut held = self.0.held.lock().await;
        let known = held.as_ref().map(|held| (held.credentials.clone(), held.asked.elapsed()));
        let fallback = match known {
            None => None,
            Some((known, age)) => match freshness(known.expiry(), SystemTime::now(), age) {
                Freshness::Good => return Ok(known),
                Freshness::Due => Some(known),
                Freshness::Expired => None,
            },
        };
        let credentials = match (self.0.source.provide_credentials().await, fallback) {
            (Ok(fresh), _) => fresh,
            (Err(_), Some(known)) => known,
            (Err(error), None) => return Err(error),
        };
        *held = Some(Held { credentials: credentials.clone(), asked: Instant::now() });
        Ok(credentials)
    }

    /// The service refused them: the next request asks the source.
    pub(super) async fn forget(&self) {
        *self.0.held.lock().await = None;
    }
}

impl ProvideCredentials for HeldCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

/// Where the credentials of `config` come from. Nothing is asked; a secret that can't be read is an error at once.
pub(super) fn source(config: &CredentialsConfig, ask: &ProviderConfig) -> Result<SharedCredentialsProvider, ClientError> {
    match config {
        CredentialsConfig::Default => Ok(SharedCredentialsProvider::new(chain(ask))),
        CredentialsConfig::Static { access_key_id, secret_access_key_file } => {
            let file = SecretFile { access_key_id: access_key_id.clone(), path: secret_access_key_file.clone() };
            match file.read() {
                Ok(_) => Ok(SharedCredentialsProvider::new(file)),
                Err(source) => Err(ClientError::Secret { path: file.path, source: source.into() }),
            }
        }
    }
}

/// Environment, profile (and the process that it names), web identity, container. Unlike the SDK's own chain it does not end by asking
/// 169.254.169.254 for an EC2 instance's role: on a gateway that address is anyone's on the local network. A profile may still name it.
fn chain(ask: &ProviderConfig) -> CredentialsProviderChain {
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(ask).build())
        .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(ask).build())
        .or_else("Container", EcsCredentialsProvider::builder().configure(ask).build())
}

/// A key whose secret half lies in a file of its own, read anew each time it is needed.
#[derive(Debug)]
struct SecretFile {
    access_key_id: String,
    path: PathBuf,
}

impl SecretFile {
    fn read(&self) -> io::Result<Credentials> {
        let secret = read_secret(&self.path)?;
        Ok(Credentials::new(&self.access_key_id, secret, None, None, "headwater-file"))
    }
}

impl ProvideCredentials for SecretFile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read().map_err(CredentialsError::provider_error))
    }
}

/// The text of `path` without the line end; refused when anyone but its owner may read it.
fn read_secret(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)?.mode();
    if mode & 0o077 != 0 {
        let what = format!("its mode is {:03o}, so others may use it", mode & 0o777);
        return Err(io::Error::new(ErrorKind::PermissionDenied, what));
    }
    let text = fs::read_to_string(path)?;
    match text.trim() {
        "" => Err(io::Error::new(ErrorKind::InvalidData, "it is empty")),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn credentials_are_renewed_before_they_expire_and_serve_until_then() {
        let now = SystemTime::UNIX_EPOCH + 1_000_000 * HOUR;
        assert_eq!(freshness(Some(now + HOUR), now, MIN_AGE), Freshness::Good);
        assert_eq!(freshness(Some(now + MARGIN), now, HOUR), Freshness::Due);
        assert_eq!(freshness(Some(now), now, HOUR), Freshness::Expired);
        assert_eq!(freshness(None, now, MIN_AGE), Freshness::Good);
        assert_eq!(freshness(None, now, MAX_AGE), Freshness::Due);
    }

    #[test]
    fn a_clock_that_is_years_ahead_does_not_hammer_the_source() {
        let now = SystemTime::UNIX_EPOCH + 1_000_000 * HOUR;
        assert_eq!(freshness(Some(now - 9_000 * HOUR), now, Duration::from_secs(59)), Freshness::Good);
    }

    #[derive(Debug, Default)]
    struct Counting(AtomicU32);

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            future::ProvideCredentials::ready(Ok(Credentials::new(format!("key-{n}"), "secret", None, None, "test")))
        }
    }

    #[tokio::test]
    async fn the_source_is_asked_again_when_the_service_refused_what_it_gave() {
        let held = HeldCredentials::from(SharedCredentialsProvider::new(Counting::default()));
        assert_eq!(held.get().await.unwrap().access_key_id(), "key-0");
        assert_eq!(held.get().await.unwrap().access_key_id(), "key-0");

        held.forget().await;

        assert_eq!(held.get().await.unwrap().access_key_id(), "key-1");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "wJalr\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret(&path).unwrap(), "wJalr");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

        assert!(read_secret(&path).unwrap_err().to_string().contains("640"));
        assert!(read_secret(&folder.path().join("absent")).is_err());
    }
}
