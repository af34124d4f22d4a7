//! Credentials from a program, as every AWS tool knows it under `credential_process`: IAM Roles Anywhere, a TPM, a vault.
//!
//! Source: AWS SDKs and tools reference guide, "Process credential provider".

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use aws_credential_types::Credentials;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{CredentialsError, issued};
use crate::kinesis::answer::harmless;

/// How long it may take: it may have to ask somebody over the same slow link.
const WITHIN: Duration = Duration::from_mins(1);
/// Most bytes that it may print: a session token has 1 to 4 KiB.
const MAX_OUTPUT: usize = 64 << 10;
/// As much of what it says on stderr is kept.
const MAX_SAID: usize = 4 << 10;

/// A program and its arguments; no shell is between us.
#[derive(Debug)]
pub(super) struct Process {
    program: String,
    arguments: Vec<String>,
    within: Duration,
}

impl Process {
    /// `command` has at least the program.
    pub(super) fn new(command: &[String]) -> Self {
        let program = command.first().cloned().unwrap_or_default();
        Self { program, arguments: command.iter().skip(1).cloned().collect(), within: WITHIN }
    }

    pub(super) async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let command = self.program.clone();
        let started = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what it starts in turn can be ended with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut running = Running(started.map_err(|source| CredentialsError::NotStarted { command: command.clone(), source })?);
        let slow = |_| CredentialsError::Slow { command: command.clone(), waited: self.within };
        let (ended, printed, said) = timeout(self.within, running.ends()).await.map_err(slow)?;
        let failed = |ended: String| {
            // A word that was cut off may be the better part of a secret.
            let end = if said.len() < MAX_SAID { said.len() } else { said.iter().rposition(u8::is_ascii_whitespace).unwrap_or(0) };
            let said = harmless(&String::from_utf8_lossy(&said[..end]));
            let said = if said.is_empty() { "nothing".into() } else { said };
            CredentialsError::Failed { command: command.clone(), ended, said }
        };
        match ended {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(failed(status.to_string())),
            Err(error) => return Err(failed(error.to_string())),
        }
        let misprint = |source| CredentialsError::Misprint { command: command.clone(), shown: issued::shown(&printed), source };
        if printed.len() > MAX_OUTPUT {
            return Err(misprint(format!("it prints more than {MAX_OUTPUT} bytes").into()));
        }
        issued::from_process(&printed).map_err(misprint)
    }
}

/// A program that is ended, with all that it started, when nobody waits for it any more.
struct Running(Child);

impl Running {
    /// How it ended, and the beginning of what it printed and said.
    async fn ends(&mut self) -> (io::Result<ExitStatus>, Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (printed, said, ended) = tokio::join!(beginning(stdout, MAX_OUTPUT + 1), beginning(stderr, MAX_SAID), self.0.wait());
        (ended, printed, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has no id once it was waited for, and then the number may be another's.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id {
            // It may have ended this moment: then there is nobody to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// At most so many bytes of what comes; the rest is read and forgotten, so that nobody waits for us to take it.
async fn beginning(from: Option<impl AsyncRead + Unpin>, at_most: usize) -> Zeroizing<Vec<u8>> {
    let mut kept = Zeroizing::new(Vec::with_capacity(at_most));
    let Some(mut from) = from else { return kept };
    let mut piece = Zeroizing::new([0; 4096]);
    // What can't be read has ended; the exit status tells how.
    while let Ok(read @ 1..) = from.read(&mut *piece).await {
        let room = at_most - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::kinesis::credentials::Fault;

    fn shell(script: &str) -> Process {
        Process::new(&["/bin/sh".into(), "-c".into(), script.into()])
    }

    async fn fails(script: &str) -> String {
        let error = shell(script).ask().await.unwrap_err();
        assert_eq!(error.fault(), Fault::Theirs);
        error.in_full()
    }

    #[tokio::test]
    async fn a_program_that_prints_credentials_gives_them() {
        let json =
            r#"{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;
        let credentials = shell(&format!("echo working >&2; echo '{json}'")).ask().await.unwrap();
        assert_eq!((credentials.access_key_id(), credentials.session_token()), ("ASIA1", Some("t")));
    }

    #[tokio::test]
    async fn arguments_reach_the_program_as_they_are() {
        let process = Process::new(&["/bin/echo".into(), "$HOME | not a shell".into()]);
        let text = process.ask().await.unwrap_err().in_full();
        assert!(text.contains("$HOME | not a shell"), "{text}");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let text = fails("echo 'no such trust anchor' >&2; exit 3").await;
        assert!(text.contains("/bin/sh") && text.contains("exit status: 3") && text.contains("no such trust anchor"), "{text}");
        assert!(fails("kill -9 $$").await.contains("signal: 9"));
    }

    #[tokio::test]
    async fn what_a_program_prints_and_says_is_bounded_and_no_secret_is_shown() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let text = fails(&format!("yes '{secret}' | head -c 1000000 >&2; exit 1")).await;
        assert!(text.len() < 1000 && !text.contains("wJalr"), "{text}");
        let text = fails("yes | head -c 1000000").await;
        assert!(text.contains("more than 65536 bytes"), "{text}");
        let text = fails(&format!(r#"echo '{{"Version":1,"SecretAccessKey":"{secret}"}}'"#)).await;
        assert!(text.contains("AccessKeyId") && !text.contains("wJalr"), "{text}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let error = Process::new(&["/nonexistent/helper".into()]).ask().await.unwrap_err();
        assert!(matches!(error, CredentialsError::NotStarted { .. }), "{error:?}");
        assert!(error.in_full().contains("/nonexistent/helper"), "{}", error.in_full());
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_given_up() {
        let error = Process { within: Duration::from_millis(50), ..shell("exec sleep 1000") }.ask().await.unwrap_err();
        assert!(matches!(error, CredentialsError::Slow { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_program_that_nobody_waits_for_any_more_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let process = shell(&format!("sleep 1000 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", pids.display()));
        let asked = tokio::spawn(async move { process.ask().await.map(drop) });
        let pids = eventually(|| fs::read_to_string(&pids).ok()).await;

        asked.abort();

        for pid in pids.split_whitespace() {
            let stat = Path::new("/proc").join(pid).join("stat");
            // One that was ended is a zombie until its parent has looked.
            let gone = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')).then_some(());
            eventually(|| fs::read_to_string(&stat).map_or(Some(()), gone)).await;
        }
    }

    async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), found).await.expect("it never happened")
    }
}
