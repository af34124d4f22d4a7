//! `headwater buffer …`, on files that a real agent has left.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use rustix::process::Signal;
use serde_json::Value;
use support::{
    consumer::ONCE,
    files::{Files, is_open},
    gateway::{Gateway, Plan},
    part::Part,
    process::{command, headwater},
};
use tempfile::TempDir;

const WAITING: u64 = 500;

/// A gateway that is cut off from the cloud, with readings on its disk.
async fn full(plan: Plan) -> Gateway {
    let mut gateway = plan.set("buffer.hold", "0s").window(200).broker(|broker| broker.setting("log_type", "all")).starts().await;
    gateway.cloud.away();
    gateway.field.pads(100);
    gateway.field.publishes(WAITING).await;
    gateway.field.is_acknowledged(usize::try_from(WAITING).unwrap()).await;
    gateway
}

fn buffer_of(gateway: &Gateway) -> PathBuf {
    gateway.agent.dir().join("state/buffer.db")
}

/// A copy of a buffer, its log included, as it is taken out of a dead gateway.
fn card(of: &Path) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    for file in fs::read_dir(of.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join(of.file_name().unwrap());
    (folder, path)
}

async fn buffer(command: &str, path: &Path, more: &[&OsStr]) -> (Option<i32>, String, String) {
    let args = ["buffer".as_ref(), command.as_ref(), path.as_os_str()].into_iter().chain(more.iter().copied());
    let Output { status, stdout, stderr } = headwater(args).await;
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn each_command_refuses_a_live_buffer_and_names_the_process_that_has_it() {
    let gateway = full(Gateway::new()).await;
    let path = buffer_of(&gateway);
    let config = gateway.agent.config();

    for command in ["verify", "export", "import", "drain"] {
        let more: &[&OsStr] = if matches!(command, "import" | "drain") { &["--config".as_ref(), config.as_os_str()] } else { &[] };
        let (code, _, says) = buffer(command, &path, more).await;
        assert_eq!(code, Some(3), "{command}: {says}");
        let owner = format!("process {} (`", gateway.agent.id());
        assert!(says.contains(&owner), "{command}: {owner} is not in {says}");
    }
}

#[tokio::test]
async fn what_a_card_holds_is_written_to_files() {
    let mut gateway = full(Gateway::new().into_files()).await;
    gateway.agent.power_off().await;
    let (_folder, copy) = card(&buffer_of(&gateway));
    let files = Files::of(&gateway);
    files.appear();

    let mut drain = gateway.agent.does(["buffer".as_ref(), "drain".as_ref(), copy.as_os_str()]);

    assert_eq!(drain.ends().await.code(), Some(0), "{}", drain.err.all());
    let consumer = files.consumer();
    consumer.lacks_nothing();
    assert_eq!((consumer.distinct(), consumer.repeats), (WAITING, ONCE));
    assert!(files.names().iter().all(|name| !is_open(name)), "{:?}", files.names());
}

#[tokio::test]
async fn a_card_that_is_mounted_read_only_is_checked_and_read_and_not_changed() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.power_off().await;
    let (folder, path) = card(&buffer_of(&gateway));
    let contents = || {
        let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = contents();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();

    let (code, says, _) = buffer("verify", &path, &[]).await;
    assert_eq!(code, Some(0), "{says}");
    assert!(says.contains(&format!("readings/0 of 1: {WAITING} readings")), "{says}");
    let (code, lines, _) = buffer("export", &path, &[]).await;
    assert_eq!((code, lines.lines().count() as u64), (Some(0), WAITING));
    for (number, line) in lines.lines().enumerate() {
        let reading: Value = serde_json::from_str(line).unwrap();
        assert_eq!((reading["seq"].as_u64(), reading["lane"].as_str()), (Some(number as u64), Some("readings/0")));
    }

    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(before == contents(), "nothing was changed, and no file came to it");
}

#[tokio::test]
async fn a_flipped_bit_is_found_by_verify_and_costs_the_export_its_chunk() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let path = buffer_of(&gateway);
    let mut file = fs::read(&path).unwrap();
    let at = file.windows(40).rposition(|bytes| bytes == [b'x'; 40]).unwrap();
    file[at] ^= 1;
    fs::write(&path, file).unwrap();

    let (code, lines, _) = buffer("export", &path, &[]).await;
    let missing = WAITING - lines.lines().count() as u64;
    assert_eq!(code, Some(1));
    assert!(missing > 0);
    let (code, says, _) = buffer("verify", &path, &[]).await;
    assert_eq!(code, Some(1), "{says}");
    assert!(says.contains(&format!("{missing} readings are not what was written")), "{says}");
    assert!(says.contains("headwater buffer import"), "{says}");
}

