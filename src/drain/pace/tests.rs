use super::*;

const RTT: Duration = Duration::from_millis(100);
const MIB: usize = 1 << 20;

/// A lane that always has something to send, and its shard.
struct Lane {
    pace: Pace,
    now: Instant,
}

impl Lane {
    fn new(pace: Pace) -> Self {
        Self { pace, now: Instant::now() }
    }

    fn after_an_outage() -> Self {
        let mut lane = Self::new(Pace::default());
        lane.pace.begin_slowly();
        lane
    }

    /// Sends the next record as soon as it may; says how large it was.
    fn sends(&mut self, accepted: bool) -> usize {
        let sent = self.pace.ready_at().map_or(self.now, |at| at.max(self.now));
        let bytes = self.pace.record_bytes().min(MIB);
        self.now = sent + RTT;
        if accepted {
            self.pace.accepted(sent, self.now, bytes, 0.5);
        } else {
            self.pace.refused(sent, self.now, bytes, 0.5);
        }
        bytes
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
    assert_eq!((lane.pace.rate(), lane.sends(true)), (Some(2048), 1536));
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
    let mut lane = Lane::new(Pace::default());
    for _ in 0..100 {
        let sent = lane.now;
        lane.now += Duration::from_secs(1);
        lane.pace.accepted(sent, lane.now, 200_000, 0.5);
    }
    lane.pace.refused(lane.now, lane.now, 200_000, 0.5);
    assert!((80_000.0..200_000.0).contains(&lane.rate()), "{}", lane.rate());
}

#[test]
fn a_rate_falls_once_a_round_trip_and_climbs_slowly() {
    let mut lane = Lane::after_an_outage();
    lane.is_accepted_for(Duration::from_secs(6));
    lane.sends(false);
    let (sent, before) = (lane.now, lane.rate());
    let known_before = lane.pace.rate();
    lane.pace.refused(sent.checked_sub(RTT).unwrap(), lane.now, 1000, 0.5);
    assert_eq!(lane.pace.rate(), known_before, "it was sent before the first refusal was known");
    lane.now += RTT;
    lane.pace.refused(sent, lane.now, 1000, 0.5);
    let fallen = lane.rate();
    assert!((fallen / before - 0.5).abs() < 0.01, "{before} {fallen}: the crowd is new");
    let climb = |lane: &mut Lane| {
        let (rate, start) = (lane.rate(), lane.now);
        lane.is_accepted_for(Duration::from_secs(10));
        (lane.rate() / rate - 1.0) / (lane.now - start).as_secs_f64()
    };
    let early = climb(&mut lane);
    assert!((0.01..0.05).contains(&early), "{early}");
    for _ in 0..40 {
        lane.is_accepted_for(Duration::from_secs(150));
        lane.sends(false);
    }
    let before = lane.rate();
    lane.sends(false);
    assert!((lane.rate() / before - 0.8).abs() < 0.01, "{before} {}", lane.rate());
    let settled = climb(&mut lane);
    assert!((0.0003..0.0008).contains(&settled), "{settled}");
    lane.is_accepted_for(Duration::from_mins(2));
    let patient = climb(&mut lane);
    assert!(patient > 2.0 * settled, "{patient}: nobody refuses it any more");
}

#[test]
fn a_lane_sends_no_faster_than_its_rate_and_never_stops() {
    let mut lane = Lane::after_an_outage();
    lane.sends(false);
    for _ in 0..100 {
        lane.sends(false);
    }
    assert_eq!((lane.pace.rate(), lane.pace.record_bytes()), (Some(512), 1536));
    let start = lane.now;
    let sent = lane.is_accepted_for(Duration::from_mins(3)) as f64 / (lane.now - start).as_secs_f64();
    assert!((120.0..800.0).contains(&sent), "{sent}");
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
fn a_refusal_at_first_is_soon_made_up_for_where_there_is_no_crowd() {
    let mut lane = Lane::after_an_outage();
    lane.sends(false);
    lane.is_accepted_for(Duration::from_mins(1));
    assert!(lane.rate() >= MOST, "{}", lane.rate());
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
