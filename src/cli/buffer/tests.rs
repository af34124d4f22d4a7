//! The commands on files of their own making.

use std::{fs, path::PathBuf, process::ExitCode};

use super::{
    ImportArgs,
    export::{ExportArgs, export},
    import::import,
    opened,
    verify::{VerifyArgs, verify},
};
use crate::{buffer::cold::beside, cli::ConfigArgs};

/// A configuration, and the folder of its buffer, which is not there yet.
pub(super) fn gateway() -> (tempfile::TempDir, ImportArgs) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "[device]\nid = \"gw-7\"\nstate_dir = {:?}\n[sources.a]\nkind = \"mqtt\"\nurl = \"mqtt://127.0.0.1\"\ntopics = [\"a\"]\n\
         [destinations.cloud]\nkind = \"kinesis\"\nregion = \"eu-west-1\"\n\
         [streams.s]\ndestination = \"cloud\"\nstream = \"s\"\nfrom = [\"a\"]\n",
        folder.path().join("lib/state")
    );
    fs::write(&config, text).unwrap();
    let path = folder.path().join("readings.jsonl");
    (folder, ImportArgs { path, config: ConfigArgs { config: Some(config), device: None } })
}

pub(super) fn line(seq: u64) -> Vec<u8> {
    format!("{{\"lane\":\"s/0\",\"run\":\"ab\",\"seq\":{seq},\"ts\":1}}\n").into_bytes()
}

/// A gateway's folder, and in it a buffer of three readings.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let (folder, args) = gateway();
    fs::write(&args.path, (0..3).flat_map(line).collect::<Vec<_>>()).unwrap();
    assert_eq!(import(&args, &[]).unwrap(), ExitCode::SUCCESS);
    let path = folder.path().join("lib/state/buffer.db");
    (folder, path)
}

fn export_to(path: &std::path::Path, output: PathBuf) -> Result<ExitCode, String> {
    let args = ExportArgs { path: path.into(), output: Some(output), rejected: false };
    export(&args, &mut Vec::new()).map_err(|failed| failed.0.to_string())
}

#[test]
fn an_export_into_the_buffer_that_it_reads_is_refused_whatever_that_is_called() {
    let (folder, path) = filled();
    let (link, hard) = (folder.path().join("link.db"), folder.path().join("hard.db"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let before = fs::read(&path).unwrap();

    let log = beside(&path, "-wal");
    for (from, to) in [(&path, &path), (&path, &link), (&link, &path), (&path, &hard), (&path, &log), (&link, &log)] {
        let refused = export_to(from, to.clone()).unwrap_err();
        assert!(refused.contains("belongs to the buffer"), "{} to {}: {refused}", from.display(), to.display());
    }
    export_to(&path, beside(&path, "-reserve")).unwrap_err();

    assert!(fs::read(&path).unwrap() == before, "it is as it was");
    assert!(!log.exists());
    assert_eq!(opened(&path).unwrap().0.chunks().map(|item| item.readings).sum::<u64>(), 3);
}

#[test]
fn an_export_takes_the_place_of_what_was_there_when_it_is_whole() {
    let (folder, path) = filled();
    let output = folder.path().join("out/readings.jsonl");
    let named = || fs::read_dir(output.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    export_to(&path, output.clone()).unwrap_err();
    fs::create_dir(output.parent().unwrap()).unwrap();
    fs::write(&output, "what was there").unwrap();
    let taken = beside(&output, &format!(".{}.new", std::process::id()));
    fs::write(&taken, "somebody's").unwrap();

    export_to(&path, output.clone()).unwrap_err();
    assert_eq!(fs::read_to_string(&output).unwrap(), "what was there");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "somebody's");

    fs::remove_file(taken).unwrap();
    assert_eq!(export_to(&path, output.clone()), Ok(ExitCode::SUCCESS));
    assert_eq!(fs::read_to_string(&output).unwrap().lines().count(), 3);
    assert_eq!(named(), ["readings.jsonl"]);
    assert_eq!(export_to(&path, "/dev/null".into()), Ok(ExitCode::SUCCESS));
}

#[test]
fn what_can_not_be_read_of_refused_readings_is_told_and_the_others_are_exported() {
    let (_folder, path) = filled();
    let connection = rusqlite::Connection::open(&path).unwrap();
    for seq in 0..40 {
        // 0xE3069283 is the CRC32C of these digits. Source: RFC 3720, appendix B.4, and every table of checksums.
        let sql = "INSERT INTO rejected (lane, run, seq, ts, at, reason, crc, data) VALUES (1, 7, ?, 1, 2, ?, 0xE3069283, CAST('123456789' AS BLOB))";
        connection.execute(sql, (seq, format!("reason {seq} {}", "x".repeat(200)))).unwrap();
    }
    connection.close().unwrap();
    let says = || {
        let (mut lines, mut found) = (Vec::new(), Vec::new());
        let exported = export(&ExportArgs { path: path.clone(), output: None, rejected: true }, &mut lines).unwrap();
        let verified = verify(&VerifyArgs { path: path.clone() }, &mut found).unwrap();
        (exported, String::from_utf8(lines).unwrap().lines().count(), verified, String::from_utf8(found).unwrap())
    };
    let (exported, lines, verified, found) = says();
    assert_eq!((exported, lines, verified), (ExitCode::SUCCESS, 40, ExitCode::SUCCESS), "{found}");

    let mut file = fs::read(&path).unwrap();
    let at = file.windows(9).position(|bytes| bytes == b"reason 20").unwrap() / 2048 * 2048;
    file[at..at + 2048].fill(0);
    fs::write(&path, &file).unwrap();

    let (exported, lines, verified, found) = says();
    assert_eq!((exported, verified), (ExitCode::FAILURE, ExitCode::FAILURE), "{found}");
    assert!((30..40).contains(&lines), "{lines}");
    assert!(found.contains("1 pages of its table rejected can't be read"), "{found}");

    // A flipped bit leaves the page as good as any.
    let bytes = file.windows(9).rposition(|bytes| bytes == b"123456789").unwrap();
    file[bytes] ^= 1;
    fs::write(&path, &file).unwrap();
    let (.., lines_left, _, found) = says();
    assert_eq!(lines_left, lines - 1);
    assert!(found.contains("1 pages and 1 rows of its table rejected can't be read"), "{found}");
}
