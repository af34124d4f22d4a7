//! One process a buffer, and the name of the one that has it.
//!
//! The kernel keeps both: a lock on the folder, because the file itself may have to be renamed before SQLite opens it, and SQLite's own
//! lock on the file, whose owner the kernel names to whoever asks. So nothing is left behind that could be wrong after a power cut.
//! Sources: flock(2); fcntl(2), `F_GETLK`; sqlite.org/lockingv3.html.

use std::{fmt, fs, fs::File, io, path::Path};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    param::clock_ticks_per_second,
    process::{Flock, FlockOffsetType, FlockType, fcntl_getlk},
};

use crate::{durable::folder_of, reading::Timestamp, units::format_utc};

/// SQLite locks some of the 512 bytes from here on. Source: its os.h, `PENDING_BYTE`.
const LOCKED_FROM: u64 = 0x4000_0000;
const LOCKED_BYTES: u64 = 512;

/// A process that has a buffer open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id; 0 for one in another container, which the kernel does not name to us.
    pub id: u32,
    /// Its command line, if we may see it.
    pub command: Option<String>,
    /// When it was started, if we may see that.
    pub since: Option<Timestamp>,
}

/// Held until it is dropped: no other process opens, makes or renames a buffer in this folder.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock is the open file")] File);

/// Takes the folder of the file at `path`; none when another process has it.
pub(super) fn take(path: &Path) -> io::Result<Option<Lock>> {
    let folder = File::open(folder_of(path))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(folder))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The other process that has the database at `path` open, as far as SQLite's locks tell. Not for a file that this process has open
/// itself: POSIX locks go with the first close of the file.
pub fn owner_of(path: &Path) -> Option<Process> {
    let file = File::open(path).ok()?;
    let asked =
        Flock { start: LOCKED_FROM, length: LOCKED_BYTES, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    let held = fcntl_getlk(&file, &asked).ok()??;
    let id = held.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    Some(Process { id, command: command(id), since: started(id) })
}

fn command(id: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Source: `proc_pid_stat(5)`, field 22, and `proc_stat(5)`, `btime`.
fn started(id: u32) -> Option<Timestamp> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the command in brackets, and may hold anything.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    i64::try_from((boot + ticks / clock_ticks_per_second()) * 1000).ok().map(Timestamp)
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.id == 0 {
            return f.write_str("a process in another container");
        }
        write!(f, "process {}", self.id)?;
        let command = self.command.as_ref().map(|command| format!("`{command}`"));
        let since = self.since.map(|since| format!("since {}", format_utc(since)));
        let known: Vec<_> = command.into_iter().chain(since).collect();
        if known.is_empty() { Ok(()) } else { write!(f, " ({})", known.join(", ")) }
    }
}
