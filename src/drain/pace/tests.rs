use super::*;

const RTT: Duration = Duration::from_millis(100);
const MIB: usize = 1 << 20;

/// A lane that always has something to send, and its shard.
struct Lane {
    pace: Pace,
    now: Instant,
    /// Bytes of a reading: no record is smaller.
    reading: usize,
}

impl Lane {
    fn without_a_limit() -> Self {
        Self { pace: Pace::default(), now: Instant::now(), reading: 1 }
    }

    fn after_an_outage() -> Self {
        let mut lane = Self::without_a_limit();
        lane.pace.begin_slowly();
        lane
    }

    /// Sends the next record as soon as it may; says how large it was.
    fn sends(&mut self, accepted: bool) -> usize {
        let sent = self.pace.ready_at().map_or(self.now, |at| at.max(self.now));
        let bytes = self.pace.record_bytes().clamp(self.reading, MIB);
        self.now = sent + RTT;
        if accepted {
            self.pace.accepted(sent, self.now, bytes, 0.5);
        } else {
            self.pace.refused(sent, self.now, bytes, 0.5);
        }
        bytes
    }

    /// Everything is refused until it has waited `time`.
    fn is_refused_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.sends(false);
        }
    }

    /// It is refused again and again, and not always.
    fn meets_a_crowd(&mut self) {
        for _ in 0..50 {
            self.sends(true);
            self.sends(false);
        }
    }

    /// How long it is accepted before its rate is `rate`.
    fn needs_for(&mut self, rate: f64) -> Duration {
        let start = self.now;
        while self.rate() < rate {
            self.sends(true);
        }
        self.now - start
    }

    fn rate(&self) -> f64 {
        self.pace.limit.map_or(f64::INFINITY, |limit| limit.rate)
    }

    /// A small record is accepted in each of so many seconds.
    fn trickles(&mut self, seconds: u32) {
        for _ in 0..seconds {
            let sent = self.now;
            self.now += Duration::from_secs(1);
            self.pace.accepted(sent, self.now, 300, 0.5);
        }
    }

    /// Is accepted until it has waited `time`; says how many bytes it sent.
    fn is_accepted_for(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut bytes = 0;
        while self.now < end {
            bytes += self.sends(true);
        }
        bytes
    }
}

#[test]
fn a_lane_that_was_never_refused_nor_away_has_no_limit() {
    let mut pace = Pace::default();
    let now = Instant::now();
    pace.accepted(now, now, MIB, 0.5);
    assert_eq!((pace.ready_at(), pace.rate(), pace.record_bytes()), (None, None, usize::MAX));
}

#[test]
fn after_an_outage_a_lane_begins_slowly_and_fills_its_shard_within_ten_seconds() {
    let mut lane = Lane::after_an_outage();
    let start = lane.now;
    assert_eq!((lane.pace.rate(), lane.sends(true)), (Some(2048), 1280));
    assert!(lane.is_accepted_for(Duration::from_secs(2)) < 16 << 10);
    while lane.rate() < SHARD_RATE {
        lane.sends(true);
    }
    assert!(lane.now - start < Duration::from_secs(10), "{:?}", lane.now - start);
    assert!(lane.now - start > Duration::from_secs(8), "{:?}", lane.now - start);
}

#[test]
fn a_lane_alone_uses_the_tank_and_then_keeps_to_what_its_shard_gives() {
    let mut lane = Lane::after_an_outage();
    let (start, mut sent, mut refused) = (lane.now, 0.0, 0);
    while lane.now < start + Duration::from_mins(5) {
        let bytes = lane.pace.record_bytes() as f64;
        let accepted = sent + bytes <= TANK + SHARD_RATE * (lane.now - start).as_secs_f64();
        lane.sends(accepted);
        sent += if accepted { bytes } else { 0.0 };
        refused += u32::from(!accepted);
    }
    assert!(sent > 0.98 * 300.0 * SHARD_RATE, "{sent}");
    assert!(refused < 5, "{refused}");
}

