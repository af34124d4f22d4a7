//! A buffer whose files are damaged, again and again, each time after a power cut at a random moment: also while what the damage before has
//! left is still being brought over.
//!
//! Invariant: only what a file held and can't be read back from it any more may be destroyed. Everything else arrives, and each reading has
//! one name. What a file holds is what `headwater buffer export` says before and after; whether it finds all there is has its own tests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tokio::time::sleep;

use super::{KILL, LAST_DRAIN, Tally, chance::Chance};
use crate::support::{
    cloud::STREAM,
    consumer::Repeats,
    eventually_within,
    gateway::{Gateway, Plan},
    process::headwater,
};

const PAGE: usize = 2048;
/// What the first bytes of a database tell.
const HEADER: usize = 100;
/// Bytes that a reading has besides its number.
const PADDING: usize = 300;
const WINDOW: u16 = 20;

/// What happens to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    HeaderOfNoise,
    PagesOfNoise,
    PagesOfZeros,
    CutOff,
    NoDatabase,
    Empty,
    Gone,
    LogGone,
    /// The log of an earlier day.
    LogOfAnother,
    LogOfNoise,
    LogCutOff,
    /// A chunk with its checksum, and no readings.
    NoReadings,
    /// Of a file that was set aside before, be it salvaged or not.
    AsideOfNoise,
    AsideCutOff,
    AsideGone,
}

impl Damage {
    const ALL: [Self; 15] = [
        Self::HeaderOfNoise,
        Self::PagesOfNoise,
        Self::PagesOfZeros,
        Self::CutOff,
        Self::NoDatabase,
        Self::Empty,
        Self::Gone,
        Self::LogGone,
        Self::LogOfAnother,
        Self::LogOfNoise,
        Self::LogCutOff,
        Self::NoReadings,
        Self::AsideOfNoise,
        Self::AsideCutOff,
        Self::AsideGone,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::HeaderOfNoise => "buffer: noise over its header",
            Self::PagesOfNoise => "buffer: pages of noise",
            Self::PagesOfZeros => "buffer: pages of zeros",
            Self::CutOff => "buffer: cut off",
            Self::NoDatabase => "buffer: no database",
            Self::Empty => "buffer: empty",
            Self::Gone => "buffer: gone, and its log is there",
            Self::LogGone => "buffer's log: gone",
            Self::LogOfAnother => "buffer's log: that of an earlier day",
            Self::LogOfNoise => "buffer's log: noise in it",
            Self::LogCutOff => "buffer's log: cut off",
            Self::NoReadings => "buffer: a chunk that is no readings",
            Self::AsideOfNoise => "set aside: pages of noise",
            Self::AsideCutOff => "set aside: cut off",
            Self::AsideGone => "set aside: gone",
        }
    }

    /// The file that it befalls, of one buffer's: the youngest of those that were set aside, or the buffer.
    fn whose(self, database: &Path) -> Option<PathBuf> {
        match self {
            Self::AsideOfNoise | Self::AsideCutOff | Self::AsideGone => set_aside(database).pop(),
            _ => Some(database.to_owned()),
        }
    }

    /// What else has readings of that file, and brings them: the buffer those that were salvaged already; and where that has to be set
    /// aside, what it was salvaging is salvaged anew.
    fn spares(self, database: &Path) -> Vec<PathBuf> {
        match self {
            Self::AsideOfNoise | Self::AsideCutOff | Self::AsideGone => vec![database.to_owned()],
            Self::HeaderOfNoise | Self::NoDatabase | Self::Empty | Self::Gone => set_aside(database),
            _ => Vec::new(),
        }
    }

    /// Does it to the files, as far as they are there: an agent that was killed while it made new ones has left none.
    fn befalls(self, database: &Path, log_of_another: Option<&[u8]>, chance: &mut Chance) {
        let log = log_of(database);
        let changed = |path: &Path, change: &mut dyn FnMut(&mut Vec<u8>)| {
            if let Ok(mut bytes) = fs::read(path) {
                change(&mut bytes);
                fs::write(path, bytes).expect("it is ours");
            }
        };
        let cut = |bytes: &mut Vec<u8>, chance: &mut Chance| bytes.truncate(place(chance, bytes.len()));
        match self {
            Self::HeaderOfNoise => changed(database, &mut |file| file.iter_mut().take(HEADER).for_each(|byte| *byte = 0xA7)),
            Self::PagesOfNoise | Self::AsideOfNoise => changed(database, &mut |file| spoil(file, true, chance)),
            Self::PagesOfZeros => changed(database, &mut |file| spoil(file, false, chance)),
            Self::CutOff | Self::AsideCutOff => changed(database, &mut |file| cut(file, chance)),
            Self::NoDatabase => changed(database, &mut |file| *file = b"a note that somebody left here\n".repeat(300)),
            Self::Empty => changed(database, &mut Vec::clear),
            Self::Gone => drop(fs::remove_file(database)),
            Self::LogGone => drop(fs::remove_file(log)),
            Self::LogOfAnother => changed(&log, &mut |file| {
                if let Some(other) = log_of_another {
                    *file = other.to_vec();
                }
            }),
            Self::LogOfNoise => changed(&log, &mut |file| spoil(file, true, chance)),
            Self::LogCutOff => changed(&log, &mut |file| cut(file, chance)),
            Self::NoReadings => drop(no_readings(database)),
            Self::AsideGone => [database, &log].into_iter().for_each(|file| drop(fs::remove_file(file))),
        }
    }
}

