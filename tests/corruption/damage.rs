//! Each kind of damage, as a sentence.

use std::fs;

use super::{
    files::{PAGE, spoil_pages},
    kinds::{End, Outcome, WAITING, full, goes_on, recovers},
};

/// Where the pages lie; what failed once fails again.
const SEEDS: [u64; 3] = [1, 20_261_121, 0xDEAD_BEEF];

/// What the status says where nothing was found.
const NOTHING: &str = "0 readings salvaged, 0 known to be lost";

#[tokio::test]
async fn buffer_file_corrupt_it_is_set_aside_a_new_one_is_made_and_everything_readable_is_salvaged_and_counted() {
    let (mut gateway, files) = full(End::Stop).await;
    // The first page says what the file is; nearly all others hold parts of chunks.
    files.change(|file| {
        let pages = file.len() / PAGE;
        file[..PAGE].fill(0);
        for page in [pages / 3, pages / 2, pages * 2 / 3] {
            file[page * PAGE..(page + 1) * PAGE].fill(0xA7);
        }
    });
    let damaged = fs::read(files.database()).unwrap();

    let Outcome { arrived, lost, missing, status } = recovers(&mut gateway).await;

    let [aside] = &*files.aside() else { panic!("{:?}", files.aside()) };
    let time = aside.to_string_lossy().rsplit_once("buffer.db.corrupt-").map(|(_, time)| time.to_owned()).unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(fs::read(aside).unwrap(), damaged, "it is left as it was");
    assert!(fs::read(files.database()).unwrap().starts_with(b"SQLite format 3\0"));
    // A page costs its chunk, which has no more readings than the broker has in flight.
    assert!((WAITING - 3 * 200..WAITING).contains(&arrived), "{arrived}");
    assert_eq!((arrived + lost, missing), (WAITING, lost));
    let counted = |problem: &String| problem.contains(&format!("{arrived} readings salvaged, {lost} known to be lost"));
    assert!(status.problems().iter().any(counted), "{:?}", status.problems());
    // The buffer that it has now is as good as any.
    gateway.cloud.away();
    gateway.field.publishes(100).await;
    gateway.holds(100).await;
    gateway.cloud.back();
    gateway.agent.shows("they are sent", |status| status.count("/ledger/buffered") == 0).await.balances();
    gateway.agent.stops().await;
}

#[tokio::test]
async fn pages_of_noise_cost_what_was_on_them_and_nothing_else() {
    for seed in SEEDS {
        let (mut gateway, files) = full(End::Stop).await;
        files.change(|file| spoil_pages(file, 5, seed, true));

        let Outcome { arrived, lost, missing, status } = recovers(&mut gateway).await;

        // A page of a chunk costs the chunk, and that is some sixty readings here.
        assert!(arrived >= WAITING / 2, "seed {seed}: {arrived}");
        assert!(missing == 0 || lost > 0, "seed {seed}: {missing}");
        assert!(arrived + lost <= WAITING, "seed {seed}: {arrived} and {lost}");
        // Some of the noise may be where readings would be that were refused.
        let tells = |problem: &String| problem.contains("may be deleted") || problem.contains("there may be refused readings");
        assert!(status.problems().iter().any(tells), "{:?}", status.problems());
    }
}

#[tokio::test]
async fn pages_of_zeros_cost_what_was_on_them_and_nothing_else() {
    for seed in SEEDS {
        let (mut gateway, files) = full(End::PowerCut).await;
        files.change(|file| spoil_pages(file, 5, seed, false));

        let Outcome { arrived, lost, missing, .. } = recovers(&mut gateway).await;

        // A page of a chunk costs the chunk, and that is some sixty readings here.
        assert!(arrived >= WAITING / 2, "seed {seed}: {arrived}");
        assert!(missing == 0 || lost > 0, "seed {seed}: {missing}");
        assert!(arrived + lost <= WAITING, "seed {seed}: {arrived} and {lost}");
    }
}

