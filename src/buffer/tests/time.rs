//! Readings from a clock that was wrong, and what corrects them later.

use super::*;
use crate::clock::{Boot, Setting, Trust};

const BOOT: Boot = Boot(u64::MAX);

fn belief(trust: Trust, minutes: i64) -> Belief {
    Belief { boot: BOOT, set: Setting(minutes * 60_000_000), trust }
}

#[tokio::test]
async fn what_was_read_from_a_wrong_clock_can_be_corrected_after_a_restart_of_the_machine() {
    let unsure = belief(Trust::Wrong, 10).unsure();
    let mut bench = Bench::new();
    bench.unsure = unsure;
    bench.holds("early").await;
    bench.unsure = None;
    bench.holds("late").await;
    assert_eq!(bench.buffer().correction(unsure.unwrap()), None, "the clock was never set");

    let bench = bench.close().await.open();
    assert_eq!(bench.status.lock().streams["s"].oldest, Some(Timestamp(1)));
    bench.buffer().clock_is(Instant::now(), belief(Trust::Wrong, 11));
    bench.buffer().clock_is(Instant::now(), belief(Trust::Right, 100));
    let bench = bench.close().await.open();

    assert_eq!(bench.buffer().correction(unsure.unwrap()), Some(90 * 60_000));
    assert_eq!(bench.status.lock().streams["s"].oldest, Some(Timestamp(1 + 90 * 60_000)));
    let taken = bench.buffer().oldest(bench.lane(), 1 << 20).await.unwrap().unwrap();
    assert_eq!(taken.pieces.iter().map(|piece| piece.unsure).collect::<Vec<_>>(), [unsure, None]);
    bench.buffer().release(bench.lane());
    assert_eq!(bench.drained().await, ["early", "late"]);
    bench.ledger_balances();
    let bench = bench.close().await.open();
    assert_eq!(bench.buffer().correction(unsure.unwrap()), None, "nobody needs it any more");
}

#[tokio::test]
async fn when_the_clock_is_set_what_waits_is_as_old_as_it_is() {
    let mut bench = Bench::new();
    bench.unsure = belief(Trust::Wrong, 0).unsure();
    bench.settings.memory = 1 << 20;
    bench.holds(vec![7; 400_000]).await; // more than a quarter of the memory, so it is on the disk alone
    bench.status.lock().streams.get_mut("s").unwrap().oldest = None;

    bench.buffer().clock_is(Instant::now(), belief(Trust::Right, 50));

    let bench = bench.close().await;
    assert_eq!(bench.status.lock().streams["s"].oldest, Some(Timestamp(1 + 50 * 60_000)));
}

#[tokio::test]
async fn a_clock_that_no_reading_needs_is_not_kept() {
    let mut bench = Bench::new();
    bench.holds("one").await;
    bench.drained().await;

    bench.buffer().clock_is(Instant::now(), belief(Trust::Right, 50));
    let bench = bench.close().await.open();

    assert_eq!(bench.buffer().correction(belief(Trust::Wrong, 0).unsure().unwrap()), None);
}
