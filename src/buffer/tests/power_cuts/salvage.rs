//! The power goes while a damaged buffer is set aside, and while what can be read of it is brought into a new one.
//!
//! What comes of each cut, and of a salvage that nothing disturbs afterwards, is what comes where no power ever goes: each reading once,
//! in its order, and the file that was set aside as it was.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use tempfile::TempDir;

use super::{
    Dice, Plan,
    cuts::{Cut, Folders, Mode, Storage},
    events::Item,
    number,
    oracle::{TODAY, drains},
    plan,
    recorder::Recording,
    stepped::Stepped,
    tape::Tape,
    workload::{self, LANES, Workload, layout, row_of},
};
use crate::buffer::{BufferSettings, cold::beside, store::quarantined, writer::whole};

/// Steps of the workload that fills the buffer.
const STEPS: u64 = 120;
/// Room for all of it and for as much again, or the salvage would wait.
const ROOM: u64 = 64 << 20;
const PAGE: usize = 2048;

/// Files by their names.
type Files = BTreeMap<String, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    });
    files.collect()
}

fn put(files: &Files) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, data) in files {
        fs::write(dir.path().join(name), data).unwrap();
    }
    dir
}

fn settings(folder: &Path, plan: Plan) -> BufferSettings {
    let after = Plan { bounds: false, ..plan.after() };
    BufferSettings { max_size: ROOM, ..workload::settings(folder.join("buffer.db"), &after) }
}

/// What is in each lane, by its place in [`LANES`]; what was set aside goes before.
type Readings = BTreeMap<usize, Vec<Item>>;

/// Opens what is in `folder`, and salvages.
fn salvaged(folder: &Path, plan: Plan) -> Result<Stepped, String> {
    let settings = settings(folder, plan);
    let opened = whole(&settings.path, || Stepped::open(&settings, &TODAY.map(layout)));
    let mut stepped = opened.map_err(|error| crate::status::with_causes(&error))?;
    stepped.salvages();
    Ok(stepped)
}

/// The same, and drains.
fn comes_back(folder: &Path, plan: Plan) -> Result<Readings, String> {
    let mut stepped = salvaged(folder, plan)?;
    let mut readings = Readings::new();
    let rows: Vec<_> = stepped.all_lanes().map(row_of).collect();
    for (id, lane) in rows {
        readings.entry(lane).or_default().extend(drains(&mut stepped, id, LANES[lane].0)?);
    }
    stepped.closes();
    readings.retain(|_, items| !items.is_empty());
    Ok(readings)
}

/// How the buffer was left before the damage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order: everything is in the database, and there is no log.
    Closed,
    /// By a power cut: the last of it is in the log.
    PowerCut,
}

/// A buffer with `damage` done to it.
fn damaged(plan: Plan, end: End, damage: fn(&mut Files)) -> Files {
    let mut workload = Workload::new(plan);
    workload.opens();
    (0..plan.steps).for_each(|_| workload.step());
    match end {
        End::Closed => workload.closes(),
        // Whatever was in the database by then, these are in the log alone, and the log did not begin anew with the last one: what is
        // damaged of a single commit looks as if the power had cut it.
        End::PowerCut => {
            let log = beside(&workload.settings.path, "-wal");
            let mut appended = 0;
            while appended < 4 || commits_in(&fs::read(&log).unwrap()) < 2 {
                workload.appends();
                workload.settled();
                appended += 1;
            }
        }
    }
    let mut left = files(workload.settings.path.parent().unwrap());
    left.remove("buffer.db-reserve");
    drop(workload.ends());
    damage(&mut left);
    left
}

/// Commits since the log began anew. Source: SQLite file format, section 4.1.
fn commits_in(log: &[u8]) -> usize {
    let salts = log.get(16..24);
    let frames = log.get(32..).unwrap_or_default().chunks(24 + PAGE);
    let own = frames.take_while(|frame| frame.get(8..16) == salts);
    own.filter(|frame| frame[4..8] != [0; 4]).count()
}

