//! What can go wrong on the way to Kinesis and at Kinesis, on command or at random.
//!
//! Pure: the same commands and the same seed give the same faults.

use std::{collections::VecDeque, time::Duration};

use crate::random::Random;

/// What happens to one put request instead of a proper answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 500 `InternalFailure`; nothing is stored.
    InternalFailure,
    /// 400 `AccessDeniedException`; nothing is stored.
    AccessDenied,
    /// 400 `ResourceNotFoundException`, as if the stream were gone; nothing is stored.
    ResourceNotFound,
    /// 400 `ExpiredTokenException`; nothing is stored.
    ExpiredToken,
    /// 400 `ValidationException` for the whole request; nothing is stored.
    Validation,
    /// 400 with any other code, such as `ThrottlingException`; nothing is stored.
    Code(&'static str),
    /// A proxy's 502 page in HTML; nothing is stored.
    BadGateway,
    /// 503 with an empty body; nothing is stored.
    Unavailable,
    /// A page in HTML with this status, 200 included, as a hotel's log-in or a proxy sends it; nothing is stored.
    Page(u16),
    /// 413 with an empty body for requests of more than so many bytes, as a proxy sends it; others pass.
    TooLargeBeyond(usize),
    /// 200 with a body that is no JSON; nothing is stored.
    Garbage,
    /// 200 with an error of the service inside; nothing is stored.
    ErrorInside,
    /// 200 and the first half of the right answer, then the connection closes; the records are stored.
    HalfAnAnswer,
    /// 200 that says "all accepted", with one entry more than there were records; nothing is stored.
    TooManyRecords,
    /// 200 and a body without an end; nothing is stored.
    Endless,
    /// 200 and a body of one byte every tenth of a second; nothing is stored.
    Trickle,
    /// 200 and a body in gzip, which nobody asked for; nothing is stored.
    Gzip,
    /// The request is read, and no answer ever comes; nothing is stored.
    Never,
    /// 200 that says "all accepted", with one entry less than there were records; nothing is stored, so whoever believes it loses
    /// readings.
    TooFewRecords,
    /// 200 in which every n-th record is refused with `ProvisionedThroughputExceededException`, from the first one on; the others
    /// are stored. 0 refuses none.
    RefuseEvery(usize),
    /// The records are stored, then the connection closes without an answer: the sender can't know.
    StoreThenClose,
    /// The connection closes without an answer; nothing is stored. To the sender it looks like [`Self::StoreThenClose`].
    CloseBeforeStore,
}

/// The faults that are still to happen.
#[derive(Debug, Default)]
pub struct Faults {
    next: VecDeque<Failure>,
    always: Option<Failure>,
    /// Records that contain this are invalid.
    poison: Option<Vec<u8>>,
    /// They are refused one by one, and not the whole request.
    one_by_one: bool,
    /// What every DescribeStreamSummary is refused with.
    describe: Option<&'static str>,
    /// An access key, and what every request that it signed is refused with.
    key: Option<(String, &'static str)>,
    random: Option<(f64, Random)>,
}

impl Faults {
    /// The next `n` puts that are not spoken for will fail as `failure` says.
    pub fn fail_next(&mut self, n: usize, failure: Failure) {
        self.next.extend(std::iter::repeat_n(failure, n));
    }

    /// Those that were asked for and did not happen do not happen any more; says how many those are.
    pub fn call_off(&mut self) -> usize {
        std::mem::take(&mut self.next).len()
    }

    /// From now on each record is refused with `InternalFailure` at a chance of `percent`; 0 ends it.
    pub fn refuse_at_random(&mut self, percent: f64, seed: u64) {
        self.random = (percent > 0.0).then(|| (percent / 100.0, Random::new(seed)));
    }

    /// Every put that is not spoken for fails as `failure` says; none ends that.
    pub fn fail_always(&mut self, failure: Option<Failure>) {
        self.always = failure;
    }

