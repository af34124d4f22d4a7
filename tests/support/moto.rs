//! Kinesis as PyPI's `moto` understands it: it knows stream ARNs. Its shards end one hash key early, and after a split it goes on
//! filling the parent, so tests of resharding use [`super::kinesalite`]. It knows Firehose too, and the bucket that one delivers to.

use std::{io::Write, ops::Deref};

use tempfile::NamedTempFile;
use tokio::process::Command;

use super::{certificates::OFFICE, in_repository, kinesalite::announced_port, kinesis::Endpoint, part::Part, python, within};

/// An endpoint of this test's own, in memory.
pub struct Moto {
    endpoint: Endpoint,
    /// Whom its clients believe.
    ca: NamedTempFile,
    part: Part,
}

impl Deref for Moto {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Moto {
    /// Starts it on a free port, behind TLS; it answers when this returns.
    pub async fn start() -> Self {
        let mut ca = NamedTempFile::new().expect("a temp file can be made");
        ca.write_all(OFFICE.authority.pem().as_bytes()).expect("the temp file can be written");
        let mut command = Command::new(python());
        let part =
            Part::start("moto", command.arg(in_repository("tests/emulator/moto_server.py")).env("SERVER_PEM", &OFFICE.server));
        Self { endpoint: Endpoint::on(announced_port(&part).await), ca, part }
    }

    /// Creates a Firehose stream that delivers to a new bucket.
    pub async fn create_firehose(&self, stream: &str, bucket: &str) {
        self.firehose(["create", self.endpoint.url(), stream, bucket]).await;
    }

    /// What lies in a bucket, object by object.
    pub async fn objects(&self, bucket: &str) -> Vec<Vec<u8>> {
        let lines = self.firehose(["read", self.endpoint.url(), bucket]).await;
        let object = |line: &str| base64_simd::STANDARD.decode_to_vec(line).expect("it prints base64");
        lines.lines().map(object).collect()
    }

    async fn firehose<const N: usize>(&self, args: [&str; N]) -> String {
        let mut command = Command::new(python());
        command.arg(in_repository("tests/emulator/firehose.py")).args(args).env("AWS_CA_BUNDLE", self.ca.path());
        let output = command.kill_on_drop(true).output();
        let output = within("firehose.py ends", || format!("{args:?}"), output).await.expect("python is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// Stops it; requests to it fail from now on.
    pub async fn stop(mut self) {
        self.part.kill().await;
    }
}
