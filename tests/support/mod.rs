//! The real parts that the tests run against, and how a test waits for them.
//!
//! | module | what it stands for |
//! |---|---|
//! | [`mosquitto`] | the broker in the field; can be killed, stopped and started again on its port with what it saved |
//! | [`publisher`] | a sensor that publishes, and knows what the broker acknowledged |
//! | [`serial`] | a device on a serial line that can be unplugged and plugged in again |
//! | [`kinesis`] | what the owner of a stream does: create it, read it back |
//! | [`kinesalite`], [`moto`] | two Kinesis endpoints that we did not write |
//! | [`decoders`] | two de-aggregation libraries that we did not write |
//! | [`process`] | the `headwater` binary: configured, started, stopped, cut off from power |
//! | [`gateway`], [`field`], [`cloud`] | a whole installation, in the words of the people who run one |
//! | [`files`] | the folder that a stream leads to instead of the cloud |
//! | [`clock`] | the gateway's wall clock, set as a test likes |
//! | [`sleep`] | a machine that is suspended |
//! | [`haste`] | a machine on which time goes by faster |
//! | [`cable`] | what the agent reaches the broker through; can be muted and cut |
//! | [`line`] | what the agent reaches the endpoint through; slow, silent, broken, or swallowing what is large |
//! | [`namespaces`] | a network of the kernel's own between a gateway and the cloud, thin and lossy; takes root |
//! | [`campaign`] | a random campaign of faults against one installation, and what became of every reading |
//! | [`consumer`] | the application behind the stream: what is missing, double, out of order |
//! | [`iot`] | the credentials provider of AWS IoT |
//! | [`site`] | a gateway with a device certificate, and that provider |
//! | [`issuer`] | STS, a container's endpoint and an instance's metadata service |
//! | [`certificates`] | an authority, and what it signs, for TLS; every endpoint here is behind it |
//! | [`disk`] | a small file system for a gateway's state, full or broken on command, which takes root; or a quota of it, which does not |
//! | [`part`] | any child process: what it said, how it ended |
//!
//! Invariant: every wait ends with the event or, after [`DEADLINE`], with a panic that says what was seen instead; every port is one
//! that the kernel found free on loopback, so a broker or an emulator of this machine is never touched; every child is killed when
//! its handle is dropped.

#![allow(dead_code, reason = "each test file uses the parts that it needs")]

pub mod cable;
#[cfg(feature = "demo")]
pub mod campaign;
pub mod certificates;
pub mod clock;
#[cfg(feature = "demo")]
pub mod cloud;
#[cfg(feature = "demo")]
pub mod consumer;
pub mod decoders;
pub mod disk;
#[cfg(feature = "demo")]
pub mod field;
#[cfg(feature = "demo")]
pub mod files;
#[cfg(feature = "demo")]
pub mod gateway;
pub mod haste;
pub mod iot;
pub mod issuer;
pub mod kinesalite;
pub mod kinesis;
pub mod line;
pub mod mosquitto;
pub mod moto;
pub mod namespaces;
pub mod part;
pub mod process;
pub mod publisher;
pub mod serial;
#[cfg(feature = "demo")]
pub mod site;
pub mod sleep;

use std::{
    fmt::Display,
    future::Future,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

/// Far beyond what anything here takes, be the machine so busy that it is ten times slower: who reaches it hangs.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// How many times as long everything may take, because what is tested runs in an emulator.
fn patience() -> u32 {
    if std::env::var_os(process::UNDER_TEST).is_some() { 6 } else { 1 }
}

/// Between two looks at something that cannot tell us when it changes. It bounds the cost of looking and nothing else.
const GLANCE: Duration = Duration::from_millis(10);

/// Says that the test that runs in this thread is left out: past what captures the output of tests that do not fail.
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let said = writeln!(std::io::stderr(), "LEFT OUT: {}: {why}", thread.name().unwrap_or("a test"));
    said.expect("somebody reads what tests say");
}

/// Waits until `event` has happened; on the deadline says what `saw` finds instead.
pub async fn within<T>(claim: impl Display, saw: impl FnOnce() -> String, event: impl Future<Output = T>) -> T {
    let deadline = DEADLINE * patience();
    let outcome = tokio::time::timeout(deadline, event).await;
    outcome.unwrap_or_else(|_| panic!("not within {deadline:?}: {claim}; saw instead: {}", saw()))
}

/// Looks until `look` finds what `claim` says; on the deadline tells what it found last.
pub async fn eventually<T, Saw: Display>(claim: impl Display, look: impl AsyncFnMut() -> Result<T, Saw>) -> T {
    eventually_within(DEADLINE, claim, look).await
}

/// The same for what takes longer by design.
pub async fn eventually_within<T, Saw: Display>(
    deadline: Duration,
    claim: impl Display,
    mut look: impl AsyncFnMut() -> Result<T, Saw>,
) -> T {
    let deadline = deadline * patience();
    let mut last = String::from("nothing, the first look has not come back");
    let found = tokio::time::timeout(deadline, async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(saw) => last = saw.to_string(),
            }
            tokio::time::sleep(GLANCE).await;
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("not within {deadline:?}: {claim}; saw last: {last}"))
}

/// Milliseconds since 1970, as the status counts them.
pub fn clock_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(since.as_millis()).expect("and not that much later")
}

/// A port of 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// A file of this repository.
fn in_repository(path: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is missing; run `make tools` once", path.display());
    path
}

/// Compiles a library, whose source is in this repository, to `made`. SQLite needs a C compiler too.
pub fn library(source: &str, made: &Path) {
    let mut cc = std::process::Command::new("cc");
    let ended = cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(made).arg(in_repository(source)).output();
    let ended = ended.expect("there is a C compiler");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// The Python that has what `tests/emulator/requirements.txt` names.
fn python() -> PathBuf {
    in_repository("target/tools/venv/bin/python")
}
