//! The files that a configuration names, and what is filled in when it is loaded.
//!
//! Invariant: every path among the settings is listed here, and here alone, but for the folders that headwater writes.

use std::path::{Path, PathBuf};

use super::{Config, CredentialsConfig, KinesisConfig, MqttConfig, SourceConfig, layers};

/// What a path begins with when its file is one of the credentials that systemd gives to the service. Source: systemd.exec(5),
/// "CREDENTIALS".
pub(crate) const CREDENTIALS_FOLDER: &str = "$CREDENTIALS_DIRECTORY";
/// The variable that says where they are.
pub(super) const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// A file that a configuration names.
pub(super) struct NamedFile<'a> {
    /// The setting.
    pub(super) at: layers::Path,
    pub(super) path: &'a mut PathBuf,
    pub(super) holds: Holds,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Certificates of authorities.
    Roots,
    /// Our own certificate.
    Certificate,
    /// A private key. The certificate that it belongs to, if there is one, is the file before it in the list.
    Key,
    /// A password or the like.
    Secret,
}

impl Holds {
    /// Whether nobody else may see it.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Key | Self::Secret)
    }
}

/// Every file that `config` names.
pub(super) fn files(config: &mut Config) -> Vec<NamedFile<'_>> {
    let mut list = List(Vec::new());
    for (name, source) in &mut config.sources {
        if let SourceConfig::Mqtt(MqttConfig { ca, client_cert, client_key, password_file, .. }) = source {
            let at = |key| ["sources", name, key];
            list.add(&at("ca"), ca, Holds::Roots);
            list.add(&at("client_cert"), client_cert, Holds::Certificate);
            list.add(&at("client_key"), client_key, Holds::Key);
            list.add(&at("password_file"), password_file, Holds::Secret);
        }
    }
    for (name, destination) in &mut config.destinations {
        let Some(KinesisConfig { ca, credentials, .. }) = destination.service_mut() else { continue };
        list.add(&["destinations", name, "ca"], ca, Holds::Roots);
        let at = |key| ["destinations", name, "credentials", key];
        match credentials {
            CredentialsConfig::Iot(iot) => {
                list.add(&at("ca"), &mut iot.ca, Holds::Roots);
                list.add(&at("cert"), Some(&mut iot.cert), Holds::Certificate);
                list.add(&at("key"), Some(&mut iot.key), Holds::Key);
            }
            CredentialsConfig::Static { secret_access_key_file, .. } => {
                list.add(&at("secret_access_key_file"), Some(secret_access_key_file), Holds::Secret);
            }
            CredentialsConfig::Default | CredentialsConfig::Process { .. } => {}
        }
    }
    list.0
}

struct List<'a>(Vec<NamedFile<'a>>);

impl<'a> List<'a> {
    fn add(&mut self, at: &[&str], path: impl IntoIterator<Item = &'a mut PathBuf>, holds: Holds) {
        let at = || at.iter().map(|key| (*key).to_owned()).collect();
        self.0.extend(path.into_iter().map(|path| NamedFile { at: at(), path, holds }));
    }
}

/// Puts in what only this gateway knows: where systemd has put the `credentials` of the service, if it has, and the device's name.
pub(super) fn fill_in(config: &mut Config, credentials: Option<&str>) {
    for file in files(config) {
        if let (Some(folder), Ok(rest)) = (credentials, file.path.strip_prefix(CREDENTIALS_FOLDER)) {
            *file.path = Path::new(folder).join(rest);
        }
    }
    for destination in config.destinations.values_mut() {
        if let Some(CredentialsConfig::Iot(iot)) = destination.service_mut().map(|service| &mut service.credentials) {
            iot.thing_name = iot.thing_name.take().map(|name| name.replace("{device.id}", &config.device.id));
        }
    }
}
