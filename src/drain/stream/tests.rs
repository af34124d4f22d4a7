use super::*;
use crate::buffer::{LaneId, Layout};

const A_LOT: Waiting = Waiting { readings: 100_000, bytes: 10 << 20, since: None, expected: false };
const NOTHING: Waiting = Waiting { readings: 0, bytes: 0, since: None, expected: false };
const LINGER: Duration = Duration::from_millis(250);

fn stream(lanes: u16) -> Stream {
    stream_that_drains(DrainOrder::OldestFirst, lanes)
}

fn stream_that_drains(order: DrainOrder, lanes: u16) -> Stream {
    let mut stream = Stream::new("s", "target", 0, LINGER, order, 0);
    for number in 0..lanes {
        let layout = Layout {
            stream: "s".into(),
            number,
            of: lanes,
            partition_key: format!("d/s/{number}"),
            hash_key: None,
            template: None,
        };
        stream.add(Lane { id: LaneId(u32::from(number)), layout }, false);
    }
    stream
}

/// The lane with this number begins another part, which has the identifier `part`.
fn begins_part(stream: &mut Stream, now: Instant, lane: usize, part: u32) {
    let layout = stream.lanes[lane].lane.layout.clone();
    stream.begin_part(now, lane, Lane { id: LaneId(part), layout });
}

fn lanes_of(next: Next) -> Vec<usize> {
    match next {
        Next::Send(lanes) => lanes.into_iter().map(|(lane, _)| lane).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trickle_waits_for_company_and_no_longer_than_its_linger() {
    let (mut stream, now) = (stream(1), Instant::now());
    let a_little = |_: &Lane| Waiting { readings: 1, bytes: 100, since: Some(now), expected: false };
    assert_eq!(stream.next(now, Train::Backlog, |_| NOTHING, 1 << 20, false), Next::Idle);
    assert_eq!(stream.next(now, Train::Backlog, a_little, 1 << 20, false), Next::Wait(now + LINGER));
    assert_eq!(lanes_of(stream.next(now + LINGER, Train::Backlog, a_little, 1 << 20, false)), [0]);
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, a_little, 1 << 20, true)), [0], "unless there is no time left");
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, a_little, 99, false)), [0], "or it fills a request");
}

#[test]
fn a_backlog_goes_at_once_in_records_as_large_as_they_may_be() {
    let (mut stream, now) = (stream(2), Instant::now());
    assert_eq!(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false), Next::Send(vec![(0, 1 << 19), (1, 1 << 19)]));
    let only_the_first = |lane: &Lane| if lane.id.0 == 0 { A_LOT } else { NOTHING };
    assert_eq!(stream.next(now, Train::Backlog, only_the_first, 1 << 20, false), Next::Send(vec![(0, OUR_MAX_RECORD.as_len())]));
}

#[test]
fn lanes_take_turns_when_a_request_has_no_room_for_all() {
    let (mut stream, now) = (stream(5), Instant::now());
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 8 << 10, false)), [0, 1]);
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 8 << 10, false)), [2, 3]);
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 8 << 10, false)), [4, 0]);
}

#[test]
fn a_full_shard_slows_down_its_own_lane_only() {
    let (mut stream, now) = (stream(2), Instant::now());
    stream.settle(0, now, now, 1 << 20, Fate::Throttled, 0.5);
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false)), [1]);
    let later = now + Duration::from_secs(2);
    assert_eq!(lanes_of(stream.next(later, Train::Backlog, |_| A_LOT, 1 << 20, false)), [0, 1]);
}

#[test]
fn an_older_layout_drains_before_todays() {
    let (mut stream, now) = (stream(2), Instant::now());
    stream.lanes[1].older = true;
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false)), [1]);
    let drained = |lane: &Lane| if lane.id.0 == 1 { NOTHING } else { A_LOT };
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, drained, 1 << 20, false)), [0]);
}

#[test]
fn todays_lanes_wait_for_what_is_still_to_come_from_a_damaged_file() {
    let (mut stream, now) = (stream(2), Instant::now());
    stream.lanes[1].older = true;
    let to_come = |lane: &Lane| if lane.id.0 == 1 { Waiting { expected: true, ..NOTHING } } else { A_LOT };
    assert!(matches!(stream.next(now, Train::Backlog, to_come, 1 << 20, false), Next::Idle));
}