#[tokio::test]
async fn what_is_imported_is_sent_under_its_name_and_a_second_import_changes_nothing() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let (_folder, copy) = card(&buffer_of(&gateway));
    fs::remove_file(buffer_of(&gateway)).unwrap();
    let config = gateway.agent.config();

    let (code, _, says) = buffer("import", &copy, &["--config".as_ref(), config.as_os_str()]).await;
    assert_eq!(code, Some(0), "{says}");
    assert!(says.contains(&format!("{WAITING} readings imported, 0 were here already")), "{says}");
    let (_, _, says) = buffer("import", &copy, &["--config".as_ref(), config.as_os_str()]).await;
    assert!(says.contains(&format!("0 readings imported, {WAITING} were here already")), "{says}");
    gateway.agent.start();
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn json_lines_come_back_as_the_readings_that_they_were() {
    for encoding in ["cbor", "json"] {
        let mut gateway = full(Gateway::new().set("streams.readings.encoding", encoding).set("streams.readings.lanes", 3)).await;
        gateway.agent.stops().await;
        let lines = gateway.agent.dir().join("readings.jsonl");
        let path = buffer_of(&gateway);
        let (code, _, says) = buffer("export", &path, &["--output".as_ref(), lines.as_os_str()]).await;
        assert_eq!(code, Some(0), "{says}");
        fs::remove_file(&path).unwrap();
        let config = gateway.agent.config();

        let (code, _, says) = buffer("import", &lines, &["--config".as_ref(), config.as_os_str()]).await;
        assert_eq!(code, Some(0), "{encoding}: {says}");
        gateway.agent.start();
        gateway.cloud.back();

        assert_eq!(gateway.everything_arrives().await, ONCE, "{encoding}");
    }
}

#[tokio::test]
async fn a_dead_gateways_card_is_emptied_from_a_laptop_and_can_be_stopped_and_repeated() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.power_off().await;
    let (_folder, copy) = card(&buffer_of(&gateway));

    // The endpoint is still away, so somebody loses patience.
    let mut drain = gateway.agent.does(["buffer".as_ref(), "drain".as_ref(), copy.as_os_str()]);
    drain.err.line_with(&format!("{WAITING} left")).await;
    drain.signal(Signal::INT);
    assert_eq!(drain.ends().await.code(), Some(1));
    assert!(drain.err.to_the_end().await.contains("repeat the command"));
    gateway.cloud.back();
    // Then with the laptop's own configuration, which has the streams and the destination, and no source.
    let mut command = command();
    command.args(["buffer", "drain", "--config", "config/laptop.toml"]).arg(&copy);
    command.env("HEADWATER__DESTINATIONS__CLOUD__ENDPOINT", gateway.cloud.url());
    command.env("HEADWATER__DESTINATIONS__CLOUD__CA", gateway.agent.dir().join("office.pem"));
    let mut drain = Part::start("headwater", &mut command);
    assert_eq!(drain.ends().await.code(), Some(0), "{}", drain.err.all());

    let consumer = gateway.cloud.consumer("plant-readings");
    consumer.lacks_nothing();
    assert_eq!((consumer.distinct(), consumer.repeats), (WAITING, ONCE));
    let (code, says, _) = buffer("verify", &copy, &[]).await;
    assert_eq!(code, Some(0), "{says}");
    assert!(says.contains(": in order, 0 readings"), "{says}");
}

/// Writes noise over the first bytes of a file that nobody has open.
fn damage(path: &Path) {
    let mut file = fs::read(path).unwrap();
    file[..100].fill(0xA7);
    fs::write(path, file).unwrap();
}

#[tokio::test]
async fn a_damaged_copy_is_drained_of_all_that_can_be_read() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let (folder, copy) = card(&buffer_of(&gateway));
    damage(&copy);
    gateway.cloud.back();

    let mut drain = gateway.agent.does(["buffer".as_ref(), "drain".as_ref(), copy.as_os_str()]);
    assert_eq!(drain.ends().await.code(), Some(0), "{}", drain.err.all());

    let consumer = gateway.cloud.consumer("plant-readings");
    consumer.lacks_nothing();
    assert_eq!((consumer.distinct(), consumer.repeats), (WAITING, ONCE));
    let aside = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut aside: Vec<String> = aside.filter(|name| name.starts_with("buffer.db.corrupt-")).collect();
    aside.sort();
    let [first, mark] = &*aside else { panic!("{aside:?}") };
    assert_eq!(*mark, format!("{first}.sent"), "it is kept that all of it was sent");
}

