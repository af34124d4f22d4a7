//! De-aggregation as consumers do it, with two libraries that we did not write.
//!
//! Neither checks that a user record's hash lies in the shard, as KCL does.

use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{in_repository, python, within};

/// Which library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// PyPI `aws_kinesis_agg`. It hands a record with a wrong MD5 on as it is.
    Python,
    /// npm `aws-kinesis-agg`. It refuses a record with a wrong MD5.
    JavaScript,
}

impl Library {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Python, Self::JavaScript];
}

/// One user record, as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRecord {
    /// Its own, or the outer record's when that is no aggregate.
    pub partition_key: String,
    /// A decimal number, where the aggregate has one for it.
    pub explicit_hash_key: Option<String>,
    /// Its place in the aggregate.
    pub sub: u64,
    /// What the producer put in.
    #[serde(deserialize_with = "base64")]
    pub data: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    partition_key: &'a str,
    data: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Output {
    Records(Vec<UserRecord>),
    Refused { error: String },
}

fn base64<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    base64_simd::STANDARD.decode_to_vec(text).map_err(serde::de::Error::custom)
}

/// Splits Kinesis records, each a partition key and its data, into user records; one answer a record, in the same order.
pub async fn deaggregate<'a>(
    library: Library,
    records: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Vec<Result<Vec<UserRecord>, String>> {
    let mut input = Vec::new();
    for (partition_key, data) in records {
        let data = base64_simd::STANDARD.encode_to_string(data);
        serde_json::to_writer(&mut input, &Input { partition_key, data }).expect("text is JSON");
        input.push(b'\n');
    }
    let (program, script) = match library {
        Library::Python => (python(), "tests/emulator/deaggregate.py"),
        Library::JavaScript => ("node".into(), "tests/emulator/deaggregate.js"),
    };
    let mut command = Command::new(program);
    command.arg(in_repository(script)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{library:?} does not start: {e}; run `make tools` once"));

    // Written beside the reading of its answers: either pipe holds far less than a stream does.
    let mut stdin = child.stdin.take().expect("it is piped");
    let (written, ended) = within(format_args!("{library:?} answers"), || String::from("it still works"), async {
        tokio::join!(
            async move {
                stdin.write_all(&input).await
                // Dropped here: the end of the input is what it waits for.
            },
            child.wait_with_output()
        )
    })
    .await;
    let ended = ended.expect("it is our child");
    let says = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{library:?} failed: {says}");
    written.expect("it reads its input");
    String::from_utf8_lossy(&ended.stdout).lines().map(answer).collect()
}

fn answer(line: &str) -> Result<Vec<UserRecord>, String> {
    match serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no answer: {e}")) {
        Output::Records(records) => Ok(records),
        Output::Refused { error } => Err(error),
    }
}