/// A service that calls every record of lane `bad` invalid, and with it the whole request.
fn asks(stream: &mut Stream, now: Instant, bad: usize) -> (Vec<usize>, Then) {
    let lanes = lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false));
    let records: Vec<_> = lanes.iter().map(|lane| (*lane, stream.ask(*lane), stream.ask(*lane).most.min(100))).collect();
    if lanes.contains(&bad) {
        let then = stream.failed(now, Class::Invalid, &records, 1.0);
        return (lanes, then);
    }
    stream.answered();
    records.iter().for_each(|(lane, asked, readings)| stream.accepted(*lane, *asked, *readings));
    (lanes, Then::GoOn)
}

#[test]
fn an_invalid_request_is_halved_until_the_lane_at_fault_stands_alone_and_the_others_go_on() {
    for bad in 0..4 {
        let (mut stream, now) = (stream(4), Instant::now());
        let requests: Vec<_> = (0..60).map(|_| asks(&mut stream, now, bad)).collect();
        assert_eq!(requests[0].0, [0, 1, 2, 3]);
        let with_the_bad_one: Vec<_> = requests.iter().filter(|(lanes, _)| lanes.contains(&bad)).collect();
        assert_eq!(with_the_bad_one[1].0.len(), 2);
        assert!(with_the_bad_one[2..].iter().all(|(lanes, _)| *lanes == [bad]), "once alone it stays alone");
        let others = requests.iter().filter(|(lanes, _)| !lanes.contains(&bad)).count();
        assert!(others > 20, "{requests:?}");
        assert!(
            requests.iter().any(|(_, then)| *then == Then::SetAside(bad)),
            "others were accepted, so it is at fault: {requests:?}"
        );
    }
}

#[test]
fn while_everything_is_called_invalid_the_stream_waits_longer_and_longer_and_sets_nothing_aside() {
    let (mut stream, mut now, mut told, mut requests) = (stream(3), Instant::now(), 0, 0);
    let end = now + Duration::from_hours(1);
    while now < end {
        match stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false) {
            Next::Send(lanes) => {
                let records: Vec<_> =
                    lanes.iter().map(|(lane, _)| (*lane, stream.ask(*lane), stream.ask(*lane).most.min(100))).collect();
                let then = stream.failed(now, Class::Invalid, &records, 1.0);
                assert!(!matches!(then, Then::SetAside(_)));
                told += usize::from(then == Then::Tell);
                requests += 1;
            }
            Next::Wait(at) => now = at,
            Next::Idle => panic!("there is a lot"),
        }
    }
    assert!((60..80).contains(&told), "about once a minute: {told}");
    assert!(requests < 500, "{requests}");
}

#[test]
fn a_record_that_is_called_invalid_beside_others_that_are_accepted_is_looked_into_alone() {
    let (mut stream, now) = (stream(2), Instant::now());
    let ask = stream.ask(0);
    stream.accepted(1, ask, 10);
    assert_eq!(stream.invalid(now, 0, ask, 10, 1.0), Then::GoOn);
    assert_eq!(stream.ask(0), Ask { skip: 0, most: 5 });
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false)), [0]);
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false)), [1]);
}

#[test]
fn refused_credentials_are_tried_once_more_at_once_and_then_every_minute() {
    let (mut stream, now) = (stream(1), Instant::now());
    let record = [(0, Ask::ALL, 10)];
    assert_eq!(stream.failed(now, Class::Credentials, &record, 1.0), Then::GoOn);
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false)), [0]);
    assert_eq!(stream.failed(now, Class::Credentials, &record, 1.0), Then::Tell);
    assert_eq!(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false), Next::Wait(now + Duration::from_mins(1)));
}

#[test]
fn of_two_older_layouts_the_one_that_was_made_first_drains_first() {
    let (mut stream, now) = (stream(3), Instant::now());
    for (drain, of) in stream.lanes.iter_mut().zip([8, 4]) {
        drain.older = true;
        drain.lane.layout.of = of;
    }
    let without = |drained: u32| move |lane: &Lane| if lane.id.0 < drained { NOTHING } else { A_LOT };
    for first in 0..3 {
        let sent = lanes_of(stream.next(now, Train::Backlog, without(first), 1 << 20, false));
        assert_eq!(sent, [usize::try_from(first).unwrap()]);
    }
}

