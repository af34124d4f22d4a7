//! What is said on stderr itself: why a command failed, and what the log can't take.
//!
//! Why the agent ended goes this way even where it has a log: journald may not find out any more which unit a process was of that sent it an
//! entry of its own and is gone, and of stderr it knows that from the start.
//!
//! Invariant: whoever reads stderr finds the text as it is; only in the journal each line has its priority in front, which journald takes
//! off again.
//!
//! Source: sd-daemon(3), and systemd.exec(5) on `JOURNAL_STREAM` and `SyslogLevelPrefix=`.

use std::io::{self, Write};

use tracing::Level;

use super::journal::priority;

/// Where stderr leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stderr {
    /// To journald, as systemd has connected it.
    Journal,
    /// To a terminal, a file or another program.
    Elsewhere,
}

impl Stderr {
    /// Of this process, whose environment is `env`.
    pub fn of(env: &[(String, String)]) -> Self {
        let stream = env.iter().find(|(name, _)| name == "JOURNAL_STREAM").map(|(_, stream)| stream.as_str());
        if stream.is_some_and(is_stderr) { Self::Journal } else { Self::Elsewhere }
    }

    /// Writes `text`, which may have several lines.
    pub fn says(self, level: Level, text: &str) {
        // Where even stderr is gone, the exit code still tells.
        let _ = io::stderr().write_all(self.lines(level, text).as_bytes());
    }

    fn lines(self, level: Level, text: &str) -> String {
        let prefix = match self {
            Self::Journal => format!("<{}>", priority(level)),
            Self::Elsewhere => String::new(),
        };
        text.lines().flat_map(|line| [&prefix, line, "\n"]).collect()
    }
}

/// Whether `stream`, which is `DEVICE:INODE`, is stderr: a program that we were started by may have had another one.
fn is_stderr(stream: &str) -> bool {
    let (Ok(stderr), Some((device, inode))) = (rustix::fs::fstat(io::stderr()), stream.split_once(':')) else { return false };
    device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_journal_each_line_has_its_priority_and_elsewhere_it_is_as_it_is() {
        let text = "one\n  two";

        assert_eq!(Stderr::Journal.lines(Level::ERROR, text), "<3>one\n<3>  two\n");
        assert_eq!(Stderr::Journal.lines(Level::WARN, text), "<4>one\n<4>  two\n");
        assert_eq!(Stderr::Elsewhere.lines(Level::ERROR, text), "one\n  two\n");
    }

    #[test]
    fn a_stream_that_is_not_stderr_is_none_of_ours() {
        for stream in ["1:2", "1", "", "nonsense:"] {
            assert_eq!(Stderr::of(&[("JOURNAL_STREAM".into(), stream.into())]), Stderr::Elsewhere, "{stream:?}");
        }
        assert_eq!(Stderr::of(&[]), Stderr::Elsewhere);
        let stderr = rustix::fs::fstat(io::stderr()).unwrap();
        let stream = format!("{}:{}", stderr.st_dev, stderr.st_ino);
        assert_eq!(Stderr::of(&[("JOURNAL_STREAM".into(), stream)]), Stderr::Journal);
    }
}
