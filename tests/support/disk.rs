//! A small file system in the place of a folder: one in memory, or a card of its own with ext4 on it. Mounting takes root.
//!
//! Invariant: it is gone with its handle, whoever still uses it, and nothing but its folder is touched.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{left_out, process::Headwater};

/// What one agent may have of a file system that has room for others. A library of our own stands between the two; no root is needed.
pub struct Quota(File);

impl Quota {
    /// From the next start on that of `agent` can be used up.
    pub fn of(agent: &mut Headwater) -> Self {
        agent.lives_behind("tests/support/scarce.c");
        let path = agent.dir().join("scarce");
        fs::write(&path, [0]).expect("the temp dir can be written");
        agent.finds("SCARCE", Some(&path.to_string_lossy()));
        Self(File::options().write(true).open(path).expect("it was written just now"))
    }

    /// From now on no file of the agent grows.
    pub fn is_used_up(&self) {
        self.0.write_all_at(&[1], 0).expect("the temp dir can be written");
    }

    /// They may grow again.
    pub fn is_raised(&self) {
        self.0.write_all_at(&[0], 0).expect("the temp dir can be written");
    }
}

/// A mounted file system.
pub struct Disk {
    folder: PathBuf,
    /// Where the card's content is; none for one in memory.
    card: Option<TempDir>,
}

impl Disk {
    /// In memory, of so many MiB; none where this user may not mount.
    pub fn in_memory(folder: &Path, mib: u64) -> Option<Self> {
        let size = format!("size={mib}m");
        Self::tried(folder, None, &["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// A card with ext4 on it, of so many MiB; none where this user may not mount.
    pub fn on_a_card(folder: &Path, mib: u64) -> Option<Self> {
        let card = TempDir::new().expect("a temp dir can be made");
        let content = content_of(&card);
        File::create(&content).and_then(|file| file.set_len(mib << 20)).expect("the temp dir can be written");
        // Nothing is kept for root, so that root's tests find it full when others do.
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&content).output();
        if !made.is_ok_and(|made| made.status.success()) {
            left_out("there is no mkfs.ext4");
            return None;
        }
        let content = content.to_string_lossy().into_owned();
        Self::tried(folder, Some(card), &["-o", "loop", &content])
    }

    fn tried(folder: &Path, card: Option<TempDir>, args: &[&str]) -> Option<Self> {
        fs::create_dir_all(folder).expect("the folder can be made");
        let mounted = Command::new("mount").args(args).arg(folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { folder: folder.to_owned(), card });
        }
        left_out("this user may not mount a file system");
        None
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on it is `ro` or `rw`; nobody may have a file of it open for writing.
    pub fn is_mounted(&self, how: &str) {
        mount(&["-o", &format!("remount,{how}")], &self.folder);
    }

    /// What the kernel does after an error: from now on it can only be read, whoever writes to it.
    pub fn becomes_read_only(&self) {
        mount(&["-o", "remount,abort"], &self.folder);
    }

    /// What a restart of the machine does for such a card: it is checked, and mounted again. Nobody may use it.
    pub fn is_repaired(&self) {
        let content = content_of(self.card.as_ref().expect("it is a card")).to_string_lossy().into_owned();
        let left = Command::new("umount").arg(&self.folder).output().expect("root has umount");
        assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
        let checked = Command::new("e2fsck").args(["-f", "-y", &content]).output().expect("who has mkfs.ext4 has e2fsck");
        // 1: something was repaired. Source: e2fsck(8).
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&checked.stdout));
        mount(&["-o", "loop", &content], &self.folder);
    }

    /// Others take all that is left, and whatever becomes free while they do.
    pub fn fills(&self) {
        let mut file = File::options().create(true).append(true).open(self.of_others()).expect("it can be written");
        let mut size = 1 << 20;
        while size > 0 {
            match file.write(&vec![1; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Others give it back.
    pub fn has_room(&self) {
        fs::remove_file(self.of_others()).expect("it was filled");
    }

    fn of_others(&self) -> PathBuf {
        self.folder.join("of-others")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a process that was killed a moment ago may still hold it.
        let _gone_with_the_machine_otherwise = Command::new("umount").arg("-l").arg(&self.folder).output();
    }
}

fn content_of(card: &TempDir) -> PathBuf {
    card.path().join("card")
}

fn mount(args: &[&str], folder: &Path) {
    let mounted = Command::new("mount").args(args).arg(folder).output().expect("root has mount");
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
}
