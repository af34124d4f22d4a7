//! The files that a configuration names: are they there, and do secrets stay secret.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::Problems;
use crate::config::{Config, Files, SourceConfig, check::Problem};

/// Every problem with the files that `config` names. One that others can read is wrong anywhere; one that is not there, only where
/// the gateway itself is looked at.
pub(in crate::config) fn check_files(config: &Config, files: Files) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    for (name, source) in &config.sources {
        let SourceConfig::Mqtt(mqtt) = source else { continue };
        let mut look =
            |key, file: &Option<_>, secret| file_is_fit(&["sources", name, key], file.as_deref(), secret, files, &mut problems);
        look("ca", &mqtt.ca, false);
        look("client_cert", &mqtt.client_cert, false);
        look("client_key", &mqtt.client_key, true);
        look("password_file", &mqtt.password_file, true);
    }
    for (name, destination) in &config.destinations {
        file_is_fit(&["destinations", name, "ca"], destination.service().ca.as_deref(), false, files, &mut problems);
    }
    problems.0
}

fn file_is_fit(at: &[&str], file: Option<&Path>, secret: bool, files: Files, problems: &mut Problems) {
    let Some(file) = file else { return };
    let shown = file.display();
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => {
            problems.wrong(at, format!("is {shown}, a folder; write the path of a file"));
        }
        Ok(found) if secret && found.permissions().mode() & 0o077 != 0 => {
            let mode = found.permissions().mode() & 0o777;
            problems.wrong(at, format!("is {shown}, which others can read or change (mode {mode:04o}); run chmod 600 {shown}"));
        }
        Ok(_) if files == Files::Checked => {
            if let Err(error) = File::open(file) {
                problems.wrong(
                    at,
                    format!("is {shown}, which this user cannot read ({error}); give it to the user that the agent runs as"),
                );
            }
        }
        Ok(_) => {}
        Err(_) if files == Files::Skipped => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            problems.wrong(at, format!("is {shown}, and there is no such file; put it there or write another path"));
        }
        Err(error) => {
            problems.wrong(at, format!("is {shown}, which cannot be looked at ({error}); check the rights of its folders"));
        }
    }
}
