//! The settings of a folder that readings are written to.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units::{self, ByteCount};

/// Files in a folder of the gateway, for sites without a network and for looking.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// The folder. It has to be there: headwater never makes it, because a disk may not be mounted yet.
    pub path: PathBuf,
    /// A file that has so many bytes is finished, and a new one begun.
    pub file_size: ByteCount,
    /// A file that is so old is finished.
    #[serde(with = "units::duration")]
    pub file_age: Duration,
    /// What becomes of a finished file.
    pub compress: Compression,
    /// Bytes of this device's files in the folder; beyond it, `keep` decides. At least twice `file_size`.
    pub max_size: ByteCount,
    /// Bytes of the file system that are left to everyone else; below it, `keep` decides.
    pub keep_free: ByteCount,
    /// Which files stay when there is no room for all.
    pub keep: Keep,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            file_size: ByteCount::mib(16), // a minute's download on a mobile link, and no thousand files
            file_age: Duration::from_hours(1), // what was finished an hour ago can be fetched
            compress: Compression::None,
            max_size: ByteCount::gib(1),
            keep_free: ByteCount::mib(256), // as much as the buffer leaves
            keep: Keep::All,
        }
    }
}

/// What becomes of a finished file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// It stays as it is.
    #[default]
    None,
    /// It is compressed, and `.zst` added to its name.
    Zstd,
}

/// Which files stay when there is no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// All: they are somebody's data, so readings wait in the buffer until files are taken away.
    #[default]
    All,
    /// The newest: the oldest finished file is removed.
    Newest,
}
