use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::reading::Timestamp;

/// A certificate and its key in files, as PEM.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(until: SystemTime, key: &KeyPair) -> Self {
        let pair = Self { folder: tempfile::tempdir().unwrap() };
        let mut params = CertificateParams::new(["gw-1".to_owned()]).unwrap();
        params.not_after = until.into();
        pair.write("cert.pem", &params.self_signed(key).unwrap().pem(), 0o644);
        pair.write("key.pem", &key.serialize_pem(), 0o600);
        pair
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> Result<Identity, IdentityError> {
        Identity::load(&self.path("cert.pem"), &self.path("key.pem"))
    }
}

fn in_a_year() -> SystemTime {
    SystemTime::now() + Duration::from_hours(24 * 365)
}

#[test]
fn a_certificate_tells_until_when_it_is_accepted() {
    let end = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let identity = Pair::new(end, &KeyPair::generate().unwrap()).load().unwrap();
    assert_eq!(identity.validity.to, Timestamp(2_000_000_000_000));
    assert!(identity.validity.from < identity.validity.to);
    assert_eq!(validity(b"no certificate"), None);
    assert_eq!(validity(&[]), None);
}

#[test]
fn keys_are_read_in_each_form_that_tools_write() {
    // Made with OpenSSL 3: `openssl ecparam -genkey`, `openssl rsa -traditional`, `openssl pkcs8 -topk8`.
    for (form, key) in [
        ("SEC1", include_str!("tests/ec-sec1.pem")),
        ("PKCS#8", include_str!("tests/ec-pkcs8.pem")),
        ("PKCS#1", include_str!("tests/rsa-pkcs1.pem")),
    ] {
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        assert!(ring::sign::any_supported_type(&private).is_ok(), "{form}");
    }
}

#[test]
fn a_pair_that_does_not_belong_together_is_refused() {
    let pair = Pair::new(in_a_year(), &KeyPair::generate().unwrap());
    pair.write("key.pem", &KeyPair::generate().unwrap().serialize_pem(), 0o600);
    let error = pair.load().unwrap_err();
    assert!(matches!(error, IdentityError::Mismatch { .. }), "{error:?}");
}

#[test]
fn whatever_is_wrong_with_the_files_is_said_by_name() {
    let pair = Pair::new(in_a_year(), &KeyPair::generate().unwrap());
    let says = |part: &str| {
        let text = pair.load().unwrap_err().to_string();
        let (what, remedy) = text.split_once("; ").unwrap();
        assert!(what.contains(part) && what.contains(".pem") && !remedy.is_empty(), "{text}");
    };
    let key = fs::read_to_string(pair.path("key.pem")).unwrap();

    pair.write("key.pem", &key, 0o640);
    says("mode 0640");
    pair.write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600);
    says("no private key");
    pair.write("key.pem", &"x".repeat(100_000), 0o600);
    says("key.pem can't be read");
    fs::remove_file(pair.path("key.pem")).unwrap();
    says("key.pem can't be read");
    pair.write("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644);
    says("no certificate");
    pair.write("cert.pem", "", 0o644);
    says("no certificate");
    fs::remove_file(pair.path("cert.pem")).unwrap();
    says("cert.pem can't be read");
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let write = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("wJalr \r\n", 0o600);
    assert_eq!(read_secret(&path).unwrap().reveal(), "wJalr ");

    write("wJalr\n", 0o640);
    assert!(read_secret(&path).unwrap_err().to_string().contains("0640"));
    write("\n", 0o600);
    assert!(matches!(read_secret(&path), Err(SecretFileError::Empty { .. })));
    assert!(matches!(read_secret(&folder.path().join("absent")), Err(SecretFileError::Unreadable { .. })));
}

#[test]
fn what_systemd_gives_to_a_service_shows_the_rights_of_its_group() {
    let of_systemd = Path::new("/run/credentials/headwater.service/key");
    assert!(!open_to_others(of_systemd, 0o440) && open_to_others(of_systemd, 0o444) && open_to_others(of_systemd, 0o460));
    assert!(open_to_others(Path::new("/etc/headwater/key"), 0o440));
    assert!(!open_to_others(Path::new("/etc/headwater/key"), 0o400));
}
