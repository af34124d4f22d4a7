//! The device file: opened, read, lost, opened again.
//!
//! Invariant: a lost port is closed at once. While its old handle is open, a replugged adapter comes back under another name.

use std::{os::unix::fs::FileTypeExt, path::Path};

use bytes::BytesMut;
use rustix::{
    fs::{Access, access},
    io::Errno,
};
use tokio::{
    io::AsyncReadExt,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_serial::{DataBits, ErrorKind, SerialPortBuilder, SerialPortBuilderExt, SerialStream, StopBits};

use super::SourceError;
use crate::config::{FlowControl, Parity, SerialConfig};

/// What a new read buffer holds: as much as the kernel's line discipline hands out at once.
const READ_SIZE: usize = 4096;
/// With less room than this in the buffer, a read gets a new one.
const LEAST_READ: usize = 256;

/// Whether the port is there and may be opened. It is not opened: that would raise DTR, which resets some devices, and it is refused
/// while an agent reads the port.
pub fn try_out(config: &SerialConfig) -> Result<(), SourceError> {
    let port = config.port.clone();
    let no_device = || {
        let source = tokio_serial::Error::new(ErrorKind::InvalidInput, "it is no character device");
        Err(SourceError::PortSettings { port: config.port.clone(), baud: config.baud, source })
    };
    match std::fs::metadata(&port) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(SourceError::NoPort { port }),
        Err(_) => return Err(SourceError::PortForbidden { port }),
        Ok(file) if !file.file_type().is_char_device() => return no_device(),
        Ok(_) => {}
    }
    if is_fenced_off(&port) {
        return Err(SourceError::PortFencedOff { port });
    }
    access(&port, Access::READ_OK | Access::WRITE_OK).map_err(|_| SourceError::PortForbidden { port })
}

/// Whether a control group's list of devices lacks the port; a file's mode gives EACCES. Source: `devcgroup_inode_permission` of Linux.
fn is_fenced_off(port: &Path) -> bool {
    access(port, Access::READ_OK | Access::WRITE_OK) == Err(Errno::PERM)
}

/// What happened on the line.
pub(super) enum Event {
    Opened,
    /// At least one byte was put into the buffer.
    Bytes,
    /// It could not be opened, or is lost.
    Failed(SourceError),
}

/// A serial port in one of its states.
pub(super) struct Port {
    config: SerialConfig,
    state: State,
}

enum State {
    Closed { until: Instant },
    Opening(JoinHandle<Result<SerialStream, tokio_serial::Error>>),
    Open(SerialStream),
}

impl Port {
    /// A port that will be opened at `until`.
    pub(super) fn closed(config: SerialConfig, until: Instant) -> Self {
        Self { config, state: State::Closed { until } }
    }

    /// Closes it, and opens it again at `until`.
    pub(super) fn reopen(&mut self, until: Instant) {
        self.state = State::Closed { until };
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Waits for what happens next; whoever stops waiting loses nothing. After [`Event::Failed`] call [`Self::reopen`].
    pub(super) async fn next(&mut self, buffer: &mut BytesMut) -> Event {
        loop {
            match &mut self.state {
                State::Closed { until } => {
                    sleep_until(*until).await;
                    let port = builder(&self.config);
                    // Not on a worker: an adapter that hangs takes five seconds for each of its settings, and on a board with one
                    // core everything else would stand still.
                    self.state = State::Opening(tokio::task::spawn_blocking(move || port.open_native_async()));
                }
                State::Opening(opening) => {
                    let opened = opening.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost).into()));
                    return match opened {
                        Ok(stream) => {
                            self.state = State::Open(stream);
                            Event::Opened
                        }
                        Err(error) => Event::Failed(self.not_opened(error)),
                    };
                }
                State::Open(stream) => {
                    if buffer.capacity() - buffer.len() < LEAST_READ {
                        buffer.reserve(READ_SIZE);
                    }
                    let port = || self.config.port.clone();
                    return match stream.read_buf(buffer).await {
                        // The line has no silence that reads as nothing: it is the driver that hung up.
                        Ok(0) => Event::Failed(SourceError::Unplugged { port: port() }),
                        Ok(_) => Event::Bytes,
                        Err(source) => Event::Failed(SourceError::PortRead { port: port(), source }),
                    };
                }
            }
        }
    }

    fn not_opened(&self, error: tokio_serial::Error) -> SourceError {
        let port = self.config.port.clone();
        match error.kind() {
            ErrorKind::Io(std::io::ErrorKind::NotFound) => SourceError::NoPort { port },
            ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => SourceError::PortForbidden { port },
            // What the library makes of EBUSY and of a lock that is taken.
            ErrorKind::NoDevice => SourceError::PortBusy { port },
            // It does not tell EPERM from a setting that is refused.
            _ if is_fenced_off(&port) => SourceError::PortFencedOff { port },
            _ => SourceError::PortSettings { port, baud: self.config.baud, source: error },
        }
    }
}

fn builder(config: &SerialConfig) -> SerialPortBuilder {
    tokio_serial::new(config.port.to_string_lossy(), config.baud)
        .data_bits(match config.data_bits {
            5 => DataBits::Five,
            6 => DataBits::Six,
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        })
        .parity(match config.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Odd => tokio_serial::Parity::Odd,
            Parity::Even => tokio_serial::Parity::Even,
        })
        .stop_bits(if config.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .flow_control(match config.flow_control {
            FlowControl::None => tokio_serial::FlowControl::None,
            FlowControl::Software => tokio_serial::FlowControl::Software,
            FlowControl::Hardware => tokio_serial::FlowControl::Hardware,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pty takes any of these and keeps few, so what is asked of the driver is compared.
    #[test]
    fn the_line_is_set_as_it_is_configured() {
        let asked = |change: fn(&mut SerialConfig)| {
            let mut config = SerialConfig { port: "/dev/ttyUSB0".into(), ..SerialConfig::default() };
            change(&mut config);
            builder(&config)
        };
        let line = || tokio_serial::new("/dev/ttyUSB0", 9600);

        assert_eq!(asked(|_| {}), line());
        assert_eq!(asked(|line| line.baud = 19_200), line().baud_rate(19_200));
        for (bits, meant) in [(5, DataBits::Five), (6, DataBits::Six), (7, DataBits::Seven), (8, DataBits::Eight)] {
            let config = SerialConfig { port: "/dev/ttyUSB0".into(), data_bits: bits, ..SerialConfig::default() };
            assert_eq!(builder(&config), line().data_bits(meant));
        }
        assert_eq!(asked(|line| line.parity = Parity::Odd), line().parity(tokio_serial::Parity::Odd));
        assert_eq!(asked(|line| line.parity = Parity::Even), line().parity(tokio_serial::Parity::Even));
        assert_eq!(asked(|line| line.stop_bits = 2), line().stop_bits(StopBits::Two));
        let flow = tokio_serial::FlowControl::Software;
        assert_eq!(asked(|line| line.flow_control = FlowControl::Software), line().flow_control(flow));
        let flow = tokio_serial::FlowControl::Hardware;
        assert_eq!(asked(|line| line.flow_control = FlowControl::Hardware), line().flow_control(flow));
    }
}
