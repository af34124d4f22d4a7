//! Whether every reading arrived exactly once and in order: what the stream holds against what the sensors sent.
//!
//! Pure, and independent of the code that wrote the stream: it knows envelopes only by the table in the README. A repeated name,
//! equal (`dev`, `run`, `lane`, `seq`), is a duplicate that every consumer can drop, so it is counted and is no mistake.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_cbor::Value;

use super::{
    kinesis::oracle::{Dropped, UserRecord},
    numbers::Numbers,
    script::grouped,
    sensors::Sent,
};

/// Mistakes that are put into words; the others are counted.
const WORDS: usize = 10;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Readings with different names.
    pub readings: u64,
    /// Readings that came again with the name that they had.
    pub duplicates: u64,
    /// How many things are wrong; 0 when every reading arrived exactly once and in order.
    pub mistakes: u64,
    /// The first of them.
    pub words: Vec<String>,
}

impl Report {
    /// Whether every reading arrived exactly once and in order.
    pub fn passed(&self) -> bool {
        self.mistakes == 0
    }

    fn mistake(&mut self, what: String) {
        self.mistakes += 1;
        if self.words.len() < WORDS {
            self.words.push(what);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { readings, duplicates, mistakes, words } = self;
        let readings = grouped(*readings);
        if self.passed() {
            write!(f, "all {readings} readings arrived exactly once and in order")?;
        } else {
            write!(f, "{mistakes} mistakes in {readings} readings")?;
        }
        if *duplicates > 0 {
            write!(f, " ({duplicates} came twice, with the same name, and were dropped)")?;
        }
        words.iter().try_for_each(|what| write!(f, "\n  {what}"))?;
        let unsaid = mistakes.saturating_sub(words.len() as u64);
        if unsaid > 0 { write!(f, "\n  and {unsaid} more") } else { Ok(()) }
    }
}

/// An audit that goes on: it remembers of what it has seen no more than it takes to know it again.
#[derive(Default)]
pub struct Audit {
    report: Report,
    lanes: BTreeMap<Lane, LaneSeen>,
    topics: BTreeMap<String, TopicSeen>,
}

/// (`dev`, `run`, `lane`)
type Lane = (String, String, String);

#[derive(Default)]
struct LaneSeen {
    names: Numbers,
    next: u64,
}

#[derive(Default)]
struct TopicSeen {
    numbers: Numbers,
    last: u64,
}

/// The keys of a reading that the audit needs; all others are somebody else's.
#[derive(Deserialize)]
struct Envelope {
    dev: String,
    run: String,
    lane: String,
    seq: Option<u64>,
    topic: Option<String>,
    val: Option<Value>,
    kind: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
    why: Option<String>,
}

impl Audit {
    /// The next record of the stream.
    pub fn takes(&mut self, record: Result<Vec<UserRecord>, Dropped>) {
        match record {
            Ok(users) => users.iter().for_each(|user| self.user_record(user)),
            Err(dropped) => self.report.mistake(dropped.to_string()),
        }
    }

    fn user_record(&mut self, user: &UserRecord) {
        match serde_cbor::from_slice::<Envelope>(&user.data) {
            Ok(envelope) => self.envelope(envelope),
            Err(error) => self.report.mistake(format!("a user record of {} bytes is no envelope: {error}", user.data.len())),
        }
    }

    fn envelope(&mut self, envelope: Envelope) {
        let Envelope { dev, run, lane, seq, topic, val, kind, from, to, why } = envelope;
        if let Some(kind) = kind {
            let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let (from, to, why) = (number(from), number(to), why.unwrap_or_default());
            return self.report.mistake(format!("{dev} {lane}: {kind} from seq {from} to {to}: {why}"));
        }
        let (Some(seq), Some(topic)) = (seq, topic) else {
            return self.report.mistake(format!("{dev} {lane}: a reading without `seq` or without `topic`"));
        };
        let place = format!("{dev} {lane} seq {seq}");
        let seen = self.lanes.entry((dev, run, lane)).or_default();
        if !seen.names.insert(seq) {
            self.report.duplicates += 1;
            return;
        }
        self.report.readings += 1;
        if seq < seen.next {
            self.report.mistake(format!("{place} comes after seq {}", seen.next - 1));
        } else if seq > seen.next {
            self.report.mistake(format!("{place} comes where seq {} is due", seen.next));
        }
        seen.next = seen.next.max(seq + 1);
        match val.as_ref().and_then(counter) {
            Some(n) => self.number(&place, &topic, n),
            None => self.report.mistake(format!("{place}: {topic} has no number in its value {val:?}")),
        }
    }

    fn number(&mut self, place: &str, topic: &str, n: u64) {
        let seen = self.topics.entry(topic.to_owned()).or_default();
        if !seen.numbers.insert(n) {
            self.report.mistake(format!("{place}: {topic} number {n} is there twice, under two names"));
        } else if n < seen.last {
            self.report.mistake(format!("{place}: {topic} number {n} comes after number {}", seen.last));
        }
        seen.last = seen.last.max(n);
    }