/// Sets aside and salvages what `damage` leaves, and cuts the power at each point of that.
fn finds_nothing(what: &str, end: End, damage: fn(&mut Files)) {
    let seed = number("HEADWATER_CRASH_SEED", super::SEED);
    let mut tried = 0;
    for seed in seed..seed + number("HEADWATER_CRASH_SEEDS", 1) {
        let plan = Plan { seed, steps: STEPS, ..plan() };
        let damaged = damaged(plan, end, damage);
        if !is_found_at_the_start(&damaged, plan) {
            println!("{what}, seed {seed}: left out, the start has nothing to find");
            continue;
        }
        tried += 1;
        let expected = comes_back(put(&damaged).path(), plan).unwrap();
        let readings: usize = expected.values().map(Vec::len).sum();
        assert!(readings > 10, "{what}: only {readings} can be read");

        let dir = put(&damaged);
        let recording = Recording::of(dir.path(), Tape::over(dir.path()));
        salvaged(dir.path(), plan).unwrap().closes();
        let tape = recording.ends();

        let (mut dice, mut known, mut states) = (Dice(seed | 1), HashMap::new(), 0);
        let mut failures = Vec::new();
        for folders in [Folders::Strict, Folders::OwnSync] {
            let mut storage = Storage::new(folders, &tape.before);
            for point in 0..=tape.entries.len() {
                for mode in Mode::ALL {
                    let cut = storage.cut(mode, &mut dice);
                    states += 1;
                    let same = known.entry(cut.key()).or_insert_with(|| is_the_same(&cut, plan, &damaged, &expected));
                    if let Err(why) = same {
                        failures.push(format!("{what}, seed {seed}, point {point}, {mode:?}, {folders:?}: {why}"));
                    }
                }
                if let Some(entry) = tape.entries.get(point) {
                    storage.does(&entry.op);
                }
            }
        }
        let (points, images) = (tape.entries.len() + 1, known.len());
        println!("{what}, seed {seed}: {readings} readings, {points} points, {states} states, {images} of them different");
        assert!(failures.is_empty(), "{} of {states}: {:#?}", failures.len(), &failures[..failures.len().min(5)]);
    }
    assert!(tried > 0 || seed != super::SEED, "{what}: no seed makes a file that has to be set aside");
}

/// Whether the buffer has to be set aside before it is open. What is cut off may be found when it is read and no sooner, and a log may have
/// nothing any more that the database does not; the first is a matter of the running agent, and the second costs nothing.
fn is_found_at_the_start(damaged: &Files, plan: Plan) -> bool {
    let dir = put(damaged);
    let settings = settings(dir.path(), plan);
    drop(whole(&settings.path, || Stepped::open(&settings, &TODAY.map(layout))).unwrap());
    !quarantined(&settings.path).unwrap().is_empty()
}

/// Whether what comes back after the cut is what came without one, and the damaged files are as they were.
fn is_the_same(cut: &Cut, plan: Plan, damaged: &Files, expected: &Readings) -> Result<(), String> {
    let dir = put(&cut.files().map(|(name, data)| (name.to_owned(), data)).collect());
    let found = comes_back(dir.path(), plan)?;
    for (lane, items) in expected {
        let found = found.get(lane).map_or(&[][..], Vec::as_slice);
        if found != items {
            let missing = items.iter().filter(|item| !found.contains(item)).count();
            return Err(format!("{:?}: {} came instead of {}, {missing} are missing", LANES[*lane], found.len(), items.len()));
        }
    }
    let aside = quarantined(&dir.path().join("buffer.db")).map_err(|error| error.to_string())?;
    let [aside] = &*aside else { return Err(format!("{aside:?} are set aside")) };
    for suffix in ["", "-wal"] {
        let (before, now) = (damaged.get(&format!("buffer.db{suffix}")), fs::read(beside(aside, suffix)).ok());
        if before != now.as_ref() {
            return Err(format!("what was set aside is not as it was: {:?}", beside(aside, suffix)));
        }
    }
    Ok(())
}

/// What was confirmed by some point of the record, by lane.
type Confirmed = Vec<(usize, usize, Vec<Item>)>;

/// Salvages what is in `folder`, and sends it; says what was confirmed when.
fn sent(folder: &Path, plan: Plan, recording: &Recording) -> Confirmed {
    let mut stepped = salvaged(folder, plan).unwrap();
    let rows: Vec<_> = stepped.all_lanes().map(row_of).collect();
    let mut confirmed = Confirmed::new();
    for (id, lane) in rows {
        let items = drains(&mut stepped, id, LANES[lane].0).unwrap();
        confirmed.push((recording.tape().entries.len(), lane, items));
        stepped.settles();
    }
    stepped.closes();
    confirmed
}

