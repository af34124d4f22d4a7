//! What systemd is told: that the agent is ready, how it is, and that it moves.
//!
//! Invariant: a stage that shows nothing for minutes ends the watchdog's pings, and nothing else does: neither an absent broker, nor an
//! uplink that is away, nor a disk that can't be used.
//!
//! Source: `sd_notify(3)` and `sd_watchdog_enabled(3)`.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    status::{State, Status},
    web::report::Activity,
};

/// Between two looks at an agent that starts.
const STARTING: Duration = Duration::from_millis(20);
/// Between two looks at one that runs.
const RUNNING: Duration = Duration::from_secs(5);

/// Keeps systemd informed, for as long as it is polled; does nothing where the agent was not started by it.
pub(super) async fn tell(status: &Status, stop: &CancellationToken, env: &[(String, String)]) -> Infallible {
    if !env.iter().any(|(name, _)| name == "NOTIFY_SOCKET") {
        return std::future::pending().await;
    }
    // Twice in its time, as the manual asks.
    let period = sd_notify::watchdog_enabled().map_or(RUNNING, |limit| RUNNING.min(limit / 2));
    let mut told = Told::default();
    loop {
        let news = told.news(&status.lock(), Instant::now());
        if let Err(error) = sd_notify::notify(&news) {
            warn!("systemd can't be told how the agent is: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(if told.ready { period } else { STARTING }) => {}
            () = stop.cancelled(), if !told.stopping => told.stopping = true,
        }
    }
}

/// What it knows already.
#[derive(Default)]
struct Told {
    ready: bool,
    /// The agent was told to stop.
    stopping: bool,
    /// And systemd knows.
    goodbye: bool,
    status: String,
}

impl Told {
    /// What is to be said now.
    fn news(&mut self, state: &State, now: Instant) -> Vec<NotifyState<'_>> {
        let mut news = Vec::new();
        let ready = is_up(state);
        if ready && !std::mem::replace(&mut self.ready, ready) {
            news.push(NotifyState::Ready);
        }
        if self.stopping && !std::mem::replace(&mut self.goodbye, true) {
            news.push(NotifyState::Stopping);
        }
        let stuck = state.stuck(now);
        if stuck.is_none() {
            news.push(NotifyState::Watchdog);
        }
        let line = line(state, stuck);
        if line != self.status {
            self.status = line;
            news.push(NotifyState::Status(&self.status));
        }
        news
    }
}

/// Whether it has started, as far as that is in its hands: a disk that can't be used is waited for like a broker.
fn is_up(state: &State) -> bool {
    state.running || state.buffer.blocked
}

/// How the agent is, in one line for `systemctl status`.
fn line(state: &State, stuck: Option<&str>) -> String {
    if let Some(stage) = stuck {
        return format!("stuck: {stage} has shown nothing for minutes");
    }
    if !is_up(state) {
        return "starting".into();
    }
    let (activity, waiting) = (Activity::of(state).name(), state.ledger_total().buffered);
    let line = match waiting {
        // What a buffer has is not known before it is open.
        _ if !state.running => activity.to_owned(),
        0 => format!("{activity}; nothing waits"),
        1 => format!("{activity}; 1 reading waits"),
        many => format!("{activity}; {many} readings wait"),
    };
    let problems: Vec<_> = state.problems.values().map(|problem| problem.what.as_str()).collect();
    match problems.as_slice() {
        [] => line,
        [only] => format!("{line}; {only}"),
        [first, others @ ..] => format!("{line}; {first} (and {} more; see headwater status)", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reading::Timestamp, status::BEAT};

    fn running() -> Status {
        let status = Status::default();
        status.lock().running = true;
        status
    }

    /// What is said now, as it goes over the socket.
    fn said(told: &mut Told, status: &Status, now: Instant) -> Vec<String> {
        told.news(&status.lock(), now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_is_said_once_and_not_before_the_stages_run() {
        let (status, now) = (Status::default(), Instant::now());
        let mut told = Told::default();
        assert_eq!(said(&mut told, &status, now), ["WATCHDOG=1", "STATUS=starting"]);
        status.lock().running = true;
        assert_eq!(said(&mut told, &status, now), ["READY=1", "WATCHDOG=1", "STATUS=sending; nothing waits"]);
        assert_eq!(said(&mut told, &status, now), ["WATCHDOG=1"], "nothing has changed");
        told.stopping = true;
        assert_eq!(said(&mut told, &status, now), ["STOPPING=1", "WATCHDOG=1"]);
    }

    #[test]
    fn an_agent_that_waits_for_its_disk_is_ready_and_says_so() {
        let (status, now) = (Status::default(), Instant::now());
        let mut told = Told::default();
        status.problem("buffer", Timestamp(0), "cannot open the buffer".into(), "make room");
        status.lock().buffer.blocked = true;
        assert_eq!(said(&mut told, &status, now), ["READY=1", "WATCHDOG=1", "STATUS=holding; cannot open the buffer"]);

        status.solved("buffer");
        status.lock().buffer.blocked = false;
        assert_eq!(said(&mut told, &status, now), ["WATCHDOG=1", "STATUS=starting"]);
        status.lock().running = true;
        assert_eq!(said(&mut told, &status, now), ["WATCHDOG=1", "STATUS=sending; nothing waits"]);
    }

    #[test]
    fn a_stuck_stage_ends_the_pings_and_an_idle_one_or_an_absent_uplink_does_not() {
        let (status, now) = (running(), Instant::now());
        let mut told = Told::default();
        status.beat("drain", now);
        status.problem("link cloud", Timestamp(0), "the stream is out of reach".into(), "check the uplink");
        assert!(said(&mut told, &status, now + BEAT).contains(&"WATCHDOG=1".to_owned()));

        assert_eq!(said(&mut told, &status, now + 60 * BEAT), ["STATUS=stuck: drain has shown nothing for minutes"]);
    }

    #[test]
    fn the_status_line_says_what_waits_and_what_is_wrong() {
        let status = running();
        status.received("readings", 1200);
        status.problem("link cloud", Timestamp(0), "the stream is out of reach".into(), "check the uplink");
        status.problem("source broker", Timestamp(0), "the broker is gone".into(), "start it");

        let line = line(&status.lock(), None);

        assert_eq!(line, "sending; 1200 readings wait; the stream is out of reach (and 1 more; see headwater status)");
    }
}
