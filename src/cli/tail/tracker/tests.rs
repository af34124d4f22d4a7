use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::fuzz::tests::cases;

fn reading(run: &str, seq: u64) -> Names {
    Names { dev: "gw".into(), run: run.into(), lane: "readings/0".into(), seq: Some(seq), ..Names::default() }
}

fn gaps(verdict: &Verdict) -> Vec<(&str, u64, u64)> {
    verdict.gaps.iter().map(|gap| (&*gap.run.run, gap.from, gap.to)).collect()
}

#[test]
fn a_reading_that_comes_again_is_a_duplicate_in_its_lane_and_run_only() {
    let mut tracker = Tracker::default();
    for seq in 0..3 {
        assert_eq!(tracker.look(&reading("a", seq)), Verdict::default());
    }

    assert!(tracker.look(&reading("a", 1)).duplicate);
    assert!(!tracker.look(&Names { lane: "readings/1".into(), ..reading("a", 1) }).duplicate);
    assert!(!tracker.look(&Names { dev: "other".into(), ..reading("a", 1) }).duplicate);
    assert_eq!(tracker.counts(), Counts { readings: 5, duplicates: 1, ..Counts::default() });
}

#[test]
fn a_gap_is_reported_once_and_may_still_be_filled() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 0));

    let verdict = tracker.look(&reading("a", 5));
    assert_eq!(gaps(&verdict), [("a", 1, 4)]);
    assert_eq!(verdict.gaps[0].to_string(), "4 readings are missing: dev gw, lane readings/0, run a, seq 1 to 4");
    assert_eq!(tracker.counts().missing, 4);

    assert_eq!(tracker.look(&reading("a", 2)), Verdict::default());
    assert_eq!(tracker.counts().missing, 3);
    assert!(tracker.look(&reading("a", 2)).duplicate);
    for seq in [1, 3, 4] {
        assert_eq!(tracker.look(&reading("a", seq)), Verdict::default());
    }
    assert_eq!(tracker.counts(), Counts { readings: 6, duplicates: 1, ..Counts::default() });
}

#[test]
fn what_lies_before_the_place_where_we_began_is_not_missing() {
    let mut tracker = Tracker::default();

    assert_eq!(tracker.look(&reading("a", 7)), Verdict::default());
    assert_eq!(tracker.counts().missing, 0);

    // The agent was restarted, and sends the chunk again that it had sent in part.
    assert_eq!(tracker.look(&reading("a", 6)), Verdict::default());
    assert!(tracker.look(&reading("a", 6)).duplicate);
    assert!(tracker.look(&reading("a", 7)).duplicate);
}

#[test]
fn a_new_run_says_where_the_one_before_ended() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 0));
    let ended = |seq| Some(super::super::envelope::Previous { run: "a".into(), seq });

    let verdict = tracker.look(&Names { prev: ended(2), ..reading("b", 0) });
    assert_eq!(gaps(&verdict), [("a", 1, 2)]);

    // What was delivered from memory is not known to the successor: that run had more than it says.
    let mut tracker = Tracker::default();
    (0..5).for_each(|seq| drop(tracker.look(&reading("a", seq))));
    assert_eq!(tracker.look(&Names { prev: ended(2), ..reading("b", 0) }), Verdict::default());
}

#[test]
fn the_first_readings_of_a_new_run_are_missed_where_the_lane_was_followed_before() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 9));
    assert_eq!(gaps(&tracker.look(&reading("b", 3))), [("b", 0, 2)]);
}

#[test]
fn a_run_whose_readings_have_waited_while_later_ones_came_lacks_only_what_it_skips() {
    let mut tracker = Tracker::default();
    let arrived = |run, seq, ts| Names { ts: Some(ts), ..reading(run, seq) };
    let ended = Some(super::super::envelope::Previous { run: "old".into(), seq: 9 });
    tracker.look(&Names { prev: ended, ..arrived("new", 0, 1000) });

    assert_eq!(tracker.look(&arrived("old", 7, 500)), Verdict::default(), "it may have sent the first seven before");
    assert_eq!(tracker.look(&arrived("new", 1, 1001)), Verdict::default());
    assert_eq!(gaps(&tracker.look(&arrived("old", 9, 502))), [("old", 8, 8)]);
    assert_eq!(tracker.look(&arrived("old", 8, 501)), Verdict::default());
    assert_eq!(tracker.counts(), Counts { readings: 5, ..Counts::default() });

    assert_eq!(gaps(&tracker.look(&arrived("newer", 2, 2000))), [("newer", 0, 1)]);
}

