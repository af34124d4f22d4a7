//! Files and folders that a power cut leaves whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Puts `bytes` in the place of what `path` has: all of it or nothing, and on the disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    take_place(&file, &new, path)
}

/// Puts `file`, which is called `new`, in the place of what `path` has, on the disk.
pub fn take_place(file: &File, new: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(new, path)?;
    sync_folder(folder_of(path))
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
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
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
    fn a_file_in_the_place_of_a_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state"), "").unwrap();

        assert!(make_folder(&dir.path().join("state"), sync_folder).is_err());
        assert!(make_folder(&dir.path().join("state/below"), sync_folder).is_err());
    }
}
