//! Waits for a disk that can't be used yet: full, read-only after an error, or not answering.
//!
//! To end would only let systemd start us again, without a page that says why. Nothing is taken from the sources meanwhile, so the broker
//! keeps what it can. Nor is anything sent: SQLite can't open a database that has a log where it can't write, neither lock it nor make
//! the log, and to read it without a lock and forget what was sent would send everything again after the next start.
//!
//! A disk that is only full does not come here: a buffer that exists opens without a write, or with the room of its reserve.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    AgentError,
    build::{Plan, open_buffer},
};
use crate::{
    buffer::Opened,
    clock::now,
    config::Config,
    status::{Status, what_and_remedy},
};

/// The part of the status that speaks for it; one that the buffer itself goes on with.
const PART: &str = "buffer";
/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(5);

/// Makes `folder`, and those above it that are not there, each with a `sync` of where it is: a power cut that took a new folder back would
/// take what was acknowledged in it.
pub(super) fn make_folder(folder: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Somebody else was quicker, and may not have synced it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
        }
        sync(folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes durable what is in `folder`.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens the buffer, as soon as that can be done; none when `stop` comes first. Errors: someone has to change something else first.
pub(super) async fn opened(
    config: &Config,
    plan: &Plan,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Option<Opened>, AgentError> {
    loop {
        match open_buffer(config, plan, status).await {
            Err(AgentError::Buffer(error)) if error.passes_by_itself() => {
                let (what, remedy) = what_and_remedy(&error);
                let remedy = format!("{remedy}; until then sources wait, and it is tried again every {} s", AGAIN.as_secs());
                status.lock().buffer.blocked = true;
                if status.problem(PART, now(), what.clone(), &remedy) {
                    warn!("{what}; {remedy}");
                }
            }
            opened => {
                status.lock().buffer.blocked = false;
                if status.solved(PART) {
                    info!("the buffer could be opened");
                }
                return opened.map(Some);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = sleep(AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_each_folder_that_is_made_is_synced_before_the_next_one_is_made_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("lib/headwater/state");
        let mut synced = Vec::new();

        make_folder(&folder, |place| {
            assert!(fs::read_dir(place)?.count() == 1, "what is in it is made first");
            synced.push(place.to_owned());
            sync_folder(place)
        })
        .unwrap();

        assert!(folder.is_dir());
        assert_eq!(synced, [dir.path().to_owned(), dir.path().join("lib"), dir.path().join("lib/headwater")]);
        make_folder(&folder, |place| panic!("{} is synced, and nothing was made", place.display())).unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state"), "").unwrap();

        assert!(make_folder(&dir.path().join("state"), sync_folder).is_err());
        assert!(make_folder(&dir.path().join("state/below"), sync_folder).is_err());
    }
}