#[tokio::test]
async fn a_file_that_was_set_aside_is_imported_by_its_name() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let (folder, copy) = card(&buffer_of(&gateway));
    damage(&copy);
    let aside = folder.path().join("buffer.db.corrupt-20261121T053000Z");
    fs::rename(&copy, &aside).unwrap();
    fs::remove_dir_all(buffer_of(&gateway).parent().unwrap()).unwrap();
    fs::create_dir(buffer_of(&gateway).parent().unwrap()).unwrap();
    let config = gateway.agent.config();

    let (_, _, says) = buffer("import", &aside, &["--config".as_ref(), config.as_os_str()]).await;
    assert!(says.contains(&format!("{WAITING} readings imported, 0 were here already")), "{says}");
    gateway.agent.start();
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await.same_name, 0);
}

#[tokio::test]
async fn what_was_refused_is_exported_with_the_reason() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let path = buffer_of(&gateway);
    let file = rusqlite::Connection::open(&path).unwrap();
    // 0xE3069283 is the CRC32C of these digits. Source: RFC 3720, appendix B.4, and every table of checksums.
    let refused = "INSERT INTO rejected (lane, run, seq, ts, at, reason, crc, data) SELECT id, 171, 7, 1, 2, 'too odd', 0xE3069283, CAST('123456789' AS BLOB) FROM lane";
    file.execute(refused, []).unwrap();
    drop(file);

    let (code, lines, says) = buffer("export", &path, &["--rejected".as_ref()]).await;

    assert_eq!(code, Some(0), "{says}");
    let line: Value = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!((&line["at"], &line["reason"]), (&Value::from(2), &Value::from("too odd")));
    let reading = &line["reading"];
    assert_eq!((&reading["lane"], &reading["seq"], &reading["data"]), (&"readings/0".into(), &7.into(), &"MTIzNDU2Nzg5".into()));
}

#[tokio::test]
async fn a_file_of_a_later_version_is_neither_checked_nor_read_and_says_so() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let path = buffer_of(&gateway);
    let mut file = fs::read(&path).unwrap();
    file[60..64].copy_from_slice(&77_u32.to_be_bytes());
    fs::write(&path, &file).unwrap();
    let config = gateway.agent.config();

    for command in ["verify", "export", "import", "drain"] {
        let needs_config = matches!(command, "import" | "drain");
        let more: &[&OsStr] = if needs_config { &["--config".as_ref(), config.as_os_str()] } else { &[] };
        let (code, out, says) = buffer(command, &path, more).await;
        assert_eq!(code, Some(1), "{command}: {says}");
        assert!((out + &says).contains("version 77"), "{command}");
        assert_eq!(fs::read(&path).unwrap(), file, "{command}: untouched");
    }
}

#[tokio::test]
async fn a_copy_without_its_log_is_told_of_and_is_no_success() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.power_off().await;
    let (_folder, copy) = card(&buffer_of(&gateway));
    fs::remove_file(copy.with_file_name("buffer.db-wal")).unwrap();
    let config = gateway.agent.config();

    for command in ["export", "import"] {
        let more: &[&OsStr] = if command == "import" { &["--config".as_ref(), config.as_os_str()] } else { &[] };
        let (code, _, says) = buffer(command, &copy, more).await;
        assert_eq!(code, Some(1), "{command}: {says}");
        assert!(
            says.contains("its write-ahead log is missing") && says.contains("the file that ends in -wal is needed too"),
            "{command}: {says}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_another_programs_is_neither_read_nor_imported() {
    let mut gateway = full(Gateway::new()).await;
    gateway.agent.stops().await;
    let config = gateway.agent.config();
    let folder = TempDir::new().unwrap();
    let (missing, foreign) = (folder.path().join("nowhere.db"), folder.path().join("theirs.db"));
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("PRAGMA page_size = 2048; CREATE TABLE theirs (x)").unwrap();

    for command in ["export", "import"] {
        let more: &[&OsStr] = if command == "import" { &["--config".as_ref(), config.as_os_str()] } else { &[] };
        for (path, what) in [(&missing, "there is no buffer at"), (&foreign, "another program's database")] {
            let (code, out, says) = buffer(command, path, more).await;
            assert_eq!((code, out.as_str()), (Some(1), ""), "{command}: {says}");
            assert!(says.contains(what) && says.contains(&*path.to_string_lossy()), "{command}: {says}");
        }
    }
}
