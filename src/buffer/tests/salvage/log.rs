//! Damage of the log, and a log or a file that is alone.

use super::*;

#[tokio::test]
async fn a_log_without_its_file_and_a_file_without_its_log_are_salvaged() {
    let bench = Bench::killed().await;
    fs::remove_file(&bench.settings.path).unwrap();
    let bench = bench.open();
    let of_the_log = bench.salvages().await;
    assert!(!of_the_log.is_empty() && of_the_log.is_sorted_by(|a, b| a < b));

    let bench = Bench::killed().await;
    fs::remove_file(beside(&bench.settings.path, "-wal")).unwrap();
    let bench = bench.open();
    let of_the_file = bench.salvages().await;
    assert!(!of_the_file.is_empty() && of_the_file.is_sorted_by(|a, b| a < b));
    assert_eq!(bench.aside().len(), 1);
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_costs_its_frame_and_not_what_follows() {
    let bench = Bench::killed().await;
    let wal = beside(&bench.settings.path, "-wal");
    let mut file = fs::read(&wal).unwrap();
    let at = file.len() / 3;
    file[at] ^= 4;
    fs::write(&wal, &file).unwrap();

    let bench = bench.open();
    let came = bench.salvages().await;

    assert!(came.is_sorted_by(|a, b| a < b));
    assert!(came.len() as u64 >= CHUNKS - 20, "{} of {CHUNKS}", came.len());
    assert_eq!(came.last(), Some(&(CHUNKS - 1)), "what follows is there");
    assert_eq!(came.len() as u64 + bench.lost(), CHUNKS);
}

#[tokio::test]
async fn whatever_a_power_cut_leaves_of_the_last_commit_is_in_order() {
    const FRAME: usize = 24 + PAGE;
    let bench = Bench::killed().await;
    let wal = beside(&bench.settings.path, "-wal");
    let whole = fs::read(&wal).unwrap();
    let ends: Vec<usize> = (32..whole.len()).step_by(FRAME).filter(|at| whole[at + 4..at + 8] != [0; 4]).collect();
    let (first, last) = (ends[ends.len() - 2] + FRAME, ends[ends.len() - 1] + FRAME);
    fs::write(&wal, &whole[..first]).unwrap();
    let acknowledged = numbers(&cold::ColdFile::open(&bench.settings.path).unwrap());
    assert!(acknowledged.len() as u64 > CHUNKS / 2 && acknowledged.iter().copied().eq(0..acknowledged.len() as u64));
    // Each sector of it on the disk or not, and its end anywhere.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for case in 0..300 {
        let mut log = whole.clone();
        for sector in log[first..last].chunks_mut(512) {
            random = random.rotate_left(17).wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(case);
            if random >> 63 == 1 {
                sector.fill(0);
            }
        }
        log.truncate(first + usize::try_from(random % (last - first) as u64).unwrap());
        fs::write(&wal, log).unwrap();
        let file = cold::ColdFile::open(&bench.settings.path).unwrap();
        assert_eq!(file.found(), cold::Found::Buffer, "case {case}");
        if case % 20 == 0 {
            assert!(numbers(&file).starts_with(&acknowledged), "case {case}");
        }
    }
}

#[tokio::test]
async fn a_log_that_begins_anew_is_in_order_with_its_new_header_torn() {
    let bench = Bench::filled().await.open();
    // As SQLite leaves it: everything is in the database, and the log is still there.
    let copy = TempDir::new().unwrap();
    let path = copy.path().join("buffer.db");
    for suffix in ["", "-wal"] {
        fs::copy(beside(&bench.settings.path, suffix), beside(&path, suffix)).unwrap();
    }
    let mut log = fs::read(beside(&path, "-wal")).unwrap();
    assert!(log.len() > 32);
    log[8..24].fill(0);
    fs::write(beside(&path, "-wal"), log).unwrap();

    let file = cold::ColdFile::open(&path).unwrap();
    assert_eq!(file.found(), cold::Found::Buffer);
    assert!(numbers(&file).into_iter().eq(0..CHUNKS));
}
