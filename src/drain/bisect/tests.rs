use super::*;

/// A lane of readings in front of a service.
struct Lane {
    /// Those that wait, each with whether the service calls it invalid.
    waits: Vec<(u64, bool)>,
    /// Most readings that the service takes in one record.
    at_most: u64,
    search: Option<Search>,
    accepted: u64,
    delivered: Vec<u64>,
    aside: Vec<u64>,
    requests: u64,
    waited: u64,
}

impl Lane {
    fn with(readings: u64, invalid: impl Fn(u64) -> bool) -> Self {
        Self {
            waits: (0..readings).map(|n| (n, invalid(n))).collect(),
            at_most: u64::MAX,
            search: None,
            accepted: 0,
            delivered: Vec::new(),
            aside: Vec::new(),
            requests: 0,
            waited: 0,
        }
    }

    /// One request. `refuses` says whether the service calls any record invalid now.
    fn sends(&mut self, refuses: bool) -> Option<Verdict> {
        let ask = self.search.as_ref().map_or(Ask::ALL, |search| search.ask(self.accepted));
        let record: Vec<_> = self
            .waits
            .iter()
            .skip(usize::try_from(ask.skip).unwrap())
            .take(usize::try_from(ask.most.min(1000)).unwrap())
            .copied()
            .collect();
        let readings = record.len() as u64;
        if readings == 0 {
            return self.search.as_mut().map(Search::nothing_behind);
        }
        self.requests += 1;
        if refuses || readings > self.at_most || record.iter().any(|(_, invalid)| *invalid) {
            let accepted = self.accepted;
            let search = self.search.get_or_insert_with(|| Search::new(accepted));
            let verdict = search.refused(ask, readings, accepted);
            if verdict == Verdict::AtFault {
                search.set_aside();
                self.aside.push(self.waits.remove(0).0);
            }
            if verdict == Verdict::Wait {
                search.waited();
                self.waited += 1;
            }
            return Some(verdict);
        }
        self.accepted += 1;
        self.delivered.extend(record.iter().map(|(n, _)| *n));
        if ask.skip == 0 {
            self.waits.drain(..record.len());
        }
        self.search.take_if(|search| search.accepted(ask, readings));
        None
    }

    fn drains(&mut self) {
        while !self.waits.is_empty() && self.requests < 10_000 {
            self.sends(false);
        }
    }
}

#[test]
fn one_invalid_reading_of_a_thousand_is_found_in_some_twenty_requests_and_the_others_arrive_once_in_order() {
    for invalid in [1, 2, 499, 500, 998, 999] {
        let mut lane = Lane::with(1000, |n| n == invalid);
        lane.drains();
        assert_eq!(lane.aside, [invalid]);
        assert!(lane.delivered.iter().copied().eq((0..1000).filter(|n| *n != invalid)), "{:?}", lane.delivered);
        assert!(lane.requests <= 40, "{} requests", lane.requests);
        assert_eq!(lane.waited, 0);
    }
}

#[test]
fn with_the_first_reading_invalid_the_one_behind_it_shows_that_others_are_accepted() {
    let mut lane = Lane::with(100, |n| n == 0);
    lane.drains();
    assert_eq!(lane.aside, [0]);
    // The one that was tried is sent once more in its turn, under its own name.
    assert_eq!(lane.delivered[..3], [1, 1, 2]);
    assert_eq!(lane.delivered.len(), 100);
}

#[test]
fn several_invalid_readings_in_a_row_at_the_head_are_all_found() {
    let mut lane = Lane::with(100, |n| n < 7);
    lane.drains();
    assert_eq!(lane.aside, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(lane.delivered[..2], [7, 7]);
}

#[test]
fn every_third_reading_invalid_takes_a_bounded_number_of_requests_each() {
    let mut lane = Lane::with(300, |n| n % 3 == 2);
    lane.drains();
    assert_eq!(lane.aside.len(), 100);
    assert!(lane.delivered.is_sorted() && lane.delivered.len() == 200);
    assert!(lane.requests <= 1000, "{} requests", lane.requests);
}

#[test]
fn a_service_that_refuses_everything_takes_nothing_aside_however_long_it_lasts() {
    let mut lane = Lane::with(1000, |_| false);
    for _ in 0..1000 {
        lane.sends(true);
    }
    while lane.sends(true) != Some(Verdict::Wait) {}
    assert!(lane.aside.is_empty() && lane.waits.len() == 1000);
    assert!(lane.waited >= 150, "it waits after every few requests: {}", lane.waited);

    lane.drains();
    assert!(lane.delivered.iter().copied().eq(0..1000), "and then everything goes, once and in order");
}

#[test]
fn a_service_that_is_mended_in_the_middle_of_a_search_takes_nothing_aside() {
    for requests in 0..60 {
        let mut lane = Lane::with(100, |_| false);
        (0..requests).for_each(|_| {
            lane.sends(true);
        });
        lane.drains();
        assert!(lane.aside.is_empty(), "mended after {requests}: {:?}", lane.aside);
        let mut once = lane.delivered.clone();
        once.sort_unstable();
        once.dedup();
        assert!(once.iter().copied().eq(0..100));
        assert!(lane.delivered.len() <= 101);
    }
}

#[test]
fn a_service_that_refuses_only_large_records_takes_nothing_aside() {
    let mut lane = Lane { at_most: 30, ..Lane::with(1000, |_| false) };
    lane.drains();
    assert!(lane.aside.is_empty());
    assert!(lane.delivered.iter().copied().eq(0..1000));
}

#[test]
fn a_reading_alone_in_its_stream_waits_for_another_one() {
    let mut lane = Lane::with(1, |_| true);
    (0..100).for_each(|_| {
        lane.sends(false);
    });
    assert!(lane.aside.is_empty());
    lane.waits.push((1, false));
    lane.drains();
    assert_eq!(lane.aside, [0]);
}

#[test]
fn what_was_accepted_before_a_bisection_began_says_nothing() {
    let mut lane = Lane::with(1, |_| false);
    lane.drains();
    lane.waits = vec![(1, false), (2, false)];
    (0..100).for_each(|_| {
        lane.sends(true);
    });
    assert!(lane.aside.is_empty());
}

#[test]
fn a_service_that_calls_requests_invalid_at_random_takes_hardly_anything() {
    let mut random = 1_u64;
    let mut refuses = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33).is_multiple_of(20)
    };
    let mut aside = 0;
    for _ in 0..20_000 {
        let mut lane = Lane::with(3, |_| false);
        while !lane.waits.is_empty() {
            lane.sends(refuses());
        }
        aside += lane.aside.len();
    }
    assert!(aside <= 2, "{aside} of 60,000");
}
