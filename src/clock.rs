//! What time it is, and whether that is to be believed.
//!
//! A gateway without a battery-backed clock starts in 1970, or when it was last switched off, and is set minutes or days later. Somebody
//! may set it by hand, wrongly. So nothing here waits or sorts by the wall clock; it only says when a reading arrived, and each change of
//! it is seen against the time since the kernel started, which runs on in suspend and never jumps.
//!
//! Invariant: two readings of one boot whose times were taken under different settings of the clock differ by a known amount.

mod keeper;
#[cfg(all(target_env = "musl", target_pointer_width = "32"))]
mod narrow;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::sync::watch;

use self::keeper::{Keeper, Synchronized};
#[cfg(all(target_env = "musl", target_pointer_width = "32"))]
use self::narrow::since_1970;
use crate::reading::{Timestamp, Uptime};

/// The kernel's name for its present start. Source: proc(5).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The two clocks are read again until this little time passes in between, in microseconds, or [`ATTEMPTS`] times.
const CLOSE_ENOUGH: i64 = 100;
/// See [`CLOSE_ENOUGH`]; the closest pair counts.
const ATTEMPTS: usize = 8;

/// How the wall clock is set: what it says less the [`Uptime`], in microseconds. It changes only when somebody sets the clock: time
/// servers make it run faster or slower, and then both clocks do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting(pub i64);

/// A start of the kernel, by the first half of its random name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot(pub u64);

/// Why the present boot can't be told from others. Its text reads `WHAT; WHAT TO DO`.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read {}, so readings from before a restart are not corrected when the clock is set; leave ProcSubset=pid out of the unit",
    BOOT_ID
)]
pub struct Nameless(#[from] io::Error);

/// Whether what the clock says is the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// It is, as far as can be known here.
    #[default]
    Right,
    /// It may be: no time server has confirmed it.
    Unsure,
    /// It is not: this program did not exist then.
    Wrong,
}

/// How the clock is set, and what that is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belief {
    /// Since the kernel started this time.
    pub boot: Boot,
    /// As it is now.
    pub set: Setting,
    /// As far as can be known.
    pub trust: Trust,
}

/// What it takes to correct a time that was read from a clock that nobody knew to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure {
    /// When the clock was set so.
    pub boot: Boot,
    /// How it was set.
    pub set: Setting,
}

impl Boot {
    /// The present one.
    pub fn present() -> Result<Self, Nameless> {
        let name = fs::read_to_string(BOOT_ID)?;
        let digits: String = name.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let number = u64::from_str_radix(&digits, 16).map_err(io::Error::other)?;
        Ok(Self(number))
    }
}

impl Setting {
    /// What a clock that is set so says at `at`.
    pub fn time(self, at: Uptime) -> Timestamp {
        Timestamp(at.0.saturating_add(self.0).div_euclid(1000))
    }

    /// Milliseconds that lead from `before` to this one.
    pub fn since(self, before: Self) -> i64 {
        self.0.saturating_sub(before.0) / 1000
    }
}

impl Belief {
    /// What readings need that arrive now; none when the clock is right.
    pub fn unsure(&self) -> Option<Unsure> {
        (self.trust != Trust::Right).then_some(Unsure { boot: self.boot, set: self.set })
    }
}

/// What the wall clock says now; a clock before 1970 counts as 1970.
pub fn now() -> Timestamp {
    Timestamp(i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(not(all(target_env = "musl", target_pointer_width = "32")))]
fn since_1970() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// How long the kernel runs.
pub fn uptime() -> Uptime {
    let time = clock_gettime(ClockId::Boottime);
    Uptime(time.tv_sec * 1_000_000 + time.tv_nsec / 1000)
}

/// What the wall clock says of a moment of this boot.
pub fn time_of(moment: Uptime) -> Timestamp {
    Timestamp(now().0 - (uptime().0 - moment.0) / 1000)
}

/// How the wall clock is set now.
fn setting() -> Setting {
    let mut closest = (i64::MAX, Setting::default());
    for _ in 0..ATTEMPTS {
        let (before, wall, after) = (uptime().0, since_1970(), uptime().0);
        let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        let apart = after - before;
        if apart < closest.0 {
            closest = (apart, Setting(wall.saturating_sub(before + apart / 2)));
        }
        if apart < CLOSE_ENOUGH {
            break;
        }
    }
    closest.1
}

/// The clock of this gateway, as all stages of one agent see it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The file that is there once the clock is synchronized.
    marker: PathBuf,
    keeper: Mutex<Keeper>,
    belief: watch::Sender<Belief>,
}

impl Clock {
    /// Looks at the clock for the first time, in the present `boot`. `marker` is a file that is made, and touched again, when a time server
    /// has set the clock; where its folder is missing nobody makes it.
    pub fn new(marker: PathBuf, boot: Boot) -> Self {
        let set = setting();
        let keeper = Keeper::new(set, set.time(uptime()), synchronized(&marker));
        let belief = watch::Sender::new(Belief { boot, set, trust: keeper.trust() });
        Self(Arc::new(Shared { marker, keeper: Mutex::new(keeper), belief }))
    }

    /// What is believed of the clock. Two readings of clocks; files are looked at only when it was set meanwhile.
    pub fn belief(&self) -> Belief {
        let belief = *self.0.belief.borrow();
        if keeper::is_step(belief.set, setting()) { self.look() } else { belief }
    }

    /// The same, after a look at everything that tells something about it.
    pub fn look(&self) -> Belief {
        let synchronized = synchronized(&self.0.marker);
        let mut keeper = self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let set = setting();
        keeper.look(set, set.time(uptime()), synchronized);
        let (set, trust) = (keeper.set(), keeper.trust());
        self.0.belief.send_if_modified(|belief| {
            let before = std::mem::replace(belief, Belief { set, trust, ..*belief });
            before != *belief
        });
        *self.0.belief.borrow()
    }

    /// Tells every change of the belief.
    pub fn changes(&self) -> watch::Receiver<Belief> {
        self.0.belief.subscribe()
    }
}

/// When the file was touched last tells one synchronization from the next; by which clock does not matter.
fn synchronized(marker: &Path) -> Synchronized {
    match fs::metadata(marker).and_then(|file| file.modified()) {
        Ok(touched) => Synchronized::At(touched),
        Err(_) if marker.parent().is_some_and(Path::is_dir) => Synchronized::NotYet,
        Err(_) => Synchronized::Unknown,
    }
}
