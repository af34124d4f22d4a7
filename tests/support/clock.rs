//! The gateway's wall clock, which a test sets as it likes; the time since boot, timers and files' times stay real.
//!
//! libfaketime stands between the agent and the C library. Invariant: nothing but the wall clock differs from the real one, and by the
//! same amount from one setting to the next.

use std::{
    fs,
    path::{Path, PathBuf},
};

use headwater::clock;
use tokio::process::Command;

/// So many seconds lie between now and 2 January 1970.
fn since_1970() -> i64 {
    clock::now().0 / 1000 - 86_400
}

/// A wall clock, and the file that says when a time server has set it.
pub struct WallClock {
    /// In the gateway's folder.
    offset: PathBuf,
    marker: PathBuf,
}

impl WallClock {
    /// Keeps its files in `dir`; right, and nobody knows that.
    pub fn new(dir: &Path) -> Self {
        let clock = Self { offset: dir.join("clock-offset"), marker: dir.join("timesync/synchronized") };
        clock.is_off_by(0);
        clock
    }

    /// From now on it is wrong by so many seconds.
    pub fn is_off_by(&self, seconds: i64) {
        let next = self.offset.with_extension("next");
        fs::write(&next, format!("{seconds:+}")).expect("the temp dir can be written");
        fs::rename(next, &self.offset).expect("it is there");
    }

    /// It begins again, as without a battery.
    pub fn is_in_1970(&self) {
        self.is_off_by(-since_1970());
    }

    /// Somebody keeps the time here who will say when it is right; see [`Self::is_confirmed`].
    pub fn is_kept(&self) {
        fs::create_dir_all(self.marker.parent().expect("it is in a folder")).expect("the temp dir can be written");
    }

    /// A time server has set it.
    pub fn is_confirmed(&self) {
        self.is_off_by(0);
        fs::write(&self.marker, "").expect("the clock is kept");
    }

    /// Lets what is started live by it.
    pub fn put_into(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

/// Debian puts it into a folder that is named after the machine.
fn library() -> PathBuf {
    let machines = fs::read_dir("/usr/lib").expect("it is there").filter_map(Result::ok);
    let mut libraries = machines.map(|machine| machine.path().join("faketime/libfaketime.so.1"));
    libraries.find(|library| library.exists()).expect("libfaketime is installed; run `make tools` once")
}