    /// That was all, and this is what the sensors have `sent`.
    pub fn finish(mut self, sent: &Sent) -> Report {
        let nothing = Numbers::default();
        for (topic, count) in sent {
            let numbers = self.topics.get(topic).map_or(&nothing, |seen| &seen.numbers);
            let missing = count - numbers.count(1..=*count);
            if missing > 0 {
                let (first, more) = (numbers.gap(1), missing - 1);
                let what = format!("{topic}: number {first} and {more} others of {count} are missing");
                self.report.mistake(what);
            }
        }
        for (topic, seen) in &self.topics {
            let count = sent.get(topic).copied().unwrap_or_default();
            let unsent = seen.numbers.count(count + 1..=u64::MAX) + seen.numbers.count(0..=0);
            if unsent > 0 {
                self.report.mistake(format!("{topic}: {unsent} readings arrived that nobody sent"));
            }
        }
        self.report
    }
}

/// The number that a simulated sensor gave its reading: `n` of a map, or what follows the last `#` of a text.
fn counter(value: &Value) -> Option<u64> {
    match value {
        Value::Map(map) => match map.get(&Value::Text("n".into()))? {
            Value::Integer(n) => u64::try_from(*n).ok(),
            _ => None,
        },
        Value::Text(text) => text.rsplit_once('#')?.1.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMP: &str = "plant/1/1/temp";
    const SCALE: &str = "plant/scale";

    type Consumed = Result<Vec<UserRecord>, Dropped>;

    fn reading(seq: u64, topic: &str, value: &serde_json::Value) -> UserRecord {
        let envelope = serde_json::json!({
            "v": 1, "dev": "gw", "run": "00", "lane": "readings/0", "seq": seq, "src": "s", "topic": topic, "ts": 5, "val": value,
        });
        let data = serde_cbor::to_vec(&envelope).unwrap().into();
        UserRecord { partition_key: "k".into(), explicit_hash_key: None, data, aggregated: true }
    }

    fn temp(seq: u64, n: u64) -> UserRecord {
        reading(seq, TEMP, &serde_json::json!({ "ts": 5, "value": 21.4, "n": n }))
    }

    fn scale(seq: u64, n: u64) -> UserRecord {
        reading(seq, SCALE, &format!("NET 12.345 kg #{n}").into())
    }

    fn report(records: Vec<Consumed>, sent: &[(&str, u64)]) -> Report {
        let mut audit = Audit::default();
        records.into_iter().for_each(|record| audit.takes(record));
        audit.finish(&sent.iter().map(|(topic, n)| ((*topic).to_owned(), *n)).collect())
    }

    #[test]
    fn readings_that_all_arrived_once_and_in_order_pass() {
        let records = vec![Ok(vec![temp(0, 1), scale(1, 1)]), Ok(vec![temp(2, 2)])];

        let report = report(records, &[(TEMP, 2), (SCALE, 1)]);

        assert!(report.passed(), "{report}");
        assert_eq!(report.to_string(), "all 3 readings arrived exactly once and in order");
    }

    #[test]
    fn a_repeated_name_is_counted_and_forgiven() {
        let records = vec![Ok(vec![temp(0, 1), temp(1, 2)]), Ok(vec![temp(0, 1), temp(1, 2), temp(2, 3)])];

        let report = report(records, &[(TEMP, 3)]);

        assert!(report.passed(), "{report}");
        assert_eq!((report.readings, report.duplicates), (3, 2));
    }

    #[test]
    fn a_reading_that_is_missing_late_or_there_twice_is_a_mistake_in_words() {
        let wrong = |records: Vec<UserRecord>| report(vec![Ok(records)], &[(TEMP, 3)]).words;

        assert_eq!(wrong(vec![temp(0, 1), temp(1, 3)]), ["plant/1/1/temp: number 2 and 0 others of 3 are missing"]);
        assert_eq!(
            wrong(vec![temp(0, 1), temp(2, 2), temp(1, 3)]),
            ["gw readings/0 seq 2 comes where seq 1 is due", "gw readings/0 seq 1 comes after seq 2"]
        );
        assert_eq!(
            wrong(vec![temp(0, 1), temp(1, 3), temp(2, 2)]),
            ["gw readings/0 seq 2: plant/1/1/temp number 2 comes after number 3"]
        );
        assert_eq!(
            wrong(vec![temp(0, 1), temp(1, 2), temp(2, 3), temp(3, 3)]),
            ["gw readings/0 seq 3: plant/1/1/temp number 3 is there twice, under two names"]
        );
        assert_eq!(
            wrong(vec![temp(0, 1), temp(1, 2), temp(2, 3), temp(3, 4)]),
            ["plant/1/1/temp: 1 readings arrived that nobody sent"]
        );
    }

    #[test]
    fn what_the_client_library_would_drop_is_a_mistake() {
        let dropped = Dropped { partition_key: "k".into(), hash: 7, dropped: 3 };

        let report = report(vec![Err(dropped)], &[(TEMP, 3)]);

        assert!(report.words[0].contains("all 3 are dropped"), "{report}");
        assert_eq!(report.mistakes, 2);
    }

    #[test]
    fn of_many_mistakes_the_first_are_told_and_the_others_counted() {
        let garbage = UserRecord { partition_key: "k".into(), explicit_hash_key: None, data: "?".into(), aggregated: false };

        let report = report(vec![Ok(vec![garbage; 25])], &[]);

        assert_eq!((report.mistakes, report.words.len()), (25, WORDS));
        assert!(report.to_string().ends_with("and 15 more"));
    }
}
