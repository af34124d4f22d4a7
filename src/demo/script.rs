//! What happens when in a demo, and what is said about it.
//!
//! Pure: seconds in, decisions and lines out.

use crate::{demo::sensors::Sent, reading::Timestamp, status::State, web::report::Activity};

/// Seconds from one outage to the next in a demo without an end.
const CYCLE: u64 = 60;

/// The uplink in one second of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// It is there; an outage begins after so many seconds, or none.
    There(Option<u64>),
    /// It is away, for so many seconds more.
    Away(u64),
}

/// The uplink `second` seconds after the start of a demo of `length` seconds: away in the middle third, of the whole or of each minute.
pub fn scene(second: u64, length: Option<u64>) -> Scene {
    let (cycle, at, last) = match length {
        Some(length) => (length, second, true),
        None => (CYCLE, second % CYCLE, false),
    };
    let (goes, comes) = (cycle / 3, 2 * cycle / 3);
    if at < goes {
        Scene::There(Some(goes - at))
    } else if at < comes {
        Scene::Away(comes - at)
    } else {
        Scene::There((!last).then(|| cycle - at + goes))
    }
}

/// Why nothing happens in the first seconds in which the uplink is there again, and little in the next.
pub const WHY_SLOWLY: &str = "        the uplink is back; who was cut off for ten seconds asks again after a time by chance, and begins slowly, \
                              because a thousand gateways may come back with it";

/// What is said when somebody has seen enough.
pub const LAST_WORDS: &str =
    "\nStopping: the sensors end, and what waits is sent, which may take a minute; Ctrl-C again ends at once.";

/// One line on how the agent is: `12 s  sending    received 1,234  delivered 1,200  buffered 34   uplink away for 3 s more`.
pub fn line(second: u64, state: &State, scene: Scene, now: Timestamp) -> String {
    let ledger = state.ledger_total();
    let (received, delivered, buffered) = (grouped(ledger.received), grouped(ledger.delivered), grouped(ledger.buffered));
    let asked_again = state.links.values().find_map(|link| link.retry_at).map(|at| at.0.saturating_sub(now.0).max(0));
    let uplink = match (scene, asked_again) {
        (Scene::There(_), Some(ms)) => format!("uplink there, asked again in {} s", (ms + 999) / 1000),
        (Scene::There(Some(left)), None) => format!("uplink away in {left} s"),
        (Scene::There(None), None) => "uplink there".into(),
        (Scene::Away(left), _) => format!("uplink away for {left} s more"),
    };
    let doing = Activity::of(state).name();
    format!("{second:>4} s  {doing:<9}  received {received:>7}  delivered {delivered:>7}  buffered {buffered:>6}   {uplink}")
}

/// Which of `sources` do not deliver yet.
pub fn not_connected<'a>(state: &State, sources: &[&'a str]) -> Vec<&'a str> {
    let connected = |name: &str| state.sources.get(name).is_some_and(|source| source.state == "connected");
    sources.iter().copied().filter(|name| !connected(name)).collect()
}

/// Whether the agent took all that was sent, and nothing waits any more.
pub fn drained(state: &State, sent: &Sent) -> bool {
    let ledger = state.ledger_total();
    ledger.received >= sent.values().sum() && ledger.buffered == 0
}

/// 1234567 as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    #[test]
    fn the_uplink_is_away_in_the_middle_third() {
        let scenes: Vec<_> = [0, 6, 7, 13, 14, 20].map(|second| scene(second, Some(21))).into();

        let there = Scene::There(None);
        assert_eq!(scenes, [Scene::There(Some(7)), Scene::There(Some(1)), Scene::Away(7), Scene::Away(1), there, there]);
    }

    #[test]
    fn a_demo_without_an_end_has_an_outage_a_minute() {
        assert_eq!(scene(59, None), Scene::There(Some(21)));
        assert_eq!(scene(60, None), Scene::There(Some(20)));
        assert_eq!(scene(619, None), Scene::There(Some(1)));
        assert_eq!(scene(620, None), Scene::Away(20));
    }

    #[test]
    fn the_line_says_how_the_agent_is_and_what_comes_next() {
        let status = Status::default();
        status.received("readings", 1_234);
        status.delivered("readings", 1_200);
        status.link("cloud", |link| link.error = Some("no answer".into()));

        let said = |scene| line(12, &status.lock(), scene, Timestamp(50_000));

        let start = "  12 s  buffering  received   1,234  delivered   1,200  buffered     34   ";
        assert_eq!(said(Scene::Away(3)), format!("{start}uplink away for 3 s more"));
        assert_eq!(said(Scene::There(Some(9))), format!("{start}uplink away in 9 s"));
        status.link("cloud", |link| link.retry_at = Some(Timestamp(53_100)));
        assert_eq!(said(Scene::There(Some(9))), format!("{start}uplink there, asked again in 4 s"));
    }

    #[test]
    fn the_agent_is_drained_when_it_took_everything_and_nothing_waits() {
        let status = Status::default();
        let sent = Sent::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let is_drained = || drained(&status.lock(), &sent);

        status.received("readings", 2);
        status.delivered("readings", 2);
        assert!(!is_drained());
        status.received("readings", 1);
        assert!(!is_drained());
        status.delivered("readings", 1);
        assert!(is_drained());
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
