//! What can be wrong between the field and the agent.
//!
//! Invariant: the text of each variant reads `WHAT; WHAT TO DO`, so that the status can show the two apart.

use std::{io, path::PathBuf};

use crate::ingest::intake::IntakeClosed;

/// Why a source does not get readings, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The device file is not there.
    #[error("there is no serial port {}; plug the adapter in, or look up its name with `ls -l /dev/serial/by-id`", port.display())]
    NoPort {
        /// As configured.
        port: PathBuf,
    },
    /// Somebody else has locked the port.
    #[error(
        "another program uses serial port {0}; `fuser -v {0}` names it (ModemManager, gpsd and login terminals are the usual \
         ones): stop it, only one program may read a port",
        port.display()
    )]
    PortBusy {
        /// As configured.
        port: PathBuf,
    },
    /// The file's mode or a device cgroup is in the way.
    #[error("serial port {} may not be opened; add the user that runs headwater to the file's group (`dialout` on Debian)", port.display())]
    PortForbidden {
        /// As configured.
        port: PathBuf,
    },
    /// It opens, but it is no serial port, or it cannot do what is configured.
    #[error(
        "serial port {} can't be set to {baud} baud and the configured bits; check the settings, and that `port` is a serial port",
        port.display()
    )]
    PortSettings {
        /// As configured.
        port: PathBuf,
        /// As configured.
        baud: u32,
        /// What the driver said.
        #[source]
        source: tokio_serial::Error,
    },
    /// The driver hung up.
    #[error("serial port {} was unplugged; plug the adapter in again, reading goes on by itself", port.display())]
    Unplugged {
        /// As configured.
        port: PathBuf,
    },
    /// The driver gave an error.
    #[error("serial port {} can't be read; check cable, adapter and its power supply", port.display())]
    PortRead {
        /// As configured.
        port: PathBuf,
        /// What the driver said.
        #[source]
        source: io::Error,
    },
    /// Ingest ended before its sources did: a stage failed.
    #[error("source {name} can't hand its readings over; the log names the stage that failed")]
    Intake {
        /// The source.
        name: String,
        /// Said by ingest's end of the door.
        #[source]
        source: IntakeClosed,
    },
}

impl SourceError {
    /// What is wrong, with its causes; and what to do about it.
    pub fn what_and_remedy(&self) -> (String, String) {
        let text = self.to_string();
        let (what, remedy) = text.split_once("; ").unwrap_or((&text, "see the log"));
        let mut what = what.to_owned();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            what = format!("{what}: {error}");
            cause = error.source();
        }
        (what, remedy.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_apart_what_is_wrong_and_what_to_do() {
        let source = io::Error::other("Input/output error");
        let (what, remedy) = SourceError::PortRead { port: "/dev/ttyUSB0".into(), source }.what_and_remedy();
        assert_eq!(what, "serial port /dev/ttyUSB0 can't be read: Input/output error");
        assert_eq!(remedy, "check cable, adapter and its power supply");
    }
}