#[test]
fn what_waits_while_later_readings_come_is_told_of_once_and_not_missing_when_it_came() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 0));
    let live = |n| 100 + n;
    let told: usize = (0..10).map(|n| tracker.look(&reading("a", live(n))).gaps.len()).sum();
    assert_eq!((told, tracker.counts().missing), (1, 99));
    for n in 1..100 {
        assert_eq!(tracker.look(&reading("a", n)), Verdict::default());
        assert_eq!(tracker.look(&reading("a", live(9 + n))), Verdict::default());
    }
    assert_eq!(tracker.counts().missing, 0);
}

#[test]
fn what_the_gateway_says_it_dropped_is_not_missing() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 0));
    let notice = Names { seq: None, from: Some(1), to: Some(4), dropped: Some(4), ..reading("a", 0) };

    assert_eq!(tracker.look(&notice), Verdict::default());
    assert_eq!(tracker.look(&reading("a", 5)), Verdict::default());
    assert!(tracker.look(&notice).duplicate);
    assert_eq!(tracker.counts(), Counts { readings: 2, duplicates: 1, dropped: 4, missing: 0 });
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn what_is_new_and_what_is_missing_is_what_a_set_of_numbers_says(
        spans in prop::collection::vec((0..40_u64, prop::sample::select(vec![0, 0, 0, 3, 9])), 1..40),
    ) {
        let (mut tracker, mut seen) = (Tracker::default(), BTreeSet::new());
        let began = spans[0].0;
        let mut next = began;
        for (from, more) in spans {
            let to = from + more;
            let names = Names { seq: None, from: Some(from), to: Some(to), dropped: Some(more + 1), ..reading("a", 0) };

            let verdict = tracker.look(&names);

            let before = seen.len();
            seen.extend(from..=to);
            prop_assert_eq!(verdict.duplicate, seen.len() == before);
            let gap = (from > next).then(|| ("a", next, from - 1));
            prop_assert_eq!(gaps(&verdict), gap.into_iter().collect::<Vec<_>>());
            next = next.max(to + 1);
            let missing = (began..next).filter(|n| !seen.contains(n)).count();
            prop_assert_eq!(tracker.counts().missing, missing as u64);
        }
    }
}

#[test]
fn the_last_number_of_all_is_no_gap() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", u64::MAX));
    let ended = Some(super::super::envelope::Previous { run: "a".into(), seq: u64::MAX });
    assert_eq!(tracker.look(&Names { prev: ended, ..reading("b", 0) }), Verdict::default());
    assert!(tracker.look(&reading("a", u64::MAX)).duplicate);
}

#[test]
fn of_readings_that_were_thinned_those_that_stayed_are_new_and_the_others_not_missing() {
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 0));
    let notice = Names { seq: None, from: Some(1), to: Some(8), dropped: Some(4), ..reading("a", 0) };

    assert_eq!(tracker.look(&notice), Verdict::default());
    for seq in [1, 3, 5, 7, 9] {
        assert_eq!(tracker.look(&reading("a", seq)), Verdict::default());
    }
    assert_eq!(tracker.counts(), Counts { readings: 6, duplicates: 0, dropped: 4, missing: 0 });
    assert!(tracker.look(&notice).duplicate);
    assert!(tracker.look(&reading("a", 3)).duplicate);

    // Five of the eight are gone, and four are said to be.
    let mut tracker = Tracker::default();
    tracker.look(&reading("a", 0));
    tracker.look(&notice);
    [1, 3, 5, 9].iter().for_each(|seq| drop(tracker.look(&reading("a", *seq))));
    assert_eq!(tracker.counts().missing, 1);
}

#[test]
fn memory_stays_bounded_and_the_count_of_what_is_missing_right() {
    let mut tracker = Tracker::default();
    let many = MAX_HOLES as u64 + 5_000;
    (0..=many).for_each(|n| drop(tracker.look(&reading("a", 2 * n))));
    assert_eq!((tracker.runs.values().next().unwrap().holes.len(), tracker.holes), (MAX_HOLES, MAX_HOLES));
    assert_eq!(tracker.counts().missing, many);

    for n in 0..5_000 {
        tracker.look(&Names { dev: format!("gw-{n}"), ..reading("a", 0) });
    }
    assert_eq!(tracker.runs.len(), MAX_RUNS);
    assert_eq!((tracker.counts().missing, tracker.holes), (many, 0));
}
