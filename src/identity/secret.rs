//! Text and files that nobody but their owner may see.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Largest file with a key or a password that is read: an RSA key of 8192 bits has 6.5 KiB.
const MAX_SECRET: u64 = 64 << 10;
/// Where systemd puts the credentials of its services. Source: systemd.exec(5), "CREDENTIALS".
const OF_SYSTEMD: &str = "/run/credentials";

/// Text that is not shown, and wiped from memory after use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// For the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// For one who wipes it in turn.
    pub fn into_revealed(mut self) -> String {
        std::mem::take(&mut *self.0)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::from)
    }
}

/// Why a secret can't be had from its file. The text reads `WHAT; WHAT TO DO`.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The system does not give it.
    #[error("{} can't be read; check that it exists and that the user that runs headwater may read it", path.display())]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It gives it to others too.
    #[error("{0} can be read or changed by others (mode {mode:04o}); run chmod 600 {0}", path.display())]
    Open {
        /// As configured.
        path: PathBuf,
        /// Of the file.
        mode: u32,
    },
    /// There is nothing in it, or no text.
    #[error("{} holds no secret; it is a line of text and nothing else", path.display())]
    Empty {
        /// As configured.
        path: PathBuf,
    },
}

/// Whether others than its owner may use the file at `path`, which has this mode.
///
/// systemd gives a service's user access to the service's credentials by an access list, whose mask shows as the rights of the group; it
/// keeps everybody else out by the folder.
pub fn open_to_others(path: &Path, mode: u32) -> bool {
    let closed = if path.starts_with(OF_SYSTEMD) { 0o037 } else { 0o077 };
    mode & closed != 0
}

/// The text of the file at `path` without the line end that editors add.
pub fn read_secret(path: &Path) -> Result<Secret, SecretFileError> {
    let bytes = read_guarded(path)?;
    match std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n'])) {
        Ok("") | Err(_) => Err(SecretFileError::Empty { path: path.to_owned() }),
        Ok(text) => Ok(Secret::from(text.to_owned())),
    }
}

/// The bytes of the file at `path`, unless others may have them too.
pub(super) fn read_guarded(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Of the file that is open, so that nobody can put another one in its place in between.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if open_to_others(path, mode) {
        return Err(SecretFileError::Open { path: path.to_owned(), mode });
    }
    read_from(file, MAX_SECRET).map_err(unreadable)
}

/// The bytes of the file at `path`, which has at most so many.
pub(super) fn read_at_most(path: &Path, at_most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_from(File::open(path)?, at_most)
}

fn read_from(file: File, at_most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a vector that grows leaves copies behind.
    let room = file.metadata()?.len().min(at_most) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or_default()));
    file.take(at_most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > at_most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {at_most} bytes")));
    }
    Ok(bytes)
}
