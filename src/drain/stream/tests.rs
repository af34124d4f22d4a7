use super::*;
use crate::buffer::{LaneId, Layout};

const A_LOT: Waiting = Waiting { readings: 100_000, bytes: 10 << 20, since: None, expected: false };
const NOTHING: Waiting = Waiting { readings: 0, bytes: 0, since: None, expected: false };
const LINGER: Duration = Duration::from_millis(250);

fn stream(lanes: u16) -> Stream {
    let lane = |number| {
        let layout = Layout {
            stream: "s".into(),
            number,
            of: lanes,
            partition_key: format!("d/s/{number}"),
            hash_key: None,
            template: None,
        };
        LaneDrain::new(Lane { id: LaneId(u32::from(number)), layout }, false)
    };
    Stream::new("s", "target", 0, LINGER, (0..lanes).map(lane).collect())
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
    assert_eq!(stream.next(now, |_| NOTHING, 1 << 20, false), Next::Idle);
    assert_eq!(stream.next(now, a_little, 1 << 20, false), Next::Wait(now + LINGER));
    assert_eq!(lanes_of(stream.next(now + LINGER, a_little, 1 << 20, false)), [0]);
    assert_eq!(lanes_of(stream.next(now, a_little, 1 << 20, true)), [0], "unless there is no time left");
    assert_eq!(lanes_of(stream.next(now, a_little, 99, false)), [0], "or it fills a request");
}

#[test]
fn a_backlog_goes_at_once_in_records_as_large_as_they_may_be() {
    let (mut stream, now) = (stream(2), Instant::now());
    assert_eq!(stream.next(now, |_| A_LOT, 1 << 20, false), Next::Send(vec![(0, 1 << 19), (1, 1 << 19)]));
    let only_the_first = |lane: &Lane| if lane.id.0 == 0 { A_LOT } else { NOTHING };
    assert_eq!(stream.next(now, only_the_first, 1 << 20, false), Next::Send(vec![(0, OUR_MAX_RECORD.as_len())]));
}

#[test]
fn lanes_take_turns_when_a_request_has_no_room_for_all() {
    let (mut stream, now) = (stream(5), Instant::now());
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 8 << 10, false)), [0, 1]);
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 8 << 10, false)), [2, 3]);
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 8 << 10, false)), [4, 0]);
}

#[test]
fn a_full_shard_slows_down_its_own_lane_only() {
    let (mut stream, now) = (stream(2), Instant::now());
    stream.lanes[0].settle(now, now, 1 << 20, Fate::Throttled, 0.5);
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [1]);
    let later = now + Duration::from_secs(1);
    assert_eq!(lanes_of(stream.next(later, |_| A_LOT, 1 << 20, false)), [0, 1]);
}

#[test]
fn an_older_layout_drains_before_todays() {
    let (mut stream, now) = (stream(2), Instant::now());
    stream.lanes[1].older = true;
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [1]);
    let drained = |lane: &Lane| if lane.id.0 == 1 { NOTHING } else { A_LOT };
    assert_eq!(lanes_of(stream.next(now, drained, 1 << 20, false)), [0]);
}

#[test]
fn todays_lanes_wait_for_what_is_still_to_come_from_a_damaged_file() {
    let (mut stream, now) = (stream(2), Instant::now());
    stream.lanes[1].older = true;
    let to_come = |lane: &Lane| if lane.id.0 == 1 { Waiting { expected: true, ..NOTHING } } else { A_LOT };
    assert!(matches!(stream.next(now, to_come, 1 << 20, false), Next::Idle));
}

/// A service that calls every record of lane `bad` invalid, and with it the whole request.
fn asks(stream: &mut Stream, now: Instant, bad: usize) -> (Vec<usize>, Then) {
    let lanes = lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false));
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
        match stream.next(now, |_| A_LOT, 1 << 20, false) {
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
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [0]);
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [1]);
}

#[test]
fn refused_credentials_are_tried_once_more_at_once_and_then_every_minute() {
    let (mut stream, now) = (stream(1), Instant::now());
    let record = [(0, Ask::ALL, 10)];
    assert_eq!(stream.failed(now, Class::Credentials, &record, 1.0), Then::GoOn);
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [0]);
    assert_eq!(stream.failed(now, Class::Credentials, &record, 1.0), Then::Tell);
    assert_eq!(stream.next(now, |_| A_LOT, 1 << 20, false), Next::Wait(now + Duration::from_mins(1)));
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
        let sent = lanes_of(stream.next(now, without(first), 1 << 20, false));
        assert_eq!(sent, [usize::try_from(first).unwrap()]);
    }
}