#[test]
fn what_is_live_and_what_has_waited_travel_side_by_side() {
    let (mut stream, now) = (stream_that_drains(DrainOrder::LiveFirst, 1), Instant::now());
    assert_eq!(
        stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false),
        Next::Idle,
        "all of it is live as long as it is not behind"
    );
    begins_part(&mut stream, now, 0, 7);
    let a_little =
        |lane: &Lane| if lane.id.0 == 7 { Waiting { readings: 1, bytes: 100, since: Some(now), expected: false } } else { A_LOT };

    assert_eq!(lanes_of(stream.next(now, Train::Backlog, a_little, 1 << 20, false)), [0]);
    assert_eq!(stream.next(now, Train::Live, a_little, 1 << 20, false), Next::Wait(now + LINGER));
    assert_eq!(stream.next(now + LINGER, Train::Live, a_little, 1 << 20, false), Next::Send(vec![(1, OUR_MAX_RECORD.as_len())]));
    let drained = |lane: &Lane| if lane.id.0 == 7 { A_LOT } else { NOTHING };
    assert_eq!(stream.next(now, Train::Backlog, drained, 1 << 20, false), Next::Idle);
}

#[test]
fn a_lane_is_behind_when_more_waits_than_its_next_record_carries_and_has_for_a_while() {
    let (mut stream, now) = (stream_that_drains(DrainOrder::LiveFirst, 1), Instant::now());
    let wait = |bytes, ago| move |_: &Lane| Waiting { readings: 1, bytes, since: now.checked_sub(ago), expected: false };
    let long = BEHIND + Duration::from_millis(1);
    assert_eq!(stream.behind(now, wait(1001, long), 1000), [0]);
    assert!(stream.behind(now, wait(1000, long), 1000).is_empty(), "the next record carries all of it");
    assert!(stream.behind(now, wait(1001, BEHIND / 2), 1000).is_empty(), "it came just now");
    assert_eq!(stream.behind(now, |_| A_LOT, 1000), [0], "what is on the disk alone has waited");
    stream.set_busy(Train::Live, true);
    assert!(stream.behind(now, |_| A_LOT, 1000).is_empty(), "what is on its way may be all of it");
    assert!(self::stream(1).behind(now, |_| A_LOT, 1000).is_empty(), "only live-first knows it");
}

#[test]
fn a_link_that_does_not_carry_what_arrives_cuts_a_lane_ever_more_seldom() {
    let (mut stream, start) = (stream_that_drains(DrainOrder::LiveFirst, 1), Instant::now());
    let mut parts = 0;
    for second in 0..3600 {
        let now = start + Duration::from_secs(second);
        if let [lane] = stream.behind(now, |_| A_LOT, 1000)[..] {
            parts += 1;
            begins_part(&mut stream, now, lane, parts);
        }
    }
    assert!((50..70).contains(&parts), "{parts}");
    let now = start + Duration::from_hours(1);
    begins_part(&mut stream, now, parts as usize, parts + 1);
    assert!(stream.behind(now, |_| A_LOT, 1000).is_empty());
    stream.was_away();
    assert_eq!(stream.behind(now, |_| A_LOT, 1000).len(), 1, "after an outage at once");
}

#[test]
fn of_the_parts_of_a_lane_the_oldest_drains_first_and_lanes_drain_beside_each_other() {
    let (mut stream, now) = (stream_that_drains(DrainOrder::LiveFirst, 2), Instant::now());
    begins_part(&mut stream, now, 0, 10);
    begins_part(&mut stream, now, 1, 11);
    begins_part(&mut stream, now, 2, 12);
    let waits = |ids: &'static [u32]| move |lane: &Lane| if ids.contains(&lane.id.0) { A_LOT } else { NOTHING };
    let mut sent = |ids| {
        let mut lanes = lanes_of(stream.next(now, Train::Backlog, waits(ids), 1 << 20, false));
        lanes.sort_unstable();
        lanes
    };

    assert_eq!(sent(&[0, 1, 10, 11, 12]), [0, 1]);
    assert_eq!(sent(&[1, 10, 11, 12]), [1, 2], "the second part of the first lane, beside the second lane");
    assert_eq!(sent(&[10, 11, 12]), [2]);

    // The first part is empty, and the next to begin.
    begins_part(&mut stream, now, 4, 0);
    assert_eq!(lanes_of(stream.next(now, Train::Live, waits(&[0, 10, 11, 12]), 1 << 20, true)), [3, 0]);
    let backlog = lanes_of(stream.next(now, Train::Backlog, waits(&[0, 10, 12]), 1 << 20, false));
    assert_eq!(backlog, [2], "and the third waits for the second");
}