/// Makes noise of a chunk in the middle, with the checksum of the noise, and leaves the log as it is. Errors: there is no such buffer.
fn no_readings(database: &Path) -> rusqlite::Result<()> {
    let file = rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    file.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    file.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let chunk = "SELECT id, length(data) FROM chunk ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 2 FROM chunk)";
    let (id, len): (i64, usize) = file.query_row(chunk, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let noise = vec![0xFF; len];
    let checksum = crc32c::crc32c(&noise);
    file.execute("UPDATE chunk SET data = ?, keys = NULL, crc = ? WHERE id = ?", rusqlite::params![noise, checksum, id])?;
    Ok(())
}

/// The files that were set aside of a buffer, in the order of time.
fn set_aside(database: &Path) -> Vec<PathBuf> {
    let mut aside = beside(database);
    let is_one = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.contains("/buffer.db.corrupt-") && !["-wal", ".sent"].iter().any(|suffix| name.ends_with(suffix))
    };
    aside.retain(is_one);
    aside.sort();
    aside
}

/// Whether the agent was killed while it set the buffer aside.
fn is_parted(database: &Path) -> bool {
    beside(database).iter().any(|path| path.to_string_lossy().ends_with("-parting"))
}

/// All that is in the buffer's folder.
fn beside(database: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(database.parent().expect("it is in a folder")).expect("it is there");
    folder.map(|entry| entry.expect("it can be read").path()).collect()
}

/// Fills some pages with zeros or with noise; the first page has kinds of its own.
fn spoil(file: &mut [u8], noise: bool, chance: &mut Chance) {
    let pages = file.len() / PAGE;
    for _ in 0..chance.between(1, 6) {
        let page = 1 + place(chance, pages.saturating_sub(1));
        for byte in file.iter_mut().skip(page * PAGE).take(PAGE) {
            *byte = if noise { chance.between(0, 256).to_le_bytes()[0] } else { 0 };
        }
    }
}

fn place(chance: &mut Chance, below: usize) -> usize {
    let below = u64::try_from(below.max(1)).expect("a file fits in memory");
    usize::try_from(chance.between(0, below)).expect("it is below the length")
}

fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Topics, and the numbers that their sensors gave.
type Readings = BTreeSet<(String, u64)>;

/// What `headwater buffer export` finds in a file.
async fn readings_in(database: &Path) -> Readings {
    let exported = headwater(["buffer".as_ref(), "export".as_ref(), database.as_os_str()]).await;
    let reading = |line: &str| {
        let reading: Value = serde_json::from_str(line).expect("an export is lines of JSON");
        let number = reading["val"].as_u64().or_else(|| reading["val"][0].as_u64())?; // a notice has none
        Some((reading["topic"].as_str()?.to_owned(), number))
    };
    String::from_utf8_lossy(&exported.stdout).lines().filter_map(reading).collect()
}

