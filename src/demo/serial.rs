//! A simulated scale on a serial line: a pseudoterminal, which is a serial port to whoever opens its path.
//!
//! Invariant: the count is of lines that were written whole.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::random::Random;

/// A scale that weighs what passes over it. Unplugged when dropped: whoever has the port open sees it go.
#[derive(Debug)]
pub struct Scale {
    line: pipe::Sender,
    port: PathBuf,
    weight: Random,
    sent: u64,
}

impl Scale {
    /// Plugs it in; `seed` decides what it weighs. Must be called inside a tokio runtime.
    pub fn plug_in(seed: u64) -> io::Result<Self> {
        let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&line)?;
        unlockpt(&line)?;
        // Raw from the start: a terminal would echo every line back to the scale until the reader has set the port up.
        let mut settings = tcgetattr(&line)?;
        settings.make_raw();
        tcsetattr(&line, OptionalActions::Now, &settings)?;
        rustix::io::ioctl_fionbio(&line, true)?;
        let port = PathBuf::from(OsStr::from_bytes(ptsname(&line, Vec::new())?.as_bytes()));
        // It is written to as a pipe is; the check that it is one would refuse it.
        let line = pipe::Sender::from_owned_fd_unchecked(line)?;
        Ok(Self { line, port, weight: Random::new(seed), sent: 0 })
    }

    /// The device file to open.
    pub fn port(&self) -> &Path {
        &self.port
    }

    /// Sends a line every `period` until `stop`; how many lines it has sent in all. Nothing should be sent before the port is open:
    /// opening it throws away what waits there.
    pub async fn weigh(&mut self, period: Duration, stop: &CancellationToken) -> io::Result<u64> {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.send().await?;
        }
        Ok(self.sent)
    }

    /// Sends one line. Waits while the reader leaves no room for it.
    pub async fn send(&mut self) -> io::Result<()> {
        let line = format!("NET {:.3} kg #{}\r\n", 10.0 + 5.0 * self.weight.fraction(), self.sent + 1);
        self.line.write_all(line.as_bytes()).await?;
        self.sent += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio_serial::SerialPortBuilderExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_of_the_port_gets_every_line_as_it_was_sent() {
        let mut scale = Scale::plug_in(1).unwrap();
        let port = tokio_serial::new(scale.port().to_str().unwrap(), 9600).open_native_async().unwrap();
        let mut lines = BufReader::new(port).lines();
        let stop = CancellationToken::new();

        let read = async {
            let mut read = Vec::new();
            while read.len() < 5 {
                read.extend(lines.next_line().await.unwrap());
            }
            stop.cancel();
            read
        };
        let (sent, read) = tokio::join!(scale.weigh(Duration::from_millis(1), &stop), read);

        assert!(sent.unwrap() >= 5);
        let starts_and_ends_right = |(line, n): (&String, u32)| line.starts_with("NET 1") && line.ends_with(&format!(" kg #{n}"));
        assert!(read.iter().zip(1..).all(starts_and_ends_right), "{read:?}");
    }

    #[tokio::test]
    async fn a_reader_sees_the_scale_go_when_it_is_unplugged() {
        let scale = Scale::plug_in(1).unwrap();
        let port = tokio_serial::new(scale.port().to_str().unwrap(), 9600).open_native_async().unwrap();
        let mut lines = BufReader::new(port).lines();

        drop(scale);

        assert!(!matches!(lines.next_line().await, Ok(Some(_))));
    }
}
