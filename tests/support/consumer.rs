//! The other end: an application behind the stream that decodes what it gets, and knows what is missing, double or out of order.
//!
//! One that sorts takes the readings of a lane in any order, as behind a stream that is `live-first`.
//!
//! It shares no code with what wrote the readings. Invariant: it looks at each record once, in the order of arrival, so it can be asked
//! again and again while more comes in.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_cbor::Value;

/// One reading as it stands in the stream. A member that the specification does not know is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    pub v: u64,
    pub dev: String,
    pub run: String,
    pub lane: String,
    pub seq: u64,
    pub src: String,
    pub topic: String,
    pub ts: i64,
    pub rx: Option<i64>,
    pub clk: Option<String>,
    #[serde(default)]
    pub dup: bool,
    pub prev: Option<Previous>,
    pub val: Option<Value>,
    pub err: Option<String>,
    pub raw: Option<Value>,
}

/// Where a lane stood before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    pub run: String,
    pub seq: u64,
}

/// What stands where readings were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    pub v: u64,
    pub dev: String,
    pub run: String,
    pub lane: String,
    pub kind: String,
    pub from: u64,
    pub to: u64,
    pub n: u64,
    pub why: String,
}

impl Notice {
    /// Decodes a user record, if it is one.
    pub fn decode(data: &[u8]) -> Option<Self> {
        if data.first() == Some(&b'{') {
            return serde_json::from_slice(data).ok().inspect(|_| assert_eq!(data.last(), Some(&b'\n')));
        }
        serde_cbor::from_slice(data).ok()
    }
}

impl Reading {
    /// Decodes a user record, CBOR or a line of JSON.
    pub fn decode(data: &[u8]) -> Self {
        let decoded = if data.first() == Some(&b'{') {
            assert_eq!(data.last(), Some(&b'\n'), "a line of JSON ends in a line end");
            serde_json::from_slice(data).map_err(|e| e.to_string())
        } else {
            serde_cbor::from_slice(data).map_err(|e| e.to_string())
        };
        decoded.unwrap_or_else(|e| panic!("no reading: {e}: {:?}", String::from_utf8_lossy(data)))
    }

    /// The number that its sensor gave it: the value itself, or the first item of a list.
    pub fn number(&self) -> u64 {
        let number = match &self.val {
            Some(Value::Array(items)) => items.first(),
            other => other.as_ref(),
        };
        match number {
            Some(Value::Integer(number)) => u64::try_from(*number).expect("sensors count from 1"),
            Some(Value::Text(text)) => text.parse().expect("a scale sends numbers"),
            other => panic!("a reading without its sensor's number: {other:?} in {self:?}"),
        }
    }
}

/// How often readings arrived that were there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// With the same name: the agent sent them again.
    pub same_name: u64,
    /// With another name, and marked: the broker sent them again, and the agent could not tell.
    pub marked: u64,
    /// With another name and no mark: the sensor itself sent them again.
    pub unmarked: u64,
}

/// Every reading arrived exactly once.
pub const ONCE: Repeats = Repeats { same_name: 0, marked: 0, unmarked: 0 };

/// What one application has seen of one stream.
#[derive(Debug, Default)]
pub struct Consumer {
    /// Readings that were there before.
    pub repeats: Repeats,
    /// Of the marked ones, how many came in each run of the agent.
    marked_in: BTreeMap<String, u64>,
    /// It sorts.
    sorts: bool,
    /// By run and lane.
    lanes: BTreeMap<(String, String), Seen>,
    /// By topic, the last number of its sensor, or the highest for who sorts.
    sensors: BTreeMap<String, u64>,
    /// Numbers that sensors gave and that were skipped here: for who sorts, up to now.
    skipped: u64,
    /// By topic, the numbers of its sensor that came: with the run that marked it, where only such copies did.
    numbers: BTreeMap<String, BTreeMap<u64, Option<String>>>,
    /// What must never be, the first few of it.
    wrong: Vec<String>,
}

#[derive(Debug, Default)]
struct Seen {
    readings: u64,
    next: u64,
    /// By the first number that they name, the last, how many of them are gone, and why.
    notices: BTreeMap<u64, (u64, u64, String)>,
    /// By name, the topic and the sensor's number.
    values: BTreeMap<u64, (String, u64)>,
}

impl Seen {
    /// One more than the highest number that a reading or a notice names.
    fn end(&self) -> u64 {
        self.notices.values().map(|(to, ..)| to + 1).max().unwrap_or_default().max(self.next)
    }
}

impl Consumer {
    /// One that takes the readings of a lane in any order.
    pub fn that_sorts() -> Self {
        Self { sorts: true, ..Self::default() }
    }

