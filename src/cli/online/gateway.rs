//! The gateway itself: its disk and its clock.

use std::{io, path::Path};

use rustix::fs::{Access, access, statvfs};

use super::Report;
use crate::{
    clock::{self, Trust},
    config::Config,
    file::{Folder, Room},
    reading::Timestamp,
    units::{ByteCount, format_utc},
};

/// The agent corrects its signatures by the service's answers; still readings would carry the wrong time.
const WRONG_BY: i64 = 60_000;

/// Whether the buffer has where to be.
pub(super) fn disk(config: &Config, report: &mut Report) -> io::Result<()> {
    let folder = &config.device.state_dir;
    // The agent makes the folder when it is not there.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let shown = folder.display();
    if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let remedy = "run this as the user that runs headwater, give it the folder, or set device.state_dir";
        return report.wrong("disk", format!("{} may not be written ({error})", there.display()), remedy);
    }
    let system = match statvfs(there) {
        Ok(system) => system,
        Err(error) => return report.wrong("disk", format!("{shown} can't be looked at ({error})"), "check device.state_dir"),
    };
    let free = ByteCount(system.f_bavail.saturating_mul(system.f_frsize));
    let buffer = &config.buffer;
    let has = format!("{shown} has {} MiB free", free.0 >> 20);
    if free <= buffer.keep_free {
        let what = format!("{has}, and buffer.keep_free leaves {} to others: nothing could be buffered", buffer.keep_free);
        report.wrong("disk", what, "make room, or lower buffer.keep_free")
    } else if free.0 - buffer.keep_free.0 < buffer.max_size.0 {
        report.note("disk", format!("{has}: with buffer.keep_free that is less than buffer.max_size, {}", buffer.max_size))
    } else {
        report.right("disk", format!("{has}; the buffer takes {} at most", buffer.max_size))
    }
}

/// Whether a folder takes readings.
pub(super) fn folder(name: &str, folder: &Folder, report: &mut Report) -> io::Result<()> {
    match folder.look() {
        Ok(Room { used, free }) => {
            let (used, free) = (used.0 >> 20, free.0 >> 20);
            report.right(name, format!("{} has {used} MiB of our files, and its disk {free} MiB free", folder.path().display()))
        }
        Err(error) => report.error(name, &error),
    }
}

/// Whether the clock is right, as far as this machine knows.
pub(super) fn clock(trust: Trust, config: &Config, report: &mut Report) -> io::Result<()> {
    let now = format_utc(clock::now());
    let marker = config.device.clock_synchronized.display();
    match trust {
        Trust::Right => report.right("clock", now),
        Trust::Unsure => report.note(
            "clock",
            format!("{now}, which no time server has confirmed ({marker} is not there); readings are marked until one has"),
        ),
        Trust::Wrong => {
            report.wrong("clock", format!("{now} can't be"), "let it reach a time server, or set it; nothing is sent before")
        }
    }
}

/// Whether the clock is right, as the service sees it, whose time has just come.
pub(super) fn service_clock(service: Timestamp, report: &mut Report) -> io::Result<()> {
    let ahead = clock::now().0 - service.0;
    if ahead.abs() < WRONG_BY {
        return Ok(());
    }
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    report.wrong("clock", format!("{} s {side} the service's", ahead.abs() / 1000), "let it reach a time server, or set it")
}
