//! Watches the gateway's clock, and tells the others what to make of it.
//!
//! Invariant: what was told of a time before the clock was moved is moved with it, so "for ten minutes" stays ten minutes.

use std::time::{Duration, Instant};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    buffer::Buffer,
    clock::{Belief, Boot, Clock, Trust, now},
    reading::Timestamp,
    record::RunId,
    status::{Status, what_and_remedy},
};

/// The part of the status that this task speaks for.
const PART: &str = "clock";
/// Between two looks at a clock that is right. A reading that arrives looks at it too.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two looks at one that is not, because what waits for it should not wait longer.
const SHORT_PERIOD: Duration = Duration::from_secs(1);
/// The mean year of the calendar, in milliseconds.
const YEAR: i64 = 31_556_952_000;

/// The present boot. One without a name is taken for a boot of its own, so that no reading is corrected by another one's clock.
pub(super) fn present_boot(run: RunId) -> Boot {
    Boot::present().unwrap_or_else(|nameless| {
        let (what, remedy) = what_and_remedy(&nameless);
        warn!("{what}; {remedy}");
        Boot(run.0)
    })
}

/// Watches until `stop`. Whoever sends readings listens to `told`, which hears of a change when the buffer has it: else they would go out
/// before they are corrected.
pub(super) async fn watch(clock: Clock, buffer: Buffer, told: watch::Sender<Belief>, status: Status, stop: CancellationToken) {
    let mut changes = clock.changes();
    let mut known = *changes.borrow_and_update();
    tell(known, 0, &buffer, &told, &status);
    loop {
        let period = if known.trust == Trust::Right { PERIOD } else { SHORT_PERIOD };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = changes.changed() => {}
            () = sleep(period) => drop(clock.look()),
        }
        let belief = *changes.borrow_and_update();
        if belief != known {
            tell(belief, belief.set.since(known.set), &buffer, &told, &status);
            known = belief;
        }
    }
}

fn tell(belief: Belief, moved: i64, buffer: &Buffer, told: &watch::Sender<Belief>, status: &Status) {
    buffer.clock_is(Instant::now(), belief);
    told.send_replace(belief);
    let now = now();
    let changed = status.lock().clock_is(belief.trust, moved, now);
    if moved != 0 {
        info!(by_ms = moved, "the clock was set");
    }
    let problem = match belief.trust {
        Trust::Right => None,
        Trust::Unsure => Some((
            "no time server has confirmed this gateway's clock".to_owned(),
            "let it reach one (timedatectl tells); until then readings are marked, and those that still wait then are corrected",
        )),
        Trust::Wrong => Some((
            format!("this gateway's clock is wrong, it says that this is the year {}", year(now)),
            "let it reach a time server (timedatectl tells) or set it; until then nothing is sent, and what waits is corrected then",
        )),
    };
    match problem {
        Some((what, remedy)) => {
            if status.problem(PART, now, what.clone(), remedy) {
                warn!("{what}; {remedy}");
            }
        }
        None => {
            if status.solved(PART) || changed {
                info!("the clock is right");
            }
        }
    }
}

fn year(time: Timestamp) -> i64 {
    1970 + time.0.div_euclid(YEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_year_is_that_of_the_calendar() {
        assert_eq!([0, 1_795_219_200_000, 2_400_000_000_000].map(|time| year(Timestamp(time))), [1970, 2026, 2046]);
    }
}
