//! Brokers and serial ports.

use std::io;

use super::Report;
use crate::{config::SourceConfig, sources};

pub(super) async fn try_out(name: &str, source: &SourceConfig, report: &mut Report<'_>) -> io::Result<()> {
    match source {
        SourceConfig::Mqtt(mqtt) => {
            // Not the agent's own name: the broker would throw the agent out.
            let client_id = format!("headwater-check-{}", std::process::id());
            match sources::mqtt::try_out(mqtt, &client_id).await {
                Ok(()) => report.right(name, format!("{} takes us, here as {client_id}", mqtt.url)),
                Err(error) => report.error(name, &error),
            }
        }
        SourceConfig::Serial(serial) => match sources::serial::try_out(serial) {
            Ok(()) => {
                let port = serial.port.display();
                report.right(name, format!("{port} is there and may be opened (that is not tried: it resets some devices)"))
            }
            Err(error) => report.error(name, &error),
        },
    }
}
