//! Whether a stream may get aggregates: pure, with time and randomness as arguments.
//!
//! A stream with service-managed record distribution takes an aggregate without a word and puts it into any shard, and a consumer on KCL
//! then drops it without a word. Only DescribeStreamSummary tells; and the answers to puts do, once a lane's records come back into a
//! shard that they had left, as no split or merge can make them.
//!
//! Nothing goes out before the first answer: aggregates might get lost, and single readings might lose their order.
//!
//! Invariant: aggregates go out only while the service's last word on the stream allows them, or the configuration does, or we may not
//! ask and nothing speaks against it.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use crate::{backoff::Backoff, config::Aggregation, kinesis};

/// While readings flow, it is asked this often; for some a little earlier, so that gateways that started together do not ask together.
const EVERY: Duration = Duration::from_mins(5);
/// When nothing was sent for so long, it is asked before anything is.
const STALE: Duration = Duration::from_mins(10);
/// Longest wait before a question that brought no answer is asked again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// After so many questions that the service answers without saying it, readings go one by one: their order is the smaller loss.
const SILENT: u32 = 5;
/// So many shards that a lane has left are remembered.
const REMEMBERED: usize = 8;
/// A lane that changed its shard so often gives reason to ask.
const RESTLESS: u32 = 3;

/// What is known of how one stream distributes records.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    setting: Aggregation,
    belief: Belief,
    /// When that was heard; none before the first answer.
    heard: Option<Instant>,
    asking: bool,
    /// Not before this is it asked again.
    ask_at: Option<Instant>,
    backoff: Backoff,
    /// Questions in a row that the service answered without saying it.
    silent: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// It was not told yet.
    Unknown,
    ByKey,
    ByService,
    /// We may not ask.
    Untold,
    /// A lane came back into a shard that it had left.
    Seen,
}

/// What to do before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send. `ask` as well, if it is set.
    Send { ask: bool },
    /// Ask first.
    Ask,
    /// Not yet: until this time, or until the answer that is on its way.
    Wait(Option<Instant>),
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Is(kinesis::Distribution),
    /// We may not ask.
    Denied,
    /// The service answers, and does not say it.
    Nothing,
    /// No word from the service, or one that puts get too.
    Failed,
}

impl Distribution {
    pub(super) fn new(setting: Aggregation) -> Self {
        Self {
            setting,
            belief: Belief::Unknown,
            heard: None,
            asking: false,
            ask_at: None,
            backoff: Backoff::up_to(LONGEST_WAIT),
            silent: 0,
        }
    }

    /// What to do before a request goes out; `hurry` when there is no time to ask. Then what nothing is known of stays in the buffer: one
    /// by one, it would lose its order for nothing. Where the way is not `open`, the request is a probe, and no question goes beside it.
    pub(super) fn step(&self, now: Instant, hurry: bool, open: bool) -> Step {
        if self.setting != Aggregation::Auto {
            return Step::Send { ask: false };
        }
        let due = !hurry && !self.asking && self.ask_at.is_none_or(|at| at <= now);
        let fresh = match self.heard {
            Some(heard) => hurry || now.saturating_duration_since(heard) < STALE,
            None => self.belief != Belief::Unknown || self.silent >= SILENT,
        };
        match (fresh, due) {
            (true, ask) => Step::Send { ask: ask && open },
            (false, true) => Step::Ask,
            (false, false) if self.asking || hurry => Step::Wait(None),
            (false, false) if self.heard.is_none() => Step::Wait(self.ask_at),
            (false, false) => Step::Send { ask: false }, // an old word is better than none
        }
    }

    /// The question is on its way.
    pub(super) fn asked(&mut self) {
        self.asking = true;
    }

