use super::*;
use crate::buffer::{LaneId, Layout};

const A_LOT: Waiting = Waiting { readings: 100_000, bytes: 10 << 20, since: None };
const NOTHING: Waiting = Waiting { readings: 0, bytes: 0, since: None };
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
    let a_little = |_: &Lane| Waiting { readings: 1, bytes: 100, since: Some(now) };
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
fn an_invalid_request_is_split_until_its_record_stands_alone_and_the_others_go_on() {
    let (mut stream, now) = (stream(4), Instant::now());
    assert!(!stream.failed(now, Class::Invalid, &[0, 1, 2, 3], 0.0));
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [0, 1]);
    assert!(!stream.failed(now, Class::Invalid, &[0, 1], 0.0));
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [2]);
    stream.answered();
    assert!(stream.failed(now, Class::Invalid, &[0], 0.0), "a person has to look");
    let later = now + Duration::from_secs(1);
    assert!(!lanes_of(stream.next(later, |_| A_LOT, 1 << 20, false)).contains(&0));
    let much_later = now + Duration::from_secs(61);
    stream.answered();
    stream.answered();
    assert!(lanes_of(stream.next(much_later, |_| A_LOT, 1 << 20, false)).contains(&0));
}

#[test]
fn refused_credentials_are_tried_once_more_at_once_and_then_every_minute() {
    let (mut stream, now) = (stream(1), Instant::now());
    assert!(!stream.failed(now, Class::Credentials, &[0], 1.0));
    assert_eq!(lanes_of(stream.next(now, |_| A_LOT, 1 << 20, false)), [0]);
    assert!(stream.failed(now, Class::Credentials, &[0], 1.0));
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
