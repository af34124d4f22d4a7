//! The meter of one destination: keeps it to what its link is given, says so, and knows across restarts what has left in this month.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use tracing::{info, warn};

use super::{
    Drain, Ended,
    allowance::{Allowance, Closed, Months, Permit},
    stream::{Next, Stream},
};
use crate::{
    clock,
    config::KinesisConfig,
    durable::replace,
    reading::Timestamp,
    status::{MonthState, Pause, Status},
    units::format_utc,
};

/// One destination's.
#[derive(Debug, Default)]
pub struct Meter {
    pub(super) allowance: Allowance,
    /// Where the months are written down.
    file: Option<PathBuf>,
    /// They are being written.
    noting: bool,
    /// Why nothing may be sent, as it was told.
    closed: Option<Closed>,
}

impl Meter {
    /// Of a service with these settings. `file` knows what has left in this month; without one it counts from nothing.
    pub fn open(config: &KinesisConfig, file: Option<PathBuf>) -> Self {
        let file = file.filter(|_| config.max_bytes_per_month.is_some());
        let spent = file.as_deref().map(read).unwrap_or_default();
        Self { allowance: Allowance::new(config, spent), file, noting: false, closed: None }
    }

    /// Whether nothing is sent at present.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Puts the month into the status of the destination `name`.
    pub(super) fn tell(&self, name: &str, time: Timestamp, status: &Status) {
        if let Some((used, max)) = self.allowance.of_the_month(time) {
            status.link(name, |link| link.month = Some(MonthState { used, max }));
        }
    }

    fn is(&mut self, closed: Option<Closed>, name: &str, status: &Status) {
        self.closed = closed;
        let part = format!("month {name}");
        let pause = match closed {
            None => None,
            Some(Closed::Quiet(until)) => Some(Pause { why: "quiet_hours", until }),
            Some(Closed::Spent(until)) => {
                let what = format!("max_bytes_per_month of {name} is used up; readings wait until {}", format_utc(until));
                status.problem(&part, clock::now(), what, "raise max_bytes_per_month, or see that the buffer is large enough");
                Some(Pause { why: "max_bytes_per_month", until })
            }
        };
        if !matches!(closed, Some(Closed::Spent(_))) {
            status.solved(&part);
        }
        status.link(name, |link| link.paused = pause);
        match pause {
            Some(Pause { why, until }) => info!(destination = name, why, until = format_utc(until), "nothing is sent for a while"),
            None => info!(destination = name, "readings are sent again"),
        }
    }
}

/// A file that is not there knows of nothing; one that can't be read is written anew.
fn read(file: &Path) -> Months {
    let text = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Months::new(),
        text => text,
    };
    text.and_then(|text| Ok(serde_json::from_slice(&text)?)).unwrap_or_else(|error| {
        warn!(file = %file.display(), "what has left in this month can't be read: {error}; it counts from nothing");
        Months::new()
    })
}

async fn write(file: Option<PathBuf>, months: Months) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let write = move || replace(&file, &serde_json::to_vec(&months)?);
    tokio::task::spawn_blocking(write).await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

impl Drain {
    /// Bytes of records that a request to `destination` may have now, or what to do meanwhile.
    pub(super) fn permitted(&mut self, now: Instant, destination: usize) -> Result<usize, Next> {
        let place = &mut self.destinations[destination];
        let permit = place.meter.allowance.permit(now, clock::now());
        let closed = match permit {
            Permit::Closed(closed) => Some(closed),
            Permit::Open(_) | Permit::Later(_) | Permit::Unnoted => None,
        };
        if closed != place.meter.closed {
            place.meter.is(closed, &place.name, &self.status);
            // Whoever has the same hours begins at the same minute.
            let streams = self.streams.iter_mut().filter(|stream| stream.destination == destination);
            streams.for_each(|stream| {
                stream.was_away();
                stream.begin_slowly();
            });
        }
        match permit {
            Permit::Open(bytes) => Ok(bytes),
            Permit::Later(at) => Err(Next::Wait(at)),
            Permit::Closed(_) => Err(Next::Idle), // it is looked at again at every beat
            Permit::Unnoted => {
                self.note(destination);
                Err(Next::Idle)
            }
        }
    }

    fn note(&mut self, destination: usize) {
        let meter = &mut self.destinations[destination].meter;
        if std::mem::replace(&mut meter.noting, true) {
            return;
        }
        let (months, file) = (meter.allowance.note(clock::now()), meter.file.clone());
        self.in_flight.push(Box::pin(async move {
            let result = write(file, months.clone()).await;
            Ended::Noted { destination, months, result }
        }));
    }

    /// The file of the month says `months`, or can't be written: then sending goes on, because only that makes room on a full disk.
    pub(super) fn is_noted(&mut self, destination: usize, months: Months, result: io::Result<()>) {
        let place = &mut self.destinations[destination];
        place.meter.noting = false;
        place.meter.allowance.noted(months);
        tell_written(&place.name, result, &self.status);
    }

    /// What has left, exactly, for the next start.
    pub(super) async fn note_the_end(&mut self) {
        for place in &mut self.destinations {
            if let Some(months) = place.meter.allowance.last_note() {
                tell_written(&place.name, write(place.meter.file.clone(), months.clone()).await, &self.status);
            }
        }
    }

    /// Puts streams into the order in which they are asked: those of a higher priority first, but for one that is owed something where
    /// requests stand in line for a rate.
    pub(super) fn order(&self, order: &mut Vec<usize>) {
        order.clear();
        order.extend(0..self.streams.len());
        if self.destinations.iter().any(|place| place.meter.allowance.is_rated()) {
            order.sort_by_key(|index| {
                let Stream { destination, priority, served, .. } = self.streams[*index];
                let place = &self.destinations[destination];
                let owed = place.meter.allowance.is_rated() && place.turns.is_owed(priority);
                // Of equals, the one that was served longest ago.
                (!owed, if owed { priority } else { u16::MAX - priority }, served)
            });
        }
    }
}

fn tell_written(name: &str, result: io::Result<()>, status: &Status) {
    let part = format!("count of the month {name}");
    match result {
        Ok(()) => {
            status.solved(&part);
        }
        Err(error) => {
            let what = format!("what has left for {name} in this month can't be written down: {error}");
            let remedy = "check the disk and device.state_dir; sending goes on, and a power cut would forget what left since";
            if status.problem(&part, clock::now(), what.clone(), remedy) {
                warn!(destination = name, "{what}; {remedy}");
            }
        }
    }
}
