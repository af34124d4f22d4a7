//! Folders that readings are written to.

use super::Problems;
use crate::config::{Config, DestinationConfig, FileConfig};

pub(super) fn check(name: &str, file: &FileConfig, config: &Config, problems: &mut Problems) {
    let at = |key| ["destinations", name, key];
    if file.path.as_os_str().is_empty() {
        problems.missing(&at("path"), "is missing; write the folder, for example path = \"/media/usb/headwater\"");
    } else if file.path.is_relative() {
        let path = file.path.display();
        let text = format!("is \"{path}\", and from where is not said; write the whole path, such as \"/media/usb/headwater\"");
        problems.wrong(&at("path"), text);
    }
    let same = |other: &DestinationConfig| matches!(other, DestinationConfig::File(other) if other.path == file.path);
    if let Some((other, _)) = config.destinations.iter().find(|(other, config)| other.as_str() < name && same(config)) {
        let text = format!("is that of destinations.{other}; let streams lead to one of the two, or write another folder");
        problems.wrong(&at("path"), text).rests_on(&["destinations", other, "path"]);
    }
    if file.file_size.0 == 0 {
        problems.wrong(&at("file_size"), "is \"0 B\"; write for example \"16 MiB\"");
    }
    if file.file_age.is_zero() {
        problems.wrong(&at("file_age"), "is \"0s\"; write for example \"1h\"");
    }
    if file.max_size.0 < file.file_size.0.saturating_mul(2) {
        let text = format!(
            "is {:?}, and one file may have {:?}; write at least twice as much, or lower file_size",
            file.max_size.to_string(),
            file.file_size.to_string()
        );
        problems.wrong(&at("max_size"), text).rests_on(&at("file_size"));
    }
}