/// After the cut the buffer is lost as a whole: whether all comes that was not confirmed by `point`, and nothing where it is kept that
/// all was. Returns whether it was.
fn comes_unless_confirmed(cut: &Cut, plan: Plan, expected: &Readings, confirmed: &Confirmed, point: usize) -> Result<bool, String> {
    let mut left: Files = cut.files().map(|(name, data)| (name.to_owned(), data)).collect();
    let marked = left.keys().any(|name| Path::new(name).extension().is_some_and(|extension| extension == "sent"));
    left.remove("buffer.db-wal");
    left.insert("buffer.db".into(), vec![0x55; 3 * PAGE]);
    let found = comes_back(put(&left).path(), plan)?;
    if marked && !found.is_empty() {
        return Err(format!("it is kept that all was sent, and {found:?} comes"));
    }
    for (lane, items) in expected {
        let by_then = confirmed.iter().filter(|(at, confirmed, _)| *at <= point && confirmed == lane).flat_map(|(.., items)| items);
        let known: Vec<&Item> = by_then.chain(found.get(lane).into_iter().flatten()).collect();
        let missing = items.iter().filter(|item| !known.contains(item)).count();
        if missing > 0 {
            return Err(format!("{:?}: {missing} of {} are missing", LANES[*lane], items.len()));
        }
    }
    Ok(marked)
}

#[test]
fn a_power_cut_while_it_is_kept_that_all_of_a_damaged_buffer_was_sent_costs_nothing_even_if_the_next_one_is_damaged() {
    let plan = Plan { seed: number("HEADWATER_CRASH_SEED", super::SEED), steps: STEPS, ..plan() };
    let damaged = damaged(plan, End::Closed, |files| files.get_mut("buffer.db").unwrap()[..PAGE].fill(0));
    let expected = comes_back(put(&damaged).path(), plan).unwrap();
    let dir = put(&damaged);
    let recording = Recording::of(dir.path(), Tape::over(dir.path()));
    let confirmed = sent(dir.path(), plan, &recording);
    let tape = recording.ends();

    let (mut dice, mut marked, mut states) = (Dice(plan.seed | 1), 0, 0);
    for folders in [Folders::Strict, Folders::OwnSync] {
        let mut storage = Storage::new(folders, &tape.before);
        let mut known = HashMap::new();
        for point in 0..=tape.entries.len() {
            let by_then = confirmed.iter().filter(|(at, ..)| *at <= point).count();
            for mode in Mode::ALL {
                let cut = storage.cut(mode, &mut dice);
                let names = cut.names();
                // Before that the damaged file is the buffer, and lost with it.
                if !names.iter().any(|name| name.starts_with("buffer.db.corrupt-")) {
                    continue;
                }
                states += 1;
                let key = (names, by_then);
                let comes = known.entry(key).or_insert_with(|| comes_unless_confirmed(&cut, plan, &expected, &confirmed, point));
                match comes {
                    Ok(is_marked) => marked += u32::from(*is_marked),
                    Err(why) => panic!("seed {}, point {point}, {mode:?}, {folders:?}: {why}", plan.seed),
                }
            }
            if let Some(entry) = tape.entries.get(point) {
                storage.does(&entry.op);
            }
        }
    }
    println!("{states} states, in {marked} it was kept");
    assert!(marked > 0);
}

#[test]
fn a_power_cut_while_a_buffer_with_a_damaged_header_is_set_aside_or_salvaged_costs_nothing() {
    finds_nothing("a first page of zeros", End::Closed, |files| files.get_mut("buffer.db").unwrap()[..PAGE].fill(0));
}

#[test]
fn a_power_cut_while_a_buffer_that_was_cut_off_is_set_aside_or_salvaged_costs_nothing() {
    finds_nothing("an end that is cut off", End::PowerCut, |files| {
        let file = files.get_mut("buffer.db").unwrap();
        file.truncate(file.len() / 2 / PAGE * PAGE + 700);
    });
}

#[test]
fn a_power_cut_while_a_log_without_its_buffer_is_set_aside_or_salvaged_costs_nothing() {
    finds_nothing("a log alone", End::PowerCut, |files| {
        files.remove("buffer.db").unwrap();
    });
}

#[test]
fn a_power_cut_while_a_buffer_with_a_damaged_log_is_set_aside_or_salvaged_costs_nothing() {
    finds_nothing("a flipped bit in the log", End::PowerCut, |files| {
        // In the page of the first frame, so that there are others behind it.
        files.get_mut("buffer.db-wal").unwrap()[32 + 24 + PAGE / 2] ^= 4;
    });
}
