//! A card that has worn out: what it does not give any more costs itself, and nothing else.

use super::{
    cold::{ColdFile, Found, beside},
    salvage::{CHUNKS, number},
    store::bad_sectors,
    *,
};

/// What a card reads at once.
const SECTOR: usize = 4096;
/// Every so many bytes one is tried.
const STEP: usize = 29 * SECTOR;

/// So large that its end is on pages of its own.
fn large(text: &str) -> String {
    format!("{}{text}", "x".repeat(5000))
}

#[tokio::test]
async fn a_lane_whose_head_can_not_be_read_is_set_aside_and_salvaged_and_does_not_stand_still() {
    let mut bench = Bench::new();
    let readings = [large("before"), large(bad_sectors::BAD), large("behind")];
    for reading in &readings {
        bench.holds(reading.clone()).await;
    }
    let mut bench = bench.close().await;
    bench.settings.world.vfs = bad_sectors::name();
    let mut bench = bench.open();
    let taken = bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap();
    assert_eq!(bench.forgets(bench.lane(), taken).collect::<Vec<_>>(), [readings[0].clone()]);

    for attempt in 0..3 {
        let read = bench.buffer().oldest(bench.lane(), 1).await;
        assert!(matches!(read, Err(BufferError::Read { .. })), "{attempt}: {read:?}");
    }

    let Opened { buffer, closed, .. } = bench.opened.take().unwrap();
    drop(buffer);
    assert!(matches!(closed.await, Ok(BufferError::Damaged { .. })));
    bench.settings.world = World::default();
    let bench = bench.open();
    let came = bench.salvages_texts().await;
    assert_eq!(came[came.len() - 2..], readings[1..], "the disk gives it now; and what was confirmed may come again");
}

#[tokio::test]
async fn a_file_whose_first_row_can_not_be_read_does_not_keep_the_agent_from_starting() {
    let mut bench = Bench::new();
    for reading in [bad_sectors::BAD, "behind"] {
        bench.holds(reading).await;
    }
    let mut bench = bench.close().await;
    bench.settings.world.vfs = bad_sectors::name();

    let mut bench = bench.open().close().await;

    assert_eq!(store::quarantined(&bench.settings.path).unwrap().len(), 1);
    bench.settings.world = World::default();
    assert_eq!(bench.open().salvages_texts().await, [bad_sectors::BAD, "behind"]);
}

#[tokio::test]
async fn a_sector_of_the_log_that_can_not_be_read_costs_what_was_on_it() {
    let bench = Bench::killed().await;
    let log = fs::read(beside(&bench.settings.path, "-wal")).unwrap();
    for at in (0..log.len()).step_by(STEP) {
        let sector = at as u64..(at + SECTOR) as u64;
        let file = ColdFile::worn(&bench.settings.path, 0..0, sector.clone());

        assert!(matches!(file.found(), Found::Damaged(_)), "{sector:?}");
        let came: Vec<u64> = file.chunks().filter_map(|item| item.chunk).map(|chunk| number(&chunk.data)).collect();
        assert!(came.is_sorted_by(|a, b| a < b), "{sector:?}: each once, and in order");
        assert!(came.len() as u64 >= CHUNKS - 30, "{sector:?}: {} of {CHUNKS}", came.len());
    }
}

#[tokio::test]
async fn a_sector_of_the_file_that_can_not_be_read_costs_what_was_on_it() {
    let bench = Bench::filled().await;
    let file = fs::read(&bench.settings.path).unwrap();
    for at in (0..file.len()).step_by(STEP) {
        let sector = at as u64..(at + SECTOR) as u64;
        let file = ColdFile::worn(&bench.settings.path, sector.clone(), 0..0);

        let came: Vec<u64> = file.chunks().filter_map(|item| item.chunk).map(|chunk| number(&chunk.data)).collect();
        assert!(came.is_sorted_by(|a, b| a < b), "{sector:?}: each once, and in order");
        assert!(came.len() as u64 >= CHUNKS - 30, "{sector:?}: {} of {CHUNKS}", came.len());
    }
}
