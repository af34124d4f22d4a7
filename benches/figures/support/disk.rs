//! Files to measure with: a file system of our own whose device counts what reaches it, and the log that a buffer is measured
//! against.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;

use super::Outcome;

/// An ext4 on a loop device on memory. `/proc/PID/io` is of no use for wear: it counts pages that were touched, not bytes that were
/// written to the device.
pub struct Disk {
    image: TempDir,
    mount: TempDir,
    device: String,
}

impl Disk {
    /// Makes and mounts it; needs root.
    pub fn new() -> Outcome<Self> {
        let image = tempfile::Builder::new().prefix("headwater-figures-").tempdir_in("/dev/shm")?;
        let mount = tempfile::tempdir()?;
        let file = image.path().join("ext4");
        File::create(&file)?.set_len(1 << 30)?;
        let (file, folder) = (file.display().to_string(), mount.path().display().to_string());
        // Lazy initialisation would write in the background of what is measured.
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &file])?;
        run("mount", &["-o", "loop,noatime", &file, &folder])?;
        let mut disk = Self { image, mount, device: String::new() };
        let source = run("findmnt", &["-n", "-o", "SOURCE", &folder])?;
        source.trim().trim_start_matches("/dev/").clone_into(&mut disk.device);
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        self.mount.path()
    }

    /// Bytes that have reached the device, and how often it was told to flush, when everything that waits has been written.
    /// Source: Linux `Documentation/block/stat.rst`.
    pub fn written(&self) -> Outcome<(u64, u64)> {
        run("sync", &["-f", &self.folder().display().to_string()])?;
        let stat = fs::read_to_string(format!("/sys/block/{}/stat", self.device))?;
        let field = |index: usize| stat.split_whitespace().nth(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Ok((field(6) * 512, field(15)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The loop device goes with the mount, and the image with its folder.
        if let Err(error) = run("umount", &[&self.mount.path().display().to_string()]) {
            eprintln!("{error}; {} stays", self.image.path().display());
        }
    }
}

fn run(program: &str, args: &[&str]) -> Outcome<String> {
    let output = Command::new(program).args(args).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Has the kernel forget what it keeps of the files of the buffer in `folder`, as a power cut does: the next read is the device's.
pub fn grows_cold(folder: &Path) -> Outcome<()> {
    for name in ["buffer.db", "buffer.db-wal"] {
        let file = File::open(folder.join(name))?;
        file.sync_all()?; // what is not on the disk yet can't be forgotten
        fadvise(file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// The raw limit: frames with a CRC32C in a file that was written before and never grows, one `fdatasync` a group.
pub struct Log {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Log {
    const BYTES: u64 = 64 << 20;

    /// Makes the file, full of zeros.
    pub fn new(folder: &Path) -> Outcome<Self> {
        let path = folder.join("log");
        let file = File::options().create(true).truncate(true).write(true).open(&path)?;
        for place in 0..Self::BYTES >> 20 {
            file.write_all_at(&vec![0; 1 << 20], place << 20)?;
        }
        file.sync_all()?;
        Ok(Self { file, path, end: 0 })
    }

    /// Writes one group, and has it on the disk.
    pub fn append(&mut self, group: &[u8]) -> Outcome<()> {
        let mut frame = Vec::with_capacity(group.len() + 8);
        frame.extend_from_slice(&u32::try_from(group.len())?.to_le_bytes());
        frame.extend_from_slice(&crc32c::crc32c(group).to_le_bytes());
        frame.extend_from_slice(group);
        if self.end + frame.len() as u64 > Self::BYTES {
            self.end = 0;
        }
        self.file.write_all_at(&frame, self.end)?;
        self.end += frame.len() as u64;
        Ok(self.file.sync_data()?)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Its folder is temporary anyway.
        let _ = fs::remove_file(&self.path);
    }
}