    /// Records that contain these bytes are refused as invalid, `one_by_one` or with all of their request; none ends that.
    pub fn poison(&mut self, bytes: Option<Vec<u8>>, one_by_one: bool) {
        self.poison = bytes.filter(|bytes| !bytes.is_empty());
        self.one_by_one = one_by_one;
    }

    /// The places of the records that are invalid by command, and whether they are refused one by one.
    pub fn poisoned<'a>(&self, records: impl Iterator<Item = &'a [u8]>) -> (Vec<usize>, bool) {
        let Some(poison) = self.poison.as_deref() else { return (Vec::new(), false) };
        let contains = |data: &[u8]| data.windows(poison.len()).any(|window| window == poison);
        (records.enumerate().filter(|(_, data)| contains(data)).map(|(place, _)| place).collect(), self.one_by_one)
    }

    /// From now on DescribeStreamSummary is refused with this code; none ends that.
    pub fn refuse_describe(&mut self, code: Option<&'static str>) {
        self.describe = code;
    }

    /// What the DescribeStreamSummary that has just arrived is refused with.
    pub fn for_describe(&self) -> Option<&'static str> {
        self.describe
    }

    /// From now on requests that this access key signed are refused with this code; none ends that.
    pub fn refuse_key(&mut self, refused: Option<(String, &'static str)>) {
        self.key = refused;
    }

    /// What a request that `key` signed is refused with.
    pub fn for_key(&self, key: &str) -> Option<&'static str> {
        self.key.as_ref().filter(|(refused, _)| refused == key).map(|(_, code)| *code)
    }

    /// What happens to the put that has just arrived.
    pub fn for_put(&mut self) -> Option<Failure> {
        self.next.pop_front().or(self.always)
    }

    /// Whether the next record is one of the unlucky ones.
    pub fn refuses_record(&mut self) -> bool {
        self.random.as_mut().is_some_and(|(chance, random)| random.fraction() < *chance)
    }
}

/// How quickly bytes come through. All connections share the line, as they do on a gateway's uplink.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Time that a byte travels, one way.
    pub one_way: Duration,
    /// Bytes a second, towards the endpoint; none: as fast as they come.
    pub bytes_per_second: Option<u64>,
    busy_until: Duration,
}

impl Pace {
    /// `round_trip` between the first byte sent and the first byte back, `bytes_per_second` up.
    pub fn new(round_trip: Duration, bytes_per_second: Option<u64>) -> Self {
        Self { one_way: round_trip / 2, bytes_per_second, busy_until: Duration::ZERO }
    }

    /// When a request of `bytes` that set out at `now` has arrived, behind those that set out before it.
    pub fn arrival(&mut self, now: Duration, bytes: u64) -> Duration {
        let free_from = self.busy_until.max(now);
        #[expect(clippy::cast_precision_loss, reason = "requests are far below 2^53 bytes")]
        let transfer = self.bytes_per_second.map(|rate| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        self.busy_until = free_from + transfer.unwrap_or_default();
        self.busy_until + self.one_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_in_the_order_in_which_they_were_asked_for_and_then_end() {
        let mut faults = Faults::default();
        faults.fail_next(2, Failure::AccessDenied);
        faults.fail_next(1, Failure::Garbage);

        let seen: Vec<_> = std::iter::from_fn(|| faults.for_put()).collect();

        assert_eq!(seen, [Failure::AccessDenied, Failure::AccessDenied, Failure::Garbage]);
    }

    #[test]
    fn two_percent_refused_at_random_are_about_two_percent_and_the_same_ones_each_time() {
        let run = || {
            let mut faults = Faults::default();
            faults.refuse_at_random(2.0, 42);
            (0..10_000).filter(|_| faults.refuses_record()).collect::<Vec<u32>>()
        };

        assert_eq!(run(), run());
        assert!((150..250).contains(&run().len()), "{} of 10,000", run().len());
    }

    #[test]
    fn requests_share_the_line_one_after_the_other() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, Some(1000));

        let first = pace.arrival(second, 2000);
        let second_one = pace.arrival(second, 1000);

        assert_eq!((first, second_one), (Duration::from_millis(3500), Duration::from_millis(4500)));
    }
}
