//! The files that a configuration names: are they there, do secrets stay secret, and are they what they should be.

use std::{
    fmt::Display,
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{Problem, Problems};
use crate::{
    config::{
        Config, Files,
        named::{self, CREDENTIALS_FOLDER, CREDENTIALS_VARIABLE, Holds, NamedFile},
    },
    identity::{Identity, certificates, open_to_others, read_secret},
};

/// Every problem with the files that `config` names. One that others can read is wrong anywhere; one that is not there, or holds
/// something else, only where the gateway itself is looked at.
pub(in crate::config) fn check_files(config: &Config, files: Files) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    let mut config = config.clone();
    let mut before: Option<NamedFile> = None;
    for file in named::files(&mut config) {
        let certificate = before.take().filter(|before| before.holds == Holds::Certificate);
        let at: Vec<_> = file.at.iter().map(String::as_str).collect();
        let files = match files {
            Files::OfDestinations if at.first() == Some(&"destinations") => Files::Checked,
            Files::OfDestinations => Files::Skipped,
            files => files,
        };
        if file.holds.is_secret() && is_secret_itself(file.path) {
            // Not quoted: this goes to terminals and logs.
            problems
                .wrong(&at, "is not the path of a file; put the secret into a file of its own and write that one's absolute path");
            continue;
        }
        if !is_fit(&at, &file, files, &mut problems) {
            continue;
        }
        if files == Files::Checked {
            let held = match (file.holds, certificate) {
                (Holds::Roots | Holds::Certificate, _) => certificates(file.path).map(drop).map_err(as_text),
                (Holds::Secret, _) => read_secret(file.path).map(drop).map_err(as_text),
                (Holds::Key, Some(certificate)) => Identity::load(certificate.path, file.path).map(drop).map_err(as_text),
                // What is wrong with its certificate has been said.
                (Holds::Key, None) => Ok(()),
            };
            if let Err(what) = held {
                problems.wrong(&at, format!("can't be used: {what}"));
                continue;
            }
        }
        before = Some(file);
    }
    problems.0
}

fn as_text(error: impl Display) -> String {
    error.to_string()
}

/// Whether what should be the path of a secret may be the secret.
fn is_secret_itself(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_path = path.is_absolute() || path.starts_with(CREDENTIALS_FOLDER);
    text.contains(['\n', '\r']) || text.contains("-----BEGIN") || !(is_path || path.is_file())
}

/// Whether there is anything to be read.
fn is_fit(at: &[&str], file: &NamedFile, files: Files, problems: &mut Problems) -> bool {
    let path: &Path = file.path;
    if path.starts_with(CREDENTIALS_FOLDER) {
        if files == Files::Checked {
            let text = format!(
                "is {}, and {CREDENTIALS_VARIABLE} is not set here, so the file was not looked at; systemd sets it for the service, \
                 from LoadCredential=",
                path.display()
            );
            problems.warn(at, text);
        }
        return false;
    }
    let before = problems.0.len();
    let is_there = look(at, path, file.holds.is_secret(), files, problems);
    is_there && problems.0.len() == before
}

fn look(at: &[&str], path: &Path, secret: bool, files: Files, problems: &mut Problems) -> bool {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            problems.wrong(at, format!("is {shown}, a folder; write the path of a file"));
        }
        Ok(found) if secret && open_to_others(path, found.permissions().mode()) => {
            let mode = found.permissions().mode() & 0o777;
            problems.wrong(at, format!("is {shown}, which others can read or change (mode {mode:04o}); run chmod 600 {shown}"));
        }
        Ok(_) if files == Files::Checked => {
            if let Err(error) = File::open(path) {
                problems.wrong(
                    at,
                    format!("is {shown}, which this user cannot read ({error}); give it to the user that the agent runs as"),
                );
            }
        }
        Ok(_) => {}
        Err(_) if files == Files::Skipped => return false,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            problems.wrong(at, format!("is {shown}, and there is no such file; put it there or write another path"));
        }
        Err(error) => {
            problems.wrong(at, format!("is {shown}, which cannot be looked at ({error}); check the rights of its folders"));
        }
    }
    true
}
