//! What can go wrong with the buffer's files.

use std::{
    io::{
        self,
        ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied},
    },
    path::PathBuf,
};

use super::store::Process;

/// An error of the buffer; the cause is in its source.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The folder or the file cannot be made or read.
    #[error(
        "cannot open the buffer {path}; check that its folder exists, that this user may write there, and that the disk has room and is \
         neither read-only nor failing"
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: BoxError,
    },
    /// There is no file.
    #[error("there is no buffer at {path}; give the path of a buffer.db, or of a copy of one")]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// Another process has the buffer open.
    #[error(
        "the buffer {path} is in use by {}; stop that one first, or give this one a state_dir of its own",
        by.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string)
    )]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Who, if the kernel tells.
        by: Option<Process>,
    },
    /// The file is not as it was written.
    #[error("the buffer {path} is damaged; it is set aside, and what can be read of it goes into a new one")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        #[source]
        source: BoxError,
    },
    /// The damaged file can't be renamed.
    #[error(
        "the buffer {path} is damaged, and can't be set aside; check that this user may rename files in its folder, or move it away"
    )]
    SetAside {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: BoxError,
    },
    /// A file of another program, or of a later version of this one.
    #[error(
        "{path} is not a buffer that this version can read ({what}); it is left as it is: move it away, or use the version that wrote it"
    )]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A transaction failed; it was rolled back, and what it held is still in memory.
    #[error("cannot write to the buffer {path}; check the disk: it may be full, read-only or failing")]
    Write {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: BoxError,
    },
    /// SQLite has reached the bound that it was given; the transaction was rolled back.
    #[error("the buffer {path} is full; get the uplink back, or raise buffer.max_size")]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// Readings cannot be read back.
    #[error("cannot read from the buffer {path}; check the disk")]
    Read {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: BoxError,
    },
    /// A chunk is not made of readings.
    #[error("a chunk in the buffer {path} can't be taken apart; please report it, the readings stay in the buffer")]
    Malformed {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The thread that owns the file is gone.
    #[error("the buffer is closed")]
    Closed,
}

impl BufferError {
    /// Whether the same may succeed later without anyone changing the configuration or the folder: the disk may have room again, be
    /// mounted again, or answer again.
    pub fn passes_by_itself(&self) -> bool {
        let (Self::Open { source, .. } | Self::Read { source, .. } | Self::Write { source, .. } | Self::SetAside { source, .. }) =
            self
        else {
            return matches!(self, Self::Full { .. });
        };
        let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
        !matches!(kind, Some(PermissionDenied | NotFound | NotADirectory | IsADirectory))
    }
}

/// A cause from below, whose type stays where it is known.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
