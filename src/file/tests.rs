use std::{collections::BTreeSet, io::Read};

use tempfile::TempDir;

use super::*;

const TARGET: &str = "readings.jsonl";
const NOON: Timestamp = Timestamp(1_795_780_800_000);
const MINUTE: Duration = Duration::from_mins(1);

struct Site {
    disk: TempDir,
    config: FileConfig,
    start: Instant,
}

impl Site {
    /// Files of 20 bytes.
    fn new(change: impl FnOnce(&mut FileConfig)) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let mut config = FileConfig {
            path: disk.path().to_owned(),
            file_size: ByteCount(20),
            file_age: MINUTE,
            keep_free: ByteCount(0),
            ..FileConfig::default()
        };
        change(&mut config);
        Self { disk, config, start: Instant::now() }
    }

    fn folder(&self) -> Folder {
        Folder::new(&self.config, "gw")
    }

    /// Puts lines of 10 bytes at noon.
    fn put(&self, folder: &Folder, lines: &[u32]) -> Result<(), FolderError> {
        let records: Vec<_> = lines.iter().map(|line| format!("{{\"n\":{line:03}}}\n").into_bytes()).collect();
        folder.put(TARGET, &records, self.start, NOON)
    }

    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(self.disk.path()).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.disk.path().join(name), bytes).unwrap();
    }

    /// Everything in the order of names.
    fn content(&self) -> String {
        let mut content = String::new();
        for name in self.names() {
            let file = fs::File::open(self.disk.path().join(&name)).unwrap();
            if name.contains(".zst") {
                zstd::Decoder::new(file).unwrap().read_to_string(&mut content).unwrap();
            } else {
                (&file).read_to_string(&mut content).unwrap();
            }
        }
        content
    }

    fn numbers(&self) -> Vec<u32> {
        self.content().lines().map(|line| line[5..8].parse().unwrap()).collect()
    }
}

#[test]
fn files_are_finished_when_they_are_full_and_sort_in_the_order_of_writing() {
    let site = Site::new(|_| {});
    let folder = site.folder();
    for n in 0..10 {
        // The clock stands still, and jumps back.
        folder.put(TARGET, &[format!("{{\"n\":{n:03}}}\n").into_bytes()], site.start, Timestamp(NOON.0 - 1000 * n)).unwrap();
    }

    let names = site.names();
    assert_eq!(names.len(), 5);
    assert_eq!(names[0], "gw-20261127T120000.000Z-readings.jsonl");
    assert_eq!(names[4], "gw-20261127T120000.004Z-readings.jsonl.part");
    assert_eq!(site.numbers(), (0..10).collect::<Vec<_>>());
    folder.close().unwrap();
    assert_eq!(site.names()[4], "gw-20261127T120000.004Z-readings.jsonl");
}

#[test]
fn a_file_that_is_old_enough_is_finished_though_nothing_more_is_put() {
    let site = Site::new(|_| {});
    let folder = site.folder();
    site.put(&folder, &[1]).unwrap();

    folder.tidy(site.start + MINUTE.mul_f64(0.9)).unwrap();
    assert_eq!(site.names(), ["gw-20261127T120000.000Z-readings.jsonl.part"]);
    folder.tidy(site.start + MINUTE).unwrap();
    assert_eq!(site.names(), ["gw-20261127T120000.000Z-readings.jsonl"]);
}

#[test]
fn a_finished_file_is_compressed_and_whatever_was_cut_off_in_between_is_done_again() {
    let site = Site::new(|config| config.compress = Compression::Zstd);
    site.put(&site.folder(), &[1, 2]).unwrap();
    let part = "gw-20261127T120000.000Z-readings.jsonl.part";
    site.write("gw-20261127T120000.000Z-readings.jsonl.zst.part", b"half a frame");

    site.put(&site.folder(), &[3]).unwrap();
    assert_eq!(site.names(), ["gw-20261127T120000.000Z-readings.jsonl.zst", "gw-20261127T120000.001Z-readings.jsonl.part"]);
    assert_eq!(site.numbers(), [1, 2, 3]);

    site.write(part, b"{\"n\":001}\n{\"n\":002}\n");
    site.put(&site.folder(), &[4]).unwrap();
    assert_eq!(site.numbers(), [1, 2, 3, 4], "the part of what is compressed already is gone");
}

