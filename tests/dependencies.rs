//! What headwater is built and tested from.
//!
//! `Cargo.lock` names every crate of every platform and feature, so what is not there can't come in by a build flag.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

#[test]
fn one_tls_stack_and_one_crypto_provider_are_in_the_whole_tree() {
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for package in lock().package {
        versions.entry(package.name).or_default().push(package.version);
    }

    for unwanted in ["aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys", "openssl", "openssl-sys", "native-tls", "s2n-tls", "boring"] {
        assert!(!versions.contains_key(unwanted), "{unwanted} is in the tree; `cargo tree -i {unwanted}` says by whom");
    }
    for single in ["rustls", "ring", "libsqlite3-sys", "tokio"] {
        assert_eq!(versions[single].len(), 1, "{single}: {:?}; `cargo tree -d` says by whom", versions[single]);
    }
    assert!(versions["rustls"][0].starts_with("0.23."));
}

#[test]
fn every_crate_comes_from_the_registry_that_everyone_has() {
    for package in lock().package.iter().filter(|package| package.name != env!("CARGO_PKG_NAME")) {
        let source = package.source.as_deref();
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{}", package.name);
    }
}

#[test]
fn no_lock_file_of_the_tests_names_a_registry_host() {
    let npm = read("tests/emulator/package-lock.json");
    assert!(!npm.contains("\"resolved\""), "run npm in tests/emulator, where .npmrc leaves hosts out of the lock file");

    let python = read("tests/emulator/requirements.txt");
    let named: Vec<_> = python.lines().filter(|line| !line.starts_with('#') && line.contains("://")).collect();
    assert!(named.is_empty(), "{named:?}");
    let options: Vec<_> = python.lines().filter(|line| line.starts_with('-')).collect();
    assert!(options.is_empty(), "{options:?}");
}

fn lock() -> Lock {
    toml::from_str(&read("Cargo.lock")).unwrap_or_else(|e| panic!("Cargo.lock: {e}"))
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
