//! A device on a serial line: a pty whose agent end has a stable name, as `/dev/serial/by-id` gives one.
//!
//! Closing the master hangs the other end up exactly as pulling a USB adapter does: its next read gives 0 bytes, its next write EIO.
//! Invariant: [`SerialLine::path`] never changes; while the device is unplugged nothing is there.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
};

use rustix::{
    io::{Errno, ioctl_fionbio},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tempfile::TempDir;

use super::eventually;

/// A serial line with a talkative device on it.
pub struct SerialLine {
    dir: TempDir,
    device: Option<OwnedFd>,
}

impl SerialLine {
    /// A line with its device plugged in.
    pub fn new() -> Self {
        let mut line = Self { dir: TempDir::new().expect("a temp dir can be made"), device: None };
        line.plug_in();
        line
    }

    /// For a source's `port`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("usb-scale")
    }

    /// The device sends `bytes`; returns when the line has taken them, which it does when the reader keeps up.
    pub async fn sends(&self, bytes: impl AsRef<[u8]>) {
        let device = self.device.as_ref().expect("the device is plugged in");
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let room = async || match rustix::io::write(device, rest) {
                Err(Errno::AGAIN) => Err(format!("{} bytes that nobody reads", rest.len())),
                outcome => Ok(outcome.expect("the line is open")),
            };
            let written = eventually("the serial line takes more", room).await;
            rest = &rest[written..];
        }
    }

    /// Pulls the adapter out. What the reader has not read yet is lost, as on a real line.
    pub fn unplug(&mut self) {
        fs::remove_file(self.path()).expect("the name is there");
        self.device = None;
    }

    /// Plugs it in again: a new device under the old name.
    pub fn plug_in(&mut self) {
        assert!(self.device.is_none(), "the device is unplugged");
        self.device = Some(device_at(&self.path()).expect("the kernel has a pty left"));
    }
}

fn device_at(name: &Path) -> std::io::Result<OwnedFd> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    // Raw before anyone opens it: a cooked line would echo to us what is sent early, and change line ends.
    let mut mode = tcgetattr(&master)?;
    mode.make_raw();
    tcsetattr(&master, OptionalActions::Now, &mode)?;
    ioctl_fionbio(&master, true)?;
    let end = ptsname(&master, Vec::new())?;
    symlink(end.to_string_lossy().as_ref(), name)?;
    Ok(master)
}
