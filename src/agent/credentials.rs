//! Renews the credentials of one destination in time, and tells what is known of them and of the clock that they show.
//!
//! Invariant: nothing is asked for that no request has needed, so a gateway that sends nothing asks for nothing.

use std::{pin::pin, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::certificate::{PERIOD, tell as tell_of_certificate};
use crate::{
    clock::{self, Belief},
    drain::Outlet,
    kinesis::CredentialsNews,
    status::{Status, what_and_remedy},
    units::{format_duration, format_utc},
};

/// A clock that is wrong by less, in milliseconds, is nobody's problem: answers may take as long.
const TOLERATED: i64 = 120_000;

/// Works until `stop`.
pub(super) async fn keep(
    destination: String,
    outlet: Outlet,
    mut clock: watch::Receiver<Belief>,
    status: Status,
    stop: CancellationToken,
) {
    let Some((credentials, service)) = outlet.signing() else {
        // A stage ends when it is told to.
        return stop.cancelled().await;
    };
    let mut news = credentials.news();
    let mut renewals = pin!(credentials.renewals());
    loop {
        let known = news.borrow_and_update().clone();
        tell(&destination, &known, &status);
        tell_time(&destination, service.ahead(), &status);
        tokio::select! {
            () = stop.cancelled() => return,
            _ = news.changed() => {}
            () = service.moved() => {}
            Ok(()) = clock.changed() => {}
            never = &mut renewals => match never {},
            () = sleep(PERIOD) => credentials.look_at_certificate(),
        }
    }
}

/// Says by how much the service's clock is ahead of ours, if that is worth a word.
fn tell_time(destination: &str, ahead: Option<i64>, status: &Status) {
    let part = format!("time {destination}");
    match ahead.filter(|ahead| ahead.abs() > TOLERATED) {
        Some(ahead) => {
            let minutes = Duration::from_mins((ahead.unsigned_abs() + 30_000) / 60_000);
            let side = if ahead > 0 { "behind" } else { "ahead of" };
            let what = format!("this gateway's clock is {} {side} that of {destination}", format_duration(minutes));
            let remedy = "let it reach a time server (timedatectl tells); what is sent is signed by the other clock, but readings have \
                          the time of this one";
            if status.problem(&part, clock::now(), what.clone(), remedy) {
                warn!(destination, "{what}; {remedy}");
            }
        }
        None => drop(status.solved(&part)),
    }
}

fn tell(destination: &str, known: &CredentialsNews, status: &Status) {
    let CredentialsNews { kind, expiry, certificate, failure } = known;
    let now = clock::now();
    status.link(destination, |link| {
        link.credentials.kind = kind;
        link.credentials.expires = *expiry;
        link.credentials.certificate_expires = certificate.as_ref().map(|(_, validity)| validity.to);
    });

    let part = format!("credentials {destination}");
    match (failure, expiry.filter(|expiry| *expiry > now)) {
        // Without any, requests fail, and that is told.
        (Some(why), Some(expiry)) => {
            let (what, remedy) = what_and_remedy(&**why);
            let what = format!("the credentials of {destination}, valid until {}, can't be renewed: {what}", format_utc(expiry));
            if status.problem(&part, now, what.clone(), &remedy) {
                warn!(destination, "{what}; {remedy}");
            }
        }
        _ => {
            if status.solved(&part) && failure.is_none() {
                info!(destination, "the credentials are renewed again");
            }
        }
    }

    if let Some((path, validity)) = certificate {
        tell_of_certificate(&format!("destination {destination}"), path, validity.to, status);
    }
}
