//! What can go wrong with a folder. All of it passes by itself once there is a disk with room.

use std::{io, path::PathBuf};

use crate::units::ByteCount;

/// Readings can't be written to a folder now.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there, or not ours.
    #[error(
        "the folder {} can't be used; mount its disk, or make the folder and give it to the user that headwater runs as",
        path.display()
    )]
    Folder {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Our files in it have reached their bound.
    #[error("the folder {} holds {max_size} of our files; take some away, or raise its max_size", path.display())]
    Full {
        /// As configured.
        path: PathBuf,
        /// As configured.
        max_size: ByteCount,
    },
    /// Its disk is nearly full.
    #[error("the disk of the folder {} has {free} left, and keep_free is {keep_free}; make room on it", path.display())]
    NoSpace {
        /// As configured.
        path: PathBuf,
        /// What is left.
        free: ByteCount,
        /// As configured.
        keep_free: ByteCount,
    },
    /// A file can't be written, renamed or removed.
    #[error("{} can't be written; make room on its disk, or replace it", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