    /// Something came back on the question.
    pub(super) fn told(&mut self, now: Instant, told: Told, random: f64) {
        self.asking = false;
        match told {
            // The wait is that of the link or of the stream, and then the question goes first.
            Told::Failed if self.belief == Belief::Unknown => {
                self.ask_at = None;
                return;
            }
            Told::Failed | Told::Nothing => {
                self.silent = self.silent.saturating_add(u32::from(told == Told::Nothing));
                self.ask_at = Some(now + self.backoff.pause(random));
                return;
            }
            Told::Is(_) | Told::Denied => {}
        }
        self.silent = 0;
        self.backoff.reset();
        self.heard = Some(now);
        self.ask_at = Some(now + EVERY.mul_f64(0.75 + random / 4.0));
        self.belief = match told {
            Told::Is(kinesis::Distribution::ByService) => Belief::ByService,
            // The service may not know yet what the answers to puts have shown.
            Told::Is(kinesis::Distribution::ByKey) if self.belief == Belief::Seen => Belief::ByService,
            Told::Is(kinesis::Distribution::ByKey) => Belief::ByKey,
            _ if matches!(self.belief, Belief::Seen | Belief::ByService) => self.belief,
            _ => Belief::Untold,
        };
    }

    /// Whether nothing is known, so that the question is what is sent first.
    pub(super) fn is_unknown(&self) -> bool {
        self.belief == Belief::Unknown
    }

    /// An aggregate of a lane was accepted, which shows this.
    pub(super) fn shows(&mut self, sign: Sign) {
        if self.setting != Aggregation::Auto || sign == Sign::Nothing {
            return;
        }
        self.ask_at = None;
        if sign == Sign::CameBack {
            self.belief = Belief::Seen;
        }
    }

    /// Whether the stream gets aggregates.
    pub(super) fn aggregates(&self) -> bool {
        match self.setting {
            Aggregation::On => true,
            Aggregation::Off => false,
            Aggregation::Auto => matches!(self.belief, Belief::ByKey | Belief::Untold),
        }
    }

    /// Whether it does, and why; none while that is not decided.
    pub(super) fn says(&self) -> Option<(bool, &'static str)> {
        let why = match (self.setting, self.belief) {
            (Aggregation::On | Aggregation::Off, _) => "the configuration says so",
            (_, Belief::Unknown) if self.silent < SILENT => return None,
            (_, Belief::Unknown) => "the stream does not say how it distributes records",
            (_, Belief::ByKey) => "the stream distributes records by their keys",
            (_, Belief::ByService) => "the stream distributes records itself, and consumers on KCL would drop aggregates",
            (_, Belief::Untold) => "nobody tells how the stream distributes records",
            (_, Belief::Seen) => "a lane came back into a shard that it had left, so the stream distributes records itself",
        };
        Some((self.aggregates(), why))
    }
}

/// Which shards took the aggregates of one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    now: Option<u64>,
    left: VecDeque<u64>,
    changes: u32,
}

/// What a lane's shards say about its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing: its keys may decide.
    Nothing,
    /// It has changed its shard several times: resharding may do that.
    Restless,
    /// It came back into a shard that it had left. Such a one is closed for good when keys decide.
    CameBack,
}