/// Damages the buffer of one installation in every way, `times` over, and accounts for every reading.
pub async fn befalls(seed: u64, times: usize) -> Tally {
    let mut tally = Tally::default();
    let mut chance = Chance::new(seed);
    let mut gateway = plan(&mut chance).starts().await;
    gateway.cloud.is_sorted_behind(STREAM);
    gateway.field.pads(PADDING);
    let database = gateway.agent.dir().join("state/buffer.db");
    let (mut destroyed, mut earlier_log, mut cuts) = (Readings::new(), None, 0_u64);
    let mut story = vec![format!("seed {seed}")];
    for damage in shuffled(times, &mut chance) {
        if chance.once_in(4) {
            gateway.cloud.back();
        } else {
            gateway.cloud.away();
        }
        let (readings, moment) = (chance.between(100, 500), chance.moment());
        story.push(format!("{readings} readings; {damage:?} after {moment:?}"));
        let Gateway { field, agent, .. } = &mut gateway;
        field.publishes(readings).await;
        sleep(moment).await;
        agent.power_off().await;
        let log = fs::read(log_of(&database)).ok();
        // What a file holds can't be told while its log is parted from it: the next start joins them.
        if let Some(file) = damage.whose(&database).filter(|_| !is_parted(&database)) {
            let held = readings_in(&file).await;
            damage.befalls(&file, earlier_log.as_deref(), &mut chance);
            let left = readings_in(&file).await;
            story.push(format!("{}: of {} readings {} can be read", file.display(), held.len(), left.len()));
            let mut elsewhere = Readings::new();
            for file in damage.spares(&database) {
                elsewhere.extend(readings_in(&file).await);
            }
            destroyed.extend(held.difference(&left).filter(|reading| !elsewhere.contains(*reading)).cloned());
            tally.inject(damage.name(), 1);
        }
        earlier_log = log.or(earlier_log);
        agent.start();
        if chance.once_in(3) {
            sleep(chance.moment()).await;
            agent.power_off().await;
            agent.start();
            cuts += 1;
            story.push("killed again".into());
        }
        cuts += 1;
    }
    gateway.cloud.back();
    gateway.agent.power_off().await; // a fresh start waits for nothing
    gateway.agent.start();
    cuts += 1;
    tally.inject(KILL, cuts);
    gateway.field.publishes(16).await; // the last ones of each sensor, which no damage meets
    arrives(&mut gateway, &story).await;
    let repeated = gateway.field.repeated_by_the_broker().await;
    audit(&mut gateway, &destroyed, repeated, &mut tally);
    gateway.agent.stops().await;
    if !tally.is_clean() {
        tally.unexplained.push(story.join("\n      "));
    }
    tally
}

/// Waits until all that is left has arrived. An agent that finds damage while it works ends, and is started again, as by systemd.
async fn arrives(gateway: &mut Gateway, story: &[String]) {
    let Gateway { field, cloud, agent, .. } = gateway;
    let status = eventually_within(LAST_DRAIN, "all that is left is there", async || {
        agent.is_kept_running();
        let status = agent.try_status().await?;
        let salvaged = !status.problems().iter().any(|problem| problem.contains("so far"));
        if salvaged && cloud.consumer(STREAM).has_all_of(field.sent()) && status.count("/ledger/buffered") == 0 {
            return Ok(status);
        }
        Err(format!("{status:?}; {}; {}", story.join("\n"), agent.last_log()))
    })
    .await;
    status.balances();
}

fn audit(gateway: &mut Gateway, destroyed: &Readings, repeated: u64, tally: &mut Tally) {
    let Gateway { field, cloud, .. } = gateway;
    let consumer = cloud.consumer(STREAM);
    let Repeats { same_name, marked, unmarked } = consumer.repeats;
    let absent = consumer.absent_of(field.sent());
    (tally.sent, tally.same_name, tally.marked, tally.not_ours) = (field.total(), same_name, marked, unmarked);
    tally.delivered = consumer.distinct() - marked - unmarked;
    tally.destroyed = absent.intersection(destroyed).count() as u64;
    tally.lost = absent.len() as u64 - tally.destroyed;
    let mut must = |good: bool, what: String| tally.unexplained.extend((!good).then(|| format!("damage: {what}")));
    // What it may repeat is lost with a damaged buffer, so the window is no bound: mosquitto 2.0.11 hands over all that has queued up.
    must(marked <= repeated, format!("{marked} marked, and the broker repeated {repeated}"));
    let again = field.sent_again();
    must(unmarked <= again, format!("{unmarked} came twice without a mark, at most {again} were sent twice"));
    must(consumer.wrong().is_empty(), format!("{:?}", consumer.wrong()));
}

fn shuffled(times: usize, chance: &mut Chance) -> Vec<Damage> {
    let mut all = Damage::ALL.repeat(times);
    for last in (1..all.len()).rev() {
        all.swap(last, place(chance, last + 1));
    }
    all
}

fn plan(chance: &mut Chance) -> Plan {
    Gateway::new()
        .broker(|broker| broker.setting("log_type", "all")) // it says what it repeats
        .window(WINDOW)
        .set("buffer.hold", chance.one_of(&["0s", "20ms", "1s"]))
        .set("buffer.memory", "1 MiB")
        .set("streams.readings.lanes", chance.one_of(&[1, 4]))
        .set("streams.readings.drain_order", chance.one_of(&["oldest-first", "live-first"]))
}
