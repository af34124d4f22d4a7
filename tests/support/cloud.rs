//! The cloud: the local endpoint of Kinesis and Firehose with its faults, and a consumer of each stream.

use std::{collections::BTreeMap, ops::Deref};

use headwater::demo::kinesis::{Endpoint, Options, Store, StoredRecord, oracle};

use super::{
    certificates::OFFICE,
    consumer::{Consumer, Notice, Reading},
    within,
};

/// The Kinesis stream that `[streams.readings]` leads to.
pub const STREAM: &str = "plant-readings";
/// The Firehose stream that [`super::gateway::Plan::into_firehose`] lets it lead to.
pub const DELIVERY: &str = "plant-delivery";

/// An endpoint that keeps the service's rules. It is an [`Endpoint`] too, for everything that can go wrong with one.
pub struct Cloud {
    endpoint: Endpoint,
    consumers: BTreeMap<String, (Consumer, usize)>,
}

impl Deref for Cloud {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Cloud {
    /// Starts it with [`STREAM`] and [`DELIVERY`] in it, behind the TLS of [`OFFICE`] unless it has its own.
    pub async fn start(mut options: Options, shards: u32) -> Self {
        options.tls.get_or_insert_with(|| OFFICE.tls.clone());
        let endpoint = Endpoint::start(options).await.expect("loopback has a free port");
        endpoint.create_stream(STREAM, shards);
        endpoint.create_firehose(DELIVERY);
        Self { endpoint, consumers: BTreeMap::new() }
    }

    /// What the application behind `stream` has seen up to now.
    pub fn consumer(&mut self, stream: &str) -> &Consumer {
        let (consumer, position) = self.consumers.entry(stream.to_owned()).or_default();
        let news: Vec<Vec<Vec<u8>>> = self.endpoint.look(|store| {
            let streamed = store.records(stream).map(user_records);
            streamed.chain(store.delivered(stream).iter().map(|record| taken_apart(record))).skip(*position).collect()
        });
        for users in news {
            *position += 1;
            users.iter().for_each(|data| consumer.takes(data));
        }
        consumer
    }

    /// From its beginning on, the application behind `stream` sorts what it gets.
    pub fn is_sorted_behind(&mut self, stream: &str) {
        self.consumers.insert(stream.to_owned(), (Consumer::that_sorts(), 0));
    }

    /// Every reading of `stream` in the order of arrival, repeated ones included.
    pub fn readings(&self, stream: &str) -> Vec<Reading> {
        let records = self.received(stream);
        let readings = records.iter().flat_map(user_records).filter(|data| Notice::decode(data).is_none());
        readings.map(|data| Reading::decode(&data)).collect()
    }

    /// Every notice of `stream` in the order of arrival, and the number of the reading that came before it.
    pub fn notices(&self, stream: &str) -> Vec<(Option<u64>, Notice)> {
        let mut last = None;
        let mut notices = Vec::new();
        for data in self.received(stream).iter().flat_map(user_records) {
            match Notice::decode(&data) {
                Some(notice) => notices.push((last, notice)),
                None => last = Some(Reading::decode(&data).seq),
            }
        }
        notices
    }

    /// Every user record of `stream` as it is, in the order of arrival.
    pub fn payloads(&self, stream: &str) -> Vec<Vec<u8>> {
        self.received(stream).iter().flat_map(user_records).collect()
    }

    /// Every user record of `stream` as text, in the order of arrival.
    pub fn texts(&self, stream: &str) -> Vec<String> {
        let text = |data: Vec<u8>| String::from_utf8(data).expect("text was sent");
        self.received(stream).iter().flat_map(user_records).map(text).collect()
    }

    /// Waits until `stream` holds so many records or more.
    pub async fn takes_records(&self, stream: &str, least: u64) {
        self.until(format_args!("{least} records in {stream}"), |store| (store.accepted(stream) >= least).then_some(())).await;
    }

    /// Waits until so many requests have reached it, whatever became of them.
    pub async fn is_asked(&self, least: u64) {
        self.until(format_args!("{least} requests"), |store| (store.counts().requests >= least).then_some(())).await;
    }

    /// Waits until so many puts have reached a stream of it, whatever became of them.
    pub async fn is_put(&self, least: u64) {
        self.until(format_args!("{least} puts"), |store| (store.counts().puts >= least).then_some(())).await;
    }

    async fn until<T>(&self, claim: impl std::fmt::Display, found: impl FnMut(&Store) -> Option<T>) -> T {
        within(claim, || format!("{:?}", self.counts()), self.endpoint.wait_for(found)).await
    }
}

/// The user records in what stands one behind the other: lines of JSON, or a CBOR sequence.
pub fn taken_apart(joined: &[u8]) -> Vec<Vec<u8>> {
    let (users, rest) = whole_records(joined);
    assert!(rest.is_empty(), "it ends in the middle of a record: {:?}", String::from_utf8_lossy(rest));
    users
}

/// The user records that are whole, and what there is of the next one.
pub fn whole_records(joined: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    if joined.first() == Some(&b'{') {
        let (lines, rest) = joined.split_at(joined.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
        return (lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(), rest);
    }
    let mut items = serde_cbor::Deserializer::from_slice(joined).into_iter::<serde_cbor::Value>();
    let (mut users, mut begin) = (Vec::new(), 0);
    while let Some(item) = items.next() {
        match item {
            Err(error) if error.is_eof() => break,
            item => drop(item.expect("a CBOR sequence")),
        }
        users.push(joined[begin..items.byte_offset()].to_vec());
        begin = items.byte_offset();
    }
    (users, &joined[begin..])
}

fn user_records(record: &StoredRecord) -> Vec<Vec<u8>> {
    let users = oracle::user_records(record).unwrap_or_else(|dropped| panic!("in {}: {dropped}", record.shard));
    users.into_iter().map(|user| user.data.to_vec()).collect()
}