impl Trail {
    /// `shard` took an aggregate.
    pub(super) fn took(&mut self, shard: &str) -> Sign {
        let mut hasher = DefaultHasher::new();
        shard.hash(&mut hasher);
        let shard = hasher.finish();
        let Some(before) = self.now.replace(shard).filter(|before| *before != shard) else { return Sign::Nothing };
        if self.left.contains(&shard) {
            *self = Self { now: Some(shard), ..Self::default() };
            return Sign::CameBack;
        }
        if self.left.len() == REMEMBERED {
            self.left.pop_front();
        }
        self.left.push_back(before);
        self.changes += 1;
        if self.changes < RESTLESS {
            return Sign::Nothing;
        }
        self.changes = 0;
        Sign::Restless
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Whether aggregates go out, and whether a question goes with them.
    const TOGETHER: (bool, Step) = (true, Step::Send { ask: false });
    const TOGETHER_AND_ASKS: (bool, Step) = (true, Step::Send { ask: true });
    const ONE_BY_ONE: (bool, Step) = (false, Step::Send { ask: false });
    const ONE_BY_ONE_AND_ASKS: (bool, Step) = (false, Step::Send { ask: true });

    impl Distribution {
        fn does(&self, now: Instant) -> (bool, Step) {
            (self.aggregates(), self.step(now, false, true))
        }
    }

    fn auto() -> (Distribution, Instant) {
        (Distribution::new(Aggregation::Auto), Instant::now())
    }

    fn told(told: Told) -> (Distribution, Instant) {
        let (mut distribution, now) = auto();
        distribution.asked();
        distribution.told(now, told, 1.0);
        (distribution, now)
    }

    const BY_KEY: Told = Told::Is(kinesis::Distribution::ByKey);
    const BY_SERVICE: Told = Told::Is(kinesis::Distribution::ByService);

    #[test]
    fn nothing_goes_out_before_the_stream_was_asked() {
        let (mut distribution, now) = auto();
        assert_eq!(distribution.step(now, false, true), Step::Ask);
        assert_eq!(distribution.step(now, true, true), Step::Wait(None), "at the end it stays in the buffer");
        distribution.asked();
        assert_eq!(distribution.step(now, false, true), Step::Wait(None));
        distribution.told(now, BY_KEY, 0.5);
        assert_eq!(distribution.does(now), TOGETHER);
    }

    #[test]
    fn what_the_configuration_says_needs_no_question() {
        let now = Instant::now();
        assert_eq!(Distribution::new(Aggregation::On).does(now), TOGETHER);
        assert_eq!(Distribution::new(Aggregation::Off).does(now), ONE_BY_ONE);
        let mut on = Distribution::new(Aggregation::On);
        on.shows(Sign::CameBack);
        assert_eq!(on.does(now), TOGETHER);
    }

    #[test]
    fn while_the_service_answers_and_does_not_say_it_readings_wait_for_a_while_and_then_go_one_by_one() {
        let (mut distribution, start) = auto();
        let (mut now, mut questions, mut went) = (start, 0, None);
        while now < start + Duration::from_hours(1) {
            let step = distribution.step(now, false, true);
            if step == Step::Ask || step == (Step::Send { ask: true }) {
                questions += 1;
                distribution.asked();
                distribution.told(now, Told::Nothing, 1.0);
            } else if let Step::Wait(until) = step {
                assert!(went.is_none());
                now = until.unwrap();
            } else {
                went.get_or_insert(now - start);
                assert_eq!(distribution.does(now), ONE_BY_ONE);
                now += Duration::from_secs(1);
            }
        }
        assert_eq!(went, Some(Duration::from_secs(1 + 2 + 4 + 8)));
        assert!((60..80).contains(&questions), "about once a minute: {questions}");
    }

    #[test]
    fn while_nothing_is_known_the_probe_of_a_link_that_is_away_is_the_question() {
        let (mut distribution, now) = auto();
        for _ in 0..100 {
            assert_eq!(distribution.step(now, false, true), Step::Ask);
            distribution.asked();
            distribution.told(now, Told::Failed, 1.0);
        }
        distribution.told(now, BY_KEY, 1.0);
        assert_eq!(distribution.does(now), TOGETHER);
        distribution.told(now, Told::Failed, 1.0);
        assert_eq!(distribution.does(now), TOGETHER, "what is known stays known");
    }

    #[test]
    fn it_is_asked_again_beside_what_is_sent_and_first_when_nothing_was_sent_for_long() {
        let (mut distribution, start) = told(BY_KEY);
        assert_eq!(distribution.does(start + EVERY.mul_f64(0.9)), TOGETHER);
        let now = start + EVERY;
        assert_eq!(distribution.does(now), TOGETHER_AND_ASKS);
        distribution.asked();
        assert_eq!(distribution.does(now), TOGETHER);
        distribution.told(now, BY_SERVICE, 1.0);
        assert_eq!(distribution.does(now), ONE_BY_ONE);

        assert_eq!(distribution.step(now + EVERY, false, false), Step::Send { ask: false }, "a probe goes alone");
        let now = now + STALE;
        assert_eq!(distribution.step(now, false, true), Step::Ask);
        assert_eq!(distribution.step(now, true, true), Step::Send { ask: false }, "there is no time left");
        distribution.asked();
        distribution.told(now, Told::Nothing, 1.0);
        assert_eq!(distribution.does(now), ONE_BY_ONE, "what is known is better than nothing");
    }

    #[test]
    fn whoever_may_not_ask_aggregates_until_the_answers_to_puts_speak_against_it() {
        let (mut distribution, now) = told(Told::Denied);
        assert_eq!(distribution.does(now), TOGETHER);
        distribution.shows(Sign::CameBack);
        assert_eq!(distribution.does(now), ONE_BY_ONE_AND_ASKS);
        distribution.told(now, Told::Denied, 1.0);
        assert_eq!(distribution.does(now), ONE_BY_ONE);
    }

    #[test]
    fn a_lane_that_comes_back_ends_aggregates_at_once_and_the_service_is_believed_again_at_its_second_word() {
        let (mut distribution, now) = told(BY_KEY);
        distribution.shows(Sign::CameBack);
        assert_eq!(distribution.does(now), ONE_BY_ONE_AND_ASKS);
        distribution.told(now, BY_KEY, 1.0);
        assert_eq!(distribution.does(now), ONE_BY_ONE, "it may not know yet");
        distribution.told(now + EVERY, BY_KEY, 1.0);
        assert_eq!(distribution.does(now + EVERY), TOGETHER);
    }

    #[test]
    fn a_lane_that_goes_from_shard_to_shard_is_reason_to_ask_and_none_to_believe() {
        let (mut distribution, now) = told(BY_KEY);
        distribution.shows(Sign::Restless);
        assert_eq!(distribution.does(now), TOGETHER_AND_ASKS);
    }

    fn signs(trail: &mut Trail, shards: &[u32]) -> Vec<Sign> {
        shards.iter().map(|shard| trail.took(&shard.to_string())).collect()
    }

    #[test]
    fn a_lane_that_changes_its_shard_for_good_says_nothing_and_one_that_comes_back_does() {
        let mut trail = Trail::default();
        assert_eq!(signs(&mut trail, &[0, 0, 0, 2, 2, 2]), [Sign::Nothing; 6], "a split");
        assert_eq!(signs(&mut trail, &[4, 4]), [Sign::Nothing; 2], "and a merge");
        assert_eq!(signs(&mut trail, &[5, 5, 5]), [Sign::Restless, Sign::Nothing, Sign::Nothing], "once, and not for ever");
        assert_eq!(signs(&mut trail, &[2]), [Sign::CameBack]);
        assert_eq!(signs(&mut trail, &[2, 2, 5]), [Sign::Nothing; 3], "and then it is forgotten");
        assert_eq!(signs(&mut trail, &[2]), [Sign::CameBack]);
    }

    #[test]
    fn a_stream_that_distributes_records_itself_gives_a_sign_within_a_few_records_whatever_its_shards() {
        for shards in [2, 4, 16, 100, 1000] {
            for seed in 0..200 {
                let (mut trail, mut random) = (Trail::default(), Random::new(seed));
                let sign = (1..=20).find(|_| trail.took(&(random.bits() % shards).to_string()) != Sign::Nothing);
                assert!(sign.is_some(), "{shards} shards, seed {seed}");
            }
        }
    }

    #[test]
    fn however_often_a_stream_is_resharded_no_lane_comes_back() {
        let mut trail = Trail::default();
        let shards: Vec<u32> = (0..1000).flat_map(|shard| [shard; 3]).collect();
        assert!(!signs(&mut trail, &shards).contains(&Sign::CameBack));
        assert!(trail.left.len() <= REMEMBERED);
    }
}
