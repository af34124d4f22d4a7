//! Tells in time that a certificate of ours is about to end, whoever asks us for it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock::{self, Belief},
    identity::{Validity, certificates, validity},
    reading::Timestamp,
    status::Status,
    units::format_utc,
};

/// Between two looks at a certificate's file and its days.
pub(super) const PERIOD: Duration = Duration::from_hours(1);
/// From so many days before its end on, a certificate is a problem: time enough for a visit on site.
const DAYS_BEFORE: i64 = 30;
/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

/// Looks at the certificate that `source` shows to its broker, in the file at `path`, until `stop`.
pub(super) async fn keep(
    source: String,
    path: PathBuf,
    mut clock: watch::Receiver<Belief>,
    status: Status,
    stop: CancellationToken,
) {
    loop {
        // Without one there is no connection, and that is told.
        if let Some(Validity { to, .. }) = read(&path) {
            status.source(&source, |source| source.certificate_expires = Some(to));
            tell(&format!("source {source}"), &path, to, &status);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = clock.changed() => {}
            () = sleep(PERIOD) => {}
        }
    }
}

fn read(path: &Path) -> Option<Validity> {
    certificates(path).ok()?.first().and_then(|own| validity(own))
}

/// Says of the certificate in the file at `path`, which stands for us at `whose`, that it ends at `end`, if that is worth a word.
pub(super) fn tell(whose: &str, path: &Path, end: Timestamp, status: &Status) {
    let (part, now) = (format!("certificate of {whose}"), clock::now());
    match ending(end, now) {
        Some(when) => {
            let what = format!("the certificate {} {when}", path.display());
            let remedy = "put a renewed one in its place, with its key; it is read without a restart";
            if status.problem(&part, now, what.clone(), remedy) {
                warn!("{what}; {remedy}");
            }
        }
        None => {
            if status.solved(&part) {
                info!("the certificate {} has been renewed", path.display());
            }
        }
    }
}

/// What is to be said of a certificate that is valid until `end`; none while that is far away.
fn ending(end: Timestamp, now: Timestamp) -> Option<String> {
    let days = (end.0 - now.0).div_euclid(DAY);
    match days {
        ..0 => Some(format!("has expired on {}", format_utc(end))),
        0 => Some(format!("expires within a day, on {}", format_utc(end))),
        1..DAYS_BEFORE => Some(format!("expires in {days} days, on {}", format_utc(end))),
        DAYS_BEFORE.. => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_a_problem_from_thirty_days_before_its_end_on() {
        let end = Timestamp(1_795_219_200_000);
        let said = |days: i64| ending(end, Timestamp(end.0 - days * DAY));
        assert_eq!(said(30), None);
        assert_eq!(ending(end, Timestamp(end.0 - 30 * DAY + 1)).unwrap(), "expires in 29 days, on 2026-11-21T00:00:00Z");
        assert!(said(0).unwrap().starts_with("expires within a day"));
        assert!(said(-1).unwrap().starts_with("has expired on 2026-11-21"));
    }
}
