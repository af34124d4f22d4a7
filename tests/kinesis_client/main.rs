//! What becomes of a request, whatever answers it: scripted servers for faults, kinesalite for a service that we did not write.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod addresses;
mod answers;
mod failover;
mod firehose;
mod iot;
mod kinesalite;
mod proxy;
mod scripted;
#[path = "../support/mod.rs"]
mod support;
mod tail;
mod tls;
mod words;

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use headwater::{
    config::{CredentialsConfig, KinesisConfig},
    kinesis::{Answer, Client, PutError, Record},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use self::support::certificates::OFFICE;

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a service says that took one record.
const ACCEPTED: &str = r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"shardId-000000000000"}]}"#;

struct Gateway {
    folder: tempfile::TempDir,
    config: KinesisConfig,
}

impl Gateway {
    /// It believes the authority of all endpoints here.
    fn facing(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "wJalrXUtnFEMI").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let credentials = CredentialsConfig::Static { access_key_id: "AKIDEXAMPLE".into(), secret_access_key_file: secret };
        let config =
            KinesisConfig { region: "eu-west-1".into(), endpoint: endpoint.into(), credentials, ..KinesisConfig::default() };
        Self { folder, config }.trusting(&OFFICE.authority.pem())
    }

    fn trusting(mut self, pem: &str) -> Self {
        let path = self.folder.path().join("ca.pem");
        fs::write(&path, pem).unwrap();
        self.config.ca = Some(path);
        self
    }

    fn set(mut self, change: impl FnOnce(&mut KinesisConfig)) -> Self {
        change(&mut self.config);
        self
    }

    async fn client(&self) -> Client {
        Client::open(&self.config).await.unwrap()
    }

    async fn puts(&self, records: usize) -> Result<Vec<Answer>, PutError> {
        self.client().await.put("plant", vec![record("gw/plant/0", b"21.5"); records], PATIENCE).await
    }
}

fn record(partition_key: &str, data: &[u8]) -> Record {
    Record { partition_key: partition_key.into(), explicit_hash_key: None, data: data.to_vec() }
}

async fn read_request(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let (mut request, mut length) = (Vec::new(), None);
    loop {
        if let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let length = *length.get_or_insert_with(|| content_length(&request[..head]));
            if request.len() >= head + 4 + length {
                return Ok(String::from_utf8(request).unwrap());
            }
        }
        if connection.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    header(std::str::from_utf8(head).unwrap(), "content-length").map_or(0, |length| length.parse().unwrap())
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = request.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn http(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