    /// Looks at the next user record of the stream.
    pub fn takes(&mut self, data: &[u8]) {
        if let Some(notice) = Notice::decode(data) {
            let Notice { v, dev, run, lane, kind, from, to, n, why } = notice;
            assert_eq!((v, dev.as_str(), kind.as_str()), (1, super::gateway::DEVICE, "dropped"));
            self.lanes.entry((run, lane)).or_default().notices.insert(from, (to, n, why));
            return;
        }
        let reading = Reading::decode(data);
        let lane = self.lanes.entry((reading.run.clone(), reading.lane.clone())).or_default();
        let value = (reading.topic.clone(), reading.number());
        let was_there = lane.values.contains_key(&reading.seq);
        let first = lane.values.entry(reading.seq).or_insert_with(|| value.clone());
        if *first != value && self.wrong.len() < 5 {
            self.wrong.push(format!("a name that was given twice, first to {first:?}: {reading:?}"));
        }
        // A lane rises, so a lower number is one that was there, unless it was skipped: then it counts as missing for ever.
        let repeated = if self.sorts { was_there } else { reading.seq < lane.next };
        if repeated {
            self.repeats.same_name += 1;
            return;
        }
        lane.next = lane.next.max(reading.seq + 1);
        lane.readings += 1;
        let (_, number) = value;
        let last = self.sensors.entry(reading.topic.clone()).or_default();
        let numbers = self.numbers.entry(reading.topic.clone()).or_default();
        let (mark, before) = (reading.dup.then(|| reading.run.clone()), numbers.get(&number).cloned());
        if before != Some(None) {
            numbers.insert(number, mark.clone());
        }
        // Either of the two bears the mark: what is repeated may have waited in a buffer that was set aside, and come behind.
        let marked_in = mark.or_else(|| before.clone().flatten().filter(|_| self.sorts));
        if number > *last {
            self.skipped += number - *last - 1;
            *last = number;
        } else if self.sorts && before.is_none() {
            self.skipped -= 1; // it was waited for
        } else if let Some(run) = marked_in {
            self.repeats.marked += 1;
            *self.marked_in.entry(run).or_default() += 1;
        } else {
            self.repeats.unmarked += 1;
        }
        if (reading.v, reading.dev.as_str()) != (1, super::gateway::DEVICE) && self.wrong.len() < 5 {
            self.wrong.push(format!("{reading:?}"));
        }
    }

    /// Readings by their names.
    pub fn distinct(&self) -> u64 {
        self.lanes.values().map(|lane| lane.readings).sum()
    }

    /// Names that were left out between the first and the last of each lane.
    pub fn missing(&self) -> u64 {
        self.lanes.values().map(|lane| lane.end() - lane.readings).sum()
    }

    /// How many of them notices account for.
    pub fn explained(&self) -> u64 {
        self.explained_by().values().sum()
    }

    /// The same by the rule that they fell to.
    pub fn explained_by(&self) -> BTreeMap<String, u64> {
        let mut by_rule = BTreeMap::new();
        for (_, n, why) in self.lanes.values().flat_map(|lane| lane.notices.values()) {
            *by_rule.entry(why.clone()).or_default() += n;
        }
        by_rule
    }

    /// What sensors sent and never came, as far as a later one came.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Most marked repetitions in one run of the agent.
    pub fn most_marked(&self) -> u64 {
        self.marked_in.values().copied().max().unwrap_or_default()
    }

    /// Runs of the agent whose readings arrived.
    pub fn runs(&self) -> usize {
        self.lanes.keys().map(|(run, _)| run).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Whether the last reading of each sensor has come.
    pub fn has_all_of(&self, sensors: &BTreeMap<String, u64>) -> bool {
        sensors.iter().all(|(topic, last)| self.sensors.get(topic) == Some(last))
    }

    /// Of all that sensors sent, by topic the last number, what never came.
    pub fn absent_of(&self, sensors: &BTreeMap<String, u64>) -> BTreeSet<(String, u64)> {
        let came = |topic: &str, number: u64| self.numbers.get(topic).is_some_and(|numbers| numbers.contains_key(&number));
        let sent = sensors.iter().flat_map(|(topic, last)| (1..=*last).map(move |number| (topic, number)));
        sent.filter(|(topic, number)| !came(topic, *number)).map(|(topic, number)| (topic.clone(), number)).collect()
    }

    /// By topic, the last number that came.
    pub fn sensors(&self) -> &BTreeMap<String, u64> {
        &self.sensors
    }

    /// What must never be, the first few of it.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Checks that no reading is missing, and that all are what they should be.
    pub fn lacks_nothing(&self) {
        assert!(self.wrong.is_empty(), "{:?}", self.wrong);
        assert_eq!((self.missing(), self.skipped), (0, 0), "names missing, and sensors' numbers skipped; {self:?}");
    }
}
