//! What time it is where our requests go, learned from every answer.
//!
//! AWS takes a signature for five minutes, and credentials expire by its clock, while this gateway's own may be wrong or be set while
//! it runs. So both are judged by the service's time: that of its last answer, and what has passed since by the clock that never jumps.
//! It replaces the SDK's own correction, which is a distance to the wall clock and is wrong whenever that is set.
//!
//! Invariant: without an answer it is what the wall clock says.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_smithy_async::time::TimeSource;
use aws_smithy_types::{DateTime, date_time::Format};
use tokio::sync::watch;

use crate::{clock, reading::Uptime};

/// An answer's time has a whole number of seconds, and travels: what moves less is no news.
const BLUR: Duration = Duration::from_secs(10);

/// The service's time, as one destination knows it; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ServiceClock(Arc<watch::Sender<Option<Learned>>>);

/// What an answer said, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Learned {
    time: SystemTime,
    at: Uptime,
}

impl Learned {
    fn now(self, uptime: Uptime) -> SystemTime {
        let passed = u64::try_from(uptime.0.saturating_sub(self.at.0)).unwrap_or_default();
        self.time + Duration::from_micros(passed)
    }
}

impl ServiceClock {
    /// The service's time now.
    pub(super) fn now(&self) -> SystemTime {
        self.0.borrow().map_or_else(SystemTime::now, |learned| learned.now(clock::uptime()))
    }

    /// Milliseconds by which the service's clock is ahead of this gateway's; none before the first answer.
    pub fn ahead(&self) -> Option<i64> {
        let learned = (*self.0.borrow())?;
        Some(millis_between(SystemTime::now(), learned.now(clock::uptime())))
    }

    /// Takes in an answer that has just come, dated so. Says by how much that moves the service's time; one out of a cache, which has
    /// an age, is no news, and one without a date neither. Source: RFC 9110, section 6.6.1; RFC 9111, section 5.1.
    pub(super) fn learn(&self, date: Option<&str>, age: Option<&str>) -> Option<Duration> {
        let date = DateTime::from_str(date.filter(|_| age.is_none())?, Format::HttpDate).ok()?;
        let time = SystemTime::try_from(date).ok().filter(|time| *time > SystemTime::UNIX_EPOCH)?;
        let moved = Duration::from_millis(millis_between(self.now(), time).unsigned_abs());
        self.0.send_if_modified(|learned| learned.replace(Learned { time, at: clock::uptime() }).is_none() || moved > BLUR);
        Some(moved)
    }

    /// Waits until an answer has moved it.
    pub async fn moved(&self) {
        // The sender is in `self`.
        let _ = self.0.subscribe().changed().await;
    }
}

impl TimeSource for ServiceClock {
    fn now(&self) -> SystemTime {
        self.now()
    }
}

fn millis_between(before: SystemTime, after: SystemTime) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    after.duration_since(before).map_or_else(|ahead| -millis(ahead.duration()), millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 21 Nov 2100 05:30:07 GMT";

    #[test]
    fn an_answer_tells_the_time_and_it_goes_on_from_there_whatever_the_wall_clock_does() {
        let clock = ServiceClock::default();
        assert_eq!(clock.ahead(), None);

        let moved = clock.learn(Some(DATE), None).unwrap();

        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(4_130_458_207);
        assert!(clock.now() >= date && clock.now() < date + Duration::from_mins(10));
        assert!(moved > Duration::from_hours(24) && clock.ahead().unwrap() > 0);
        assert!(clock.learn(Some(DATE), None).unwrap() < Duration::from_mins(10));
        let learned = Learned { time: date, at: Uptime(5_000_000) };
        assert_eq!(learned.now(Uptime(65_000_000)), date + Duration::from_mins(1));
        assert_eq!(learned.now(Uptime(4_000_000)), date);
    }

    #[test]
    fn an_answer_without_a_date_or_out_of_a_cache_tells_nothing() {
        let clock = ServiceClock::default();
        for (date, age) in [(None, None), (Some("yesterday"), None), (Some(DATE), Some("90"))] {
            assert_eq!(clock.learn(date, age), None);
        }
        assert_eq!(clock.ahead(), None);
        assert_eq!(millis_between(SystemTime::UNIX_EPOCH + Duration::from_secs(2), SystemTime::UNIX_EPOCH), -2000);
    }
}