#[test]
fn the_first_refusal_leaves_a_lane_its_share_of_what_the_shard_gave_out() {
    let mut lane = Lane::after_an_outage();
    let start = lane.now;
    let carried = lane.is_accepted_for(Duration::from_secs(6)) as f64;
    lane.sends(false);
    let given_out = TANK + SHARD_RATE * (lane.now - start).as_secs_f64();
    assert!((lane.rate() / (SHARD_RATE * carried / given_out) - 1.0).abs() < 0.02, "{}", lane.rate());
}

#[test]
fn whoever_is_refused_at_once_has_what_a_thousand_would_have() {
    let mut lane = Lane::after_an_outage();
    lane.sends(false);
    assert_eq!(lane.pace.rate(), Some(1024));
}

#[test]
fn a_lane_without_a_limit_that_is_refused_goes_on_with_half_of_what_it_carried() {
    let mut lane = Lane::without_a_limit();
    for _ in 0..100 {
        let sent = lane.now;
        lane.now += Duration::from_secs(1);
        lane.pace.accepted(sent, lane.now, 200_000, 0.5);
    }
    lane.pace.refused(lane.now, lane.now, 200_000, 0.5);
    assert!((80_000.0..200_000.0).contains(&lane.rate()), "{}", lane.rate());
}

#[test]
fn a_refusal_takes_a_third_of_the_rate_once_a_round_trip() {
    let mut lane = Lane::after_an_outage();
    lane.is_accepted_for(Duration::from_secs(6));
    lane.sends(false);
    let (sent, before, known) = (lane.now, lane.rate(), lane.pace.rate());
    lane.pace.refused(sent.checked_sub(RTT).unwrap(), lane.now, 1000, 0.5);
    assert_eq!(lane.pace.rate(), known, "it was sent before the first refusal was known");
    lane.now += RTT;
    lane.pace.refused(sent, lane.now, 1000, 0.5);
    assert!((lane.rate() / before - 0.65).abs() < 0.01, "{before} {}", lane.rate());
}

#[test]
fn in_a_crowd_a_rate_climbs_back_in_two_minutes_and_ever_faster_where_nobody_refuses() {
    let mut lane = Lane::after_an_outage();
    lane.meets_a_crowd();
    lane.needs_for(2048.0);
    let in_the_crowd = |lane: &mut Lane| {
        let rate = lane.rate();
        lane.sends(false);
        lane.needs_for(rate).as_secs()
    };
    for _ in 0..10 {
        assert!((100..170).contains(&in_the_crowd(&mut lane)), "how often it is refused");
    }
    let mut doublings = (0..4).map(|_| lane.needs_for(2.0 * lane.rate()));
    let (mut last, mut count) = (doublings.next().unwrap(), 0);
    for needed in doublings {
        assert!(needed < last, "the crowd is gone: {needed:?}");
        (last, count) = (needed, count + 1);
    }
    assert!(count == 3 && last < Duration::from_secs(30), "{last:?}");
}

#[test]
fn one_refusal_costs_a_lane_that_is_alone_a_third_of_its_rate_for_half_a_minute() {
    let mut lane = Lane::after_an_outage();
    lane.is_accepted_for(Duration::from_secs(9));
    lane.sends(false);
    lane.needs_for(MOST);
    for _ in 0..3 {
        lane.sends(false);
        lane.is_accepted_for(Law::KINESIS.memory);
        lane.sends(false);
        assert!((lane.rate() / MOST - 0.65).abs() < 0.01, "{}", lane.rate());
        let needed = lane.needs_for(MOST);
        assert!(needed < Duration::from_secs(30), "{needed:?}");
    }
}

#[test]
fn a_shard_that_took_nothing_for_a_minute_is_soon_filled_again() {
    let mut lane = Lane::after_an_outage();
    lane.is_accepted_for(Duration::from_secs(9));
    lane.is_refused_for(Duration::from_mins(1));
    assert_eq!(lane.pace.rate(), Some(512));
    let needed = lane.needs_for(MOST);
    assert!(needed < Duration::from_secs(80), "{needed:?}");
}

