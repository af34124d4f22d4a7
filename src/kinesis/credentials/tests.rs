use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use aws_sdk_kinesis::config::Region;
use aws_smithy_runtime_api::client::http::http_client_fn;
use tokio::time::advance;

use super::{schedule::MIN_AGE, *};

/// Credentials whose secret is in a file, so that a look at them tells when it was read.
struct Kept {
    folder: tempfile::TempDir,
    held: HeldCredentials,
}

impl Kept {
    fn with(secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&path(&folder), secret);
        let config = CredentialsConfig::Static { access_key_id: "AKID".into(), secret_access_key_file: path(&folder) };
        let guard = Guard::new(true, &[], &BTreeMap::default());
        let http = http_client_fn(|_, _| panic!("whoever has a file asks nobody"));
        let ask = Asking { region: Region::from_static("eu-west-1"), http, clock: ServiceClock::default() };
        let held = HeldCredentials::open(&config, ask, guard).unwrap();
        Self { folder, held }
    }

    fn path(&self) -> PathBuf {
        path(&self.folder)
    }

    async fn secret(&self) -> Result<String, String> {
        let got = self.held.get().await;
        got.map(|known| known.secret_access_key().to_owned()).map_err(|error| error.in_full())
    }
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("secret")
}

fn write(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_source_is_asked_again_when_the_service_refused_what_it_gave_and_once_a_minute_at_most() {
    let kept = Kept::with("first");
    assert_eq!(kept.secret().await.unwrap(), "first");
    write(&kept.path(), "second");
    kept.held.refused();
    assert_eq!(kept.secret().await.unwrap(), "first", "it has only just been asked");

    advance(MIN_AGE).await;

    assert_eq!(kept.secret().await.unwrap(), "second");
    write(&kept.path(), "third");
    advance(2 * MIN_AGE).await;
    assert_eq!(kept.secret().await.unwrap(), "second", "nobody refused them");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_nobody_is_asked_for_a_while_and_the_reason_stands() {
    let kept = Kept::with("first");
    fs::remove_file(kept.path()).unwrap();
    let why = kept.secret().await.unwrap_err();
    assert!(why.contains("secret can't be read") && why.contains("; check that it exists"), "{why}");
    write(&kept.path(), "second");

    assert_eq!(kept.secret().await.unwrap_err(), why);
    assert!(kept.held.pause().unwrap() >= Duration::from_secs(59));
    advance(Duration::from_secs(76)).await;

    assert_eq!(kept.secret().await.unwrap(), "second");
    assert_eq!(kept.held.pause(), None);
    assert!(kept.held.news().borrow().failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_told() {
    let kept = Kept::with("first");
    let mut news = kept.held.news();
    assert_eq!((news.borrow().kind, news.borrow().expiry), ("static", None));
    fs::remove_file(kept.path()).unwrap();

    kept.secret().await.unwrap_err();

    assert!(news.has_changed().unwrap() && news.borrow_and_update().failure.is_some());
}
