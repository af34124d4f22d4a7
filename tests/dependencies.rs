//! What headwater is built and tested with. What it is made of is for `deny.toml` to say.

use std::{fs, path::Path};

#[test]
fn no_lock_file_names_a_registry_host() {
    let npm = read("tests/emulator/package-lock.json");
    assert!(!npm.contains("\"resolved\""), "run npm in tests/emulator, where .npmrc leaves hosts out of the lock file");

    for python in ["tests/emulator/requirements.txt", "cross/requirements.txt"].map(read) {
        let named: Vec<_> = python.lines().filter(|line| !line.starts_with('#') && line.contains("://")).collect();
        assert!(named.is_empty(), "{named:?}");
        let options: Vec<_> = python.lines().filter(|line| line.starts_with('-')).collect();
        assert!(options.is_empty(), "{options:?}");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
