//! What can be wrong between the field and the agent.
//!
//! Invariant: the text of each variant reads `WHAT; WHAT TO DO`, so that the status can show the two apart.

use std::{io, path::PathBuf, time::Duration};

use crate::{
    identity::{IdentityError, SecretFileError},
    ingest::intake::IntakeClosed,
    status::what_and_remedy,
};

/// A cause whose type is the business of one source alone.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
    /// The file's mode is in the way.
    #[error("serial port {} may not be opened; add the user that runs headwater to the file's group (`dialout` on Debian)", port.display())]
    PortForbidden {
        /// As configured.
        port: PathBuf,
    },
    /// A control group's list of devices is in the way.
    #[error(
        "serial port {} is none of the devices that this service may open; name its driver under `DeviceAllow=`, as the example \
         serial-port.conf does, and restart headwater",
        port.display()
    )]
    PortFencedOff {
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
    /// The setting is no broker's address.
    #[error("{url:?} is not the address of a broker; write \"mqtt://HOST:1883\", or \"mqtts://HOST:8883\" for TLS")]
    BrokerUrl {
        /// As configured.
        url: String,
    },
    /// Certificates or their key can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The password can't be had.
    #[error(transparent)]
    Password(#[from] SecretFileError),
    /// A certificate can't be a root.
    #[error("{} holds a certificate that can't be a root; check that `ca` names the right file", path.display())]
    WrongRoot {
        /// As configured.
        path: PathBuf,
        /// What the TLS library said.
        #[source]
        source: rustls::Error,
    },
    /// The TLS library does not work as it was built.
    #[error("TLS can't be set up; report it with the log")]
    Tls {
        /// What it said.
        #[source]
        source: rustls::Error,
    },
    /// No name, no route, nobody listens.
    #[error("no connection to broker {url}; check that the broker runs, its address, and firewalls on the way")]
    BrokerUnreachable {
        /// As configured.
        url: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One side did not accept the other's certificate, or it is not TLS at all.
    #[error("no TLS with broker {url}; check `ca`, `client_cert`, the name in the broker's certificate, and this gateway's clock")]
    BrokerTls {
        /// As configured.
        url: String,
        /// What the TLS library said.
        #[source]
        source: io::Error,
    },
    /// The broker answered, and does not want us.
    #[error("broker {url} refused the connection ({why}); check `username`, `password_file`, `client_id` and the broker's log")]
    BrokerRefused {
        /// As configured.
        url: String,
        /// The broker's reason.
        why: &'static str,
    },
    /// The broker takes nothing or says nothing.
    #[error("broker {url} did not answer within {waited:?}; check the broker and the network")]
    BrokerSilent {
        /// As configured.
        url: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The broker lives, and has not answered our SUBSCRIBE.
    #[error("broker {url} does not answer our subscription; check its access list, its log and its load")]
    BrokerDeaf {
        /// As configured.
        url: String,
    },
    /// The broker hung up, or the network did.
    #[error(
        "the connection to broker {url} ended; when this repeats, see the broker's log: another client may use the same `client_id`"
    )]
    BrokerGone {
        /// As configured.
        url: String,
        /// What the system said, when it said something.
        #[source]
        source: Option<io::Error>,
    },
    /// Bytes that are not MQTT 3.1.1.
    #[error("broker {url} sent what MQTT 3.1.1 does not allow; check that `url` names an MQTT broker, and its version")]
    BrokerProtocol {
        /// As configured.
        url: String,
        /// What was wrong with it.
        #[source]
        source: BoxError,
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
        what_and_remedy(self)
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