#[test]
fn what_a_power_cut_left_of_the_last_line_is_cut_off_and_the_rest_stays() {
    for torn in [&b"{\"n\":0"[..], b"\0\0\0\0\0\0", b"\0\0\"n\":003}\n"] {
        let site = Site::new(|_| {});
        let left = [&b"{\"n\":001}\n{\"n\":002}\n"[..], torn].concat();
        site.write("gw-20261127T110000.000Z-readings.jsonl.part", &left);
        site.write("gw-20261127T110000.000Z-empty.jsonl.part", b"");

        site.put(&site.folder(), &[3]).unwrap();

        assert_eq!(site.names(), ["gw-20261127T110000.000Z-readings.jsonl", "gw-20261127T120000.000Z-readings.jsonl.part"]);
        assert_eq!(site.numbers(), [1, 2, 3]);
    }
}

#[test]
fn a_file_that_somebody_moved_away_is_not_written_to_any_more() {
    let site = Site::new(|_| {});
    let folder = site.folder();
    site.put(&folder, &[1]).unwrap();
    fs::remove_file(site.disk.path().join(&site.names()[0])).unwrap();

    site.put(&folder, &[2]).unwrap();

    assert_eq!(site.numbers(), [2]);
}

#[test]
fn a_full_folder_takes_nothing_until_files_are_taken_away() {
    let site = Site::new(|config| config.max_size = ByteCount(40));
    let folder = site.folder();
    for n in 0..4 {
        site.put(&folder, &[n]).unwrap();
    }
    site.write("gw-7-20261127T120000.000Z-readings.jsonl", &[b'x'; 1000]);

    let refused = site.put(&folder, &[4]).unwrap_err();
    assert!(matches!(refused, FolderError::Full { .. }), "{refused}");
    assert_eq!(site.names().len(), 3);
    fs::remove_file(site.disk.path().join(&site.names()[0])).unwrap();
    site.put(&folder, &[4]).unwrap();
}

#[test]
fn a_full_folder_that_keeps_the_newest_loses_its_oldest_file() {
    let site = Site::new(|config| (config.max_size, config.keep) = (ByteCount(60), Keep::Newest));
    let folder = site.folder();
    for n in 0..100 {
        site.put(&folder, &[n]).unwrap();
    }

    let left = site.numbers();
    assert!(left.len() >= 4 && left.len() <= 6, "{left:?}");
    assert_eq!(left, (100 - u32::try_from(left.len()).unwrap()..100).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_is_not_there_is_not_made_and_a_nearly_full_disk_is_left_to_others() {
    let site = Site::new(|_| {});
    let absent = Folder::new(&FileConfig { path: site.disk.path().join("absent"), ..site.config.clone() }, "gw");
    assert!(matches!(site.put(&absent, &[1]), Err(FolderError::Folder { .. })));
    assert_eq!(site.names(), Vec::<String>::new());

    let greedy = Folder::new(&FileConfig { keep_free: ByteCount(u64::MAX), ..site.config.clone() }, "gw");
    assert!(matches!(site.put(&greedy, &[1]), Err(FolderError::NoSpace { .. })));
    site.put(&site.folder(), &[1]).unwrap();
}

#[test]
fn whether_a_folder_takes_readings_is_seen_without_touching_it() {
    let site = Site::new(|config| config.max_size = ByteCount(40));
    let torn = "gw-20261127T110000.000Z-readings.jsonl.part";
    site.write(torn, b"{\"n\":001}\n{\"n\"");

    let room = site.folder().look().unwrap();
    assert_eq!((room.used, site.names()), (ByteCount(14), vec![torn.to_owned()]));
    assert!(room.free.0 > 0);
    site.write(torn, &[b'x'; 41]);
    assert!(matches!(site.folder().look(), Err(FolderError::Full { .. })));
    let absent = FileConfig { path: site.disk.path().join("absent"), ..site.config.clone() };
    assert!(matches!(Folder::new(&absent, "gw").look(), Err(FolderError::Folder { .. })));
}

#[test]
fn streams_and_devices_share_a_folder_and_have_files_of_their_own() {
    let site = Site::new(|config| config.file_size = ByteCount(1000));
    let folders = [Folder::new(&site.config, "gw-1"), Folder::new(&site.config, "gw-2")];
    for folder in &folders {
        for target in ["readings.jsonl", "alarms.cborseq"] {
            folder.put(target, &[b"x".to_vec()], site.start, NOON).unwrap();
        }
    }

    let names: BTreeSet<_> = site.names().into_iter().collect();
    assert_eq!(names.len(), 4, "{names:?}");
    folders[0].close().unwrap();
    assert_eq!(site.names().iter().filter(|name| name.contains(".part")).count(), 2);
}
