//! Files and folders that a power cut leaves whole, and that whoever has their folder can open.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

/// Puts `bytes` in the place of what `path` has: all of it or nothing, and on the disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = create_anew(&new, 0o666)?;
    file.write_all(bytes)?;
    take_place(&file, &new, path)
}

/// Puts `file`, which is called `new`, in the place of what `path` has, on the disk.
pub fn take_place(file: &File, new: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(new, path)?;
    sync_folder(folder_of(path))
}

/// Makes the file `path`, with the rights `mode` as far as the umask leaves them. Errors: it is there already, or can't be made.
pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    hand_over(&file, path)?;
    Ok(file)
}

/// The same; what is there already is removed first, and not followed where it is a link.
pub fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => create_new(path, mode),
    }
}

/// Gives `made`, which we have just made at `path`, to whoever has its folder, if it is root's: what `sudo headwater …` leaves, the service
/// has to open as another user. SQLite does so with its journals.
fn hand_over(made: &File, path: &Path) -> io::Result<()> {
    if made.metadata()?.uid() != 0 {
        return Ok(());
    }
    let folder = fs::metadata(folder_of(path))?;
    if folder.uid() == 0 {
        return Ok(());
    }
    match fchown(made, Some(folder.uid()), Some(folder.gid())) {
        // Where root may give nothing away, as in some containers, nobody but root is there to open it.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => made.sync_all(),
    }
}

/// The folder that `path` is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes `folder`, and those above it that are not there, each with a `sync` of where it is: a power cut that took a new folder back would
/// take what was acknowledged in it.
pub fn make_folder(folder: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Somebody else was quicker, and may not have synced it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(error),
            Ok(()) => {
                // No link that somebody has put into its place meanwhile is followed.
                let made = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                hand_over(&made.into(), folder)?;
            }
        }
        sync(folder_of(folder))?;
    }
    Ok(())
}

/// Makes durable what is in `folder`.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
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
    fn what_is_replaced_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("month"), dir.path().join("other"));
        fs::write(&other, "ours").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("month.new")).unwrap();

        replace(&path, b"11").unwrap();
        replace(&path, b"12").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"12");
        assert_eq!(fs::read(&other).unwrap(), b"ours");
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state"), "").unwrap();

        assert!(make_folder(&dir.path().join("state"), sync_folder).is_err());
        assert!(make_folder(&dir.path().join("state/below"), sync_folder).is_err());
    }
}