#[test]
fn all_parts_of_a_lane_keep_to_the_rate_of_their_shard() {
    let (mut stream, now) = (stream_that_drains(DrainOrder::LiveFirst, 1), Instant::now());
    begins_part(&mut stream, now, 0, 1);
    stream.settle(0, now, now, 1 << 20, Fate::Throttled, 0.5);
    for train in Train::ALL {
        assert!(matches!(stream.next(now, train, |_| A_LOT, 1 << 20, false), Next::Wait(at) if at > now), "{train:?}");
    }
}

#[test]
fn while_its_rate_is_low_what_is_live_gathers_longer_than_its_linger() {
    let (mut stream, now) = (stream_that_drains(DrainOrder::LiveFirst, 1), Instant::now());
    let a_little = |_: &Lane| Waiting { readings: 1, bytes: 100, since: Some(now), expected: false };
    stream.begin_slowly();
    let Next::Wait(until) = stream.next(now, Train::Live, a_little, 1 << 20, false) else { panic!("it waits for company") };
    assert!((Duration::from_millis(1500)..Duration::from_millis(1600)).contains(&(until - now)), "{:?}", until - now);
    assert_eq!(lanes_of(stream.next(now, Train::Live, a_little, 1 << 20, true)), [0], "unless there is no time left");
}

#[test]
fn an_older_layout_drains_beside_what_is_live() {
    let (mut stream, now) = (stream_that_drains(DrainOrder::LiveFirst, 2), Instant::now());
    stream.lanes[0].older = true;
    assert_eq!(lanes_of(stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false)), [0]);
    assert_eq!(lanes_of(stream.next(now, Train::Live, |_| A_LOT, 1 << 20, false)), [1]);
}

#[test]
fn a_layout_that_came_back_waits_for_the_one_between() {
    let (mut stream, now) = (stream(4), Instant::now());
    for (drain, of) in stream.lanes.iter_mut().zip([4, 2, 4]) {
        drain.older = true;
        drain.lane.layout.of = of;
    }
    let without = |drained: u32| move |lane: &Lane| if lane.id.0 < drained { NOTHING } else { A_LOT };
    for first in 0..4 {
        let sent = lanes_of(stream.next(now, Train::Backlog, without(first), 1 << 20, false));
        assert_eq!(sent, [usize::try_from(first).unwrap()]);
    }
}

#[test]
fn what_needs_a_person_is_asked_about_once_a_minute() {
    let (mut stream, start) = (stream(1), Instant::now());
    let (mut now, mut requests) = (start, 0);
    while now < start + Duration::from_hours(1) {
        match stream.next(now, Train::Backlog, |_| A_LOT, 1 << 20, false) {
            Next::Send(_) => {
                requests += 1;
                assert_eq!(stream.failed(now, Class::Held, &[(0, Ask::ALL, 1)], 0.0), Then::Tell);
            }
            Next::Wait(until) => now = until,
            Next::Idle => panic!("something waits"),
        }
    }
    assert_eq!(requests, 80);
}

#[test]
fn that_readings_cannot_be_read_stands_until_those_very_readings_can_be() {
    let mut stream = stream(2);
    assert!(stream.could_be_read(&[0, 1], &[]));
    assert!(!stream.could_be_read(&[0, 1], &[1]));
    for _ in 0..3 {
        assert!(!stream.could_be_read(&[0], &[]), "what another lane has says nothing of them");
        assert!(!stream.could_be_read(&[1], &[1]));
    }
    assert!(stream.could_be_read(&[1], &[]));
}