#[test]
fn a_lane_sends_no_faster_than_its_rate_and_never_stops() {
    let mut lane = Lane::after_an_outage();
    lane.meets_a_crowd();
    assert_eq!((lane.pace.rate(), lane.pace.record_bytes()), (Some(512), 1280));
    let start = lane.now;
    let sent = lane.is_accepted_for(Duration::from_mins(1)) as f64 / (lane.now - start).as_secs_f64();
    assert!((450.0..700.0).contains(&sent), "{sent}");
    lane.pace.refused(lane.now, lane.now, MIB, 1.0);
    assert!(lane.pace.ready_at().unwrap() <= lane.now + LONGEST_PAUSE);
    lane.pace.accepted(lane.now, lane.now, MIB, 1.0);
    assert!(lane.pace.ready_at().unwrap() <= lane.now + LONGEST_PAUSE);
}

#[test]
fn what_the_link_or_the_field_does_not_fill_is_no_reason_to_climb() {
    let mut lane = Lane::after_an_outage();
    lane.trickles(50);
    assert_eq!(lane.pace.rate(), Some(2048));
}

#[test]
fn a_lane_that_has_caught_up_has_no_limit() {
    let mut lane = Lane::after_an_outage();
    lane.sends(false);
    for _ in 0..3 {
        lane.trickles(50);
        assert!(lane.pace.rate().is_some(), "it is still refused");
        lane.pace.refused(lane.now, lane.now, 300, 0.5);
    }
    lane.trickles(62);
    assert_eq!((lane.pace.rate(), lane.pace.ready_at()), (None, None));
}

#[test]
fn a_refusal_at_first_is_made_up_for_within_seventy_seconds_where_there_is_no_crowd() {
    for reading in [1, 20_000] {
        let mut lane = Lane { reading, ..Lane::after_an_outage() };
        lane.sends(false);
        let needed = lane.needs_for(MOST);
        assert!(needed < Duration::from_secs(70), "readings of {reading} bytes: {needed:?}");
    }
}

#[test]
fn after_an_outage_a_lane_begins_with_what_it_carried_before() {
    let mut lane = Lane::without_a_limit();
    for _ in 0..60 {
        lane.now += Duration::from_secs(1);
        lane.pace.accepted(lane.now, lane.now, 20_000, 0.5);
    }
    for _ in 0..3 {
        lane.pace.begin_slowly(); // a probe that nobody answers says it again
        assert!((18_000.0..22_000.0).contains(&lane.rate()), "{}", lane.rate());
    }
    lane.sends(true);
    lane.pace.begin_slowly();
    assert_eq!(lane.pace.rate(), Some(2048), "what it carried since");

    let mut fast = Lane::without_a_limit();
    fast.is_accepted_for(Duration::from_mins(1));
    fast.pace.begin_slowly();
    assert_eq!(fast.pace.rate(), Some(64 << 10), "whatever it carried");
}

#[test]
fn where_the_rate_is_low_a_little_waits_longer_for_company() {
    let mut lane = Lane::without_a_limit();
    assert_eq!(lane.pace.company(), Duration::ZERO);
    lane.pace.begin_slowly();
    assert!((Duration::from_millis(1500)..Duration::from_millis(1600)).contains(&lane.pace.company()), "{:?}", lane.pace.company());
    lane.is_refused_for(Duration::from_mins(1));
    assert_eq!(lane.pace.company(), Duration::from_millis(2500));
    lane.needs_for(MOST);
    assert!(lane.pace.company() < Duration::from_millis(4));
}

#[test]
fn a_limit_ends_where_nothing_refuses_any_more() {
    let mut unlimited = Lane::after_an_outage();
    unlimited.is_accepted_for(Duration::from_secs(15));
    assert_eq!(unlimited.pace.rate(), None);

    let mut lane = Lane::after_an_outage();
    lane.is_accepted_for(Duration::from_secs(9));
    lane.sends(false);
    lane.is_accepted_for(Duration::from_mins(9));
    assert!(lane.pace.rate().is_some());
    lane.is_accepted_for(Duration::from_mins(30));
    assert_eq!(lane.pace.rate(), None);
}