#[tokio::test]
async fn a_header_of_noise_costs_nothing() {
    let (mut gateway, files) = full(End::Stop).await;
    files.change(|file| file[..100].fill(0xA7));

    let Outcome { arrived, lost, .. } = recovers(&mut gateway).await;

    assert_eq!((arrived, lost), (WAITING, 0));
    assert_eq!(files.aside().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_cut_off_gives_what_is_left_of_it() {
    let (mut gateway, files) = full(End::Stop).await;
    files.change(|file| file.truncate(file.len() / 2 + 1000));

    let Outcome { arrived, lost, missing, .. } = recovers(&mut gateway).await;

    assert!(arrived >= WAITING / 4, "{arrived}");
    // Behind the last that can be read nobody knows how many there were.
    assert!(missing <= lost && arrived + lost <= WAITING, "{arrived} arrived, {lost} lost, {missing} missing");
}

#[tokio::test]
async fn an_empty_file_does_not_pass_for_an_empty_buffer() {
    let (mut gateway, files) = full(End::Stop).await;
    files.change(Vec::clear);

    let Outcome { arrived, lost, status, .. } = recovers(&mut gateway).await;

    assert_eq!((arrived, lost), (0, 0));
    let problems = status.problems();
    assert!(problems.iter().any(|problem| problem.contains("it is empty") && problem.contains(NOTHING)), "{problems:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside_untouched() {
    let (mut gateway, files) = full(End::Stop).await;
    files.change(|file| *file = b"a note that somebody left here\n".repeat(300));
    let before = fs::read(files.database()).unwrap();

    let Outcome { arrived, lost, status, .. } = recovers(&mut gateway).await;

    assert_eq!((arrived, lost), (0, 0));
    let problems = status.problems();
    assert!(problems.iter().any(|problem| problem.contains(NOTHING)), "{problems:?}");
    assert_eq!(fs::read(&files.aside()[0]).unwrap(), before);
}

#[tokio::test]
async fn a_log_that_is_gone_is_noticed_and_what_the_file_has_arrives() {
    let (mut gateway, files) = full(End::PowerCut).await;
    fs::remove_file(files.log()).unwrap();

    let Outcome { arrived, lost, missing, status } = recovers(&mut gateway).await;

    let problems = status.problems();
    assert!(problems.iter().any(|problem| problem.contains("write-ahead log is missing")), "{problems:?}");
    assert!(missing <= lost && arrived + lost <= WAITING, "{arrived} arrived, {lost} lost, {missing} missing");
}

#[tokio::test]
async fn a_log_without_its_file_is_salvaged() {
    let (mut gateway, files) = full(End::PowerCut).await;
    fs::remove_file(files.database()).unwrap();

    let Outcome { arrived, lost, .. } = recovers(&mut gateway).await;

    assert!(arrived > 0);
    // What came before the first that can be read may have been delivered, so nobody counts it.
    assert!(arrived + lost <= WAITING, "{arrived} arrived, {lost} lost");
    assert_eq!(files.aside().len(), 1, "{:?}", files.aside());
}

#[tokio::test]
async fn another_gateways_log_beside_the_file_stops_nothing() {
    let (other, others) = full(End::PowerCut).await;
    let (mut gateway, files) = full(End::PowerCut).await;
    fs::copy(others.log(), files.log()).unwrap();
    drop(other);

    let Outcome { arrived, lost, status, .. } = goes_on(&mut gateway).await;

    // Its rows are told from ours by nothing, so either's may come.
    assert!(arrived > 0 && arrived + lost <= 2 * WAITING, "{arrived} arrived, {lost} lost");
    assert_eq!(status.count("/ledger/delivered"), status.count("/ledger/received") - status.count("/ledger/dropped/corrupt"));
}

#[tokio::test]
async fn a_bit_that_flipped_in_the_log_costs_its_chunk_and_what_follows_it_arrives() {
    let (mut gateway, files) = full(End::PowerCut).await;
    let mut at = 0;
    files.change_log(|log| {
        at = log.len() / 2;
        log[at] ^= 0x10;
    });

    let Outcome { arrived, missing, lost, .. } = recovers(&mut gateway).await;

    assert!(arrived >= WAITING * 9 / 10, "bit at {at}: {arrived}");
    assert!(lost >= missing, "bit at {at}: {lost} < {missing}");
}

#[tokio::test]
async fn a_table_that_is_gone_costs_nothing_that_is_in_the_others() {
    let (mut gateway, files) = full(End::Stop).await;
    rusqlite::Connection::open(files.database()).unwrap().execute_batch("DROP TABLE lane").unwrap();

    let Outcome { arrived, lost, .. } = recovers(&mut gateway).await;

    assert_eq!((arrived, lost), (WAITING, 0));
}

#[tokio::test]
async fn a_chunk_that_is_what_was_written_and_no_readings_is_set_aside_and_spoils_and_holds_up_no_other() {
    let (mut gateway, files) = full(End::Stop).await;
    // As a bit of the memory that flips before the checksum is made, or a fault of ours: in the smallest, which would travel with others,
    // and in the largest.
    let file = rusqlite::Connection::open(files.database()).unwrap();
    let mut noise = Vec::new();
    let mut gone = 0;
    for order in ["ASC", "DESC"] {
        let chunk = format!("SELECT id, readings, length(data) FROM chunk ORDER BY length(data) {order}, id LIMIT 1");
        let row = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (id, readings, bytes): (i64, u64, usize) = file.query_row(&chunk, [], row).unwrap();
        let bytes = vec![0xFF; bytes];
        let checksum = crc32c::crc32c(&bytes);
        file.execute("UPDATE chunk SET data = ?, crc = ? WHERE id = ?", rusqlite::params![bytes, checksum, id]).unwrap();
        noise.push(bytes);
        gone += readings;
    }
    drop(file);

    let Outcome { arrived, lost, missing, status } = recovers(&mut gateway).await;

    assert_eq!((arrived, lost, status.count("/ledger/rejected/corrupt")), (WAITING - gone, 0, gone));
    assert!(missing <= gone, "{missing} of {gone}"); // it may have been the first or the last
    let problems = status.problems();
    assert!(problems.iter().any(|problem| problem.contains("2 readings are set aside")), "{problems:?}");
    gateway.agent.stops().await;
    let file = rusqlite::Connection::open(files.database()).unwrap();
    let mut select = file.prepare("SELECT data FROM rejected ORDER BY length(data)").unwrap();
    let kept: Vec<Vec<u8>> = select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(kept == noise, "{:?} and {:?} bytes", kept.iter().map(Vec::len), noise.iter().map(Vec::len));
}

#[tokio::test]
async fn a_salvage_that_power_cuts_interrupt_brings_everything_once() {
    let (mut gateway, files) = full(End::Stop).await;
    files.change(|file| file[..PAGE].fill(0));
    for _ in 0..3 {
        gateway.agent.start();
        gateway.agent.logs("running").await;
        gateway.agent.power_off().await;
    }

    let Outcome { arrived, lost, .. } = recovers(&mut gateway).await;

    assert_eq!((arrived, lost), (WAITING, 0));
    assert_eq!(files.aside().len(), 1);
}

#[tokio::test]
async fn a_buffer_that_is_damaged_again_and_again_sends_nothing_again_that_was_set_aside_and_sent() {
    let (mut gateway, files) = full(End::Stop).await;
    for times in 1..=3 {
        files.change(|file| file[..100].fill(0xA7));

        let Outcome { lost, missing, .. } = recovers(&mut gateway).await;

        gateway.agent.stops().await;
        assert_eq!((lost, missing), (0, 0));
        assert_eq!((files.aside().len(), files.aside_and_marks().len()), (times, 2 * times));
    }
    let repeats = gateway.cloud.consumer("plant-readings").repeats;
    assert!(repeats.same_name < WAITING, "{repeats:?}");
}

#[tokio::test]
async fn buffer_of_a_newer_version_is_refused_untouched() {
    let (mut gateway, files) = full(End::Stop).await;
    files.change(|file| file[60..64].copy_from_slice(&77_u32.to_be_bytes()));
    let before = fs::read(files.database()).unwrap();

    gateway.agent.start();
    let (status, log) = gateway.agent.ends().await;

    assert_eq!(status.code(), Some(1));
    assert!(log.contains("schema version 77"), "{log}");
    assert_eq!(fs::read(files.database()).unwrap(), before);
    assert!(files.aside().is_empty());
}
