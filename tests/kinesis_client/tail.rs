//! `headwater tail` against that Kinesis.

use std::io::{self, BufRead, Write};

use headwater::{
    cli::{
        ConfigArgs,
        tail::{Beginning, Summary, TailArgs, tail},
    },
    config::{Config, DestinationConfig, Encoding, PayloadFormat, StreamConfig},
    kinesis::{Answer, HashKey, Record},
    reading::Timestamp,
    record::{
        Envelope, Members, PayloadReader, RunId,
        kpl::{HashKeyUse, assemble, put_record},
    },
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Gateway, PATIENCE, kinesalite::Kinesalite, record};

/// Stops the one who prints after so many lines.
struct Lines {
    text: Vec<u8>,
    wanted: usize,
    enough: CancellationToken,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.text.lines().count() >= self.wanted {
            self.enough.cancel();
        }
        Ok(())
    }
}

impl Lines {
    fn wanted(wanted: usize) -> Self {
        Self { text: Vec::new(), wanted, enough: CancellationToken::new() }
    }

    fn json(&self) -> Vec<serde_json::Value> {
        self.text.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }
}

/// Runs `tail` until `out` has what it wants.
async fn printed(gateway: &Gateway, args: &TailArgs, out: &mut Lines) -> Summary {
    let stream = StreamConfig { destination: "cloud".into(), stream: "plant".into(), ..StreamConfig::default() };
    let config = Config {
        streams: [("readings".into(), stream)].into(),
        destinations: [("cloud".into(), DestinationConfig::Kinesis(gateway.config.clone()))].into(),
        ..Config::default()
    };
    let enough = out.enough.clone();
    let Ok(summary) = timeout(PATIENCE, tail(&config, args, enough, out)).await else {
        panic!("tail printed only:\n{}", String::from_utf8_lossy(&out.text))
    };
    summary.unwrap()
}

/// An aggregate of readings with these numbers, all in one lane.
fn aggregate(lane: u16, hash_key: HashKey, numbers: impl IntoIterator<Item = u64>) -> Record {
    let key = format!("gw/readings/{lane}");
    let envelope = Envelope::new(Encoding::Cbor, "gw", RunId(1), &format!("readings/{lane}"), "broker", "plant/temp");
    let (mut fields, mut data) = (Vec::new(), Vec::new());
    for seq in numbers {
        data.clear();
        let members = Members { seq, arrived: Timestamp(0), unsure: false, dup: false, previous: None };
        let reader = PayloadReader { format: PayloadFormat::Json, timestamp: None };
        envelope.encode(&mut data, &members, b"21.5", &reader);
        put_record(&mut fields, 0, HashKeyUse::First, &data);
    }
    let data = assemble(&[&*key], Some(&hash_key.to_string()), &fields);
    Record { partition_key: key, explicit_hash_key: Some(hash_key), data }
}

#[tokio::test]
async fn tail_prints_every_reading_once_and_in_order_across_a_split_and_a_merge() {
    let service = Kinesalite::with_stream("plant", 1).await;
    let gateway = Gateway::facing(service.url());
    let client = gateway.client().await;
    let (low, high) = (1, HashKey::MAX);
    let put = async |records| {
        let answers = client.put("plant", records, PATIENCE).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Accepted { .. })), "{answers:?}");
    };
    put(vec![aggregate(0, low, 0..10), aggregate(1, high, 0..10)]).await;
    service.split("plant", "shardId-000000000000", HashKey::MAX / 2).await;
    // Sent again after a lost answer, and then something is really lost.
    put(vec![aggregate(0, low, 5..20), aggregate(1, high, 10..20)]).await;
    service.merge("plant", "shardId-000000000001", "shardId-000000000002").await;
    put(vec![aggregate(0, low, 20..30), aggregate(1, high, 23..30), record("stranger", b"21.5")]).await;

    let args = TailArgs { stream: "readings".into(), from: Beginning::Oldest, lane: None, config: ConfigArgs::default() };
    let mut out = Lines::wanted(58);
    let summary = printed(&gateway, &args, &mut out).await;

    let lines = out.json();
    let numbers = |lane: &str| -> Vec<u64> {
        lines.iter().filter(|line| line["lane"] == lane).map(|line| line["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("readings/0"), (0..30).collect::<Vec<_>>());
    assert_eq!(numbers("readings/1"), (0..20).chain(23..30).collect::<Vec<_>>());
    assert_eq!(lines.iter().filter(|line| line["key"] == "stranger").count(), 1);
    assert_eq!((summary.counts.readings, summary.counts.duplicates, summary.counts.missing), (57, 5, 3));
    assert_eq!((summary.anonymous, summary.refused_by_kcl), (1, 0));
}

#[tokio::test]
async fn tail_from_latest_prints_one_lane_of_what_comes_from_then_on() {
    let service = Kinesalite::with_stream("plant", 2).await;
    let gateway = Gateway::facing(service.url());
    let client = gateway.client().await;
    let put = async |seq| {
        let records = vec![aggregate(0, 0, [seq]), aggregate(1, HashKey::MAX, [seq])];
        client.put("plant", records, PATIENCE).await.unwrap();
    };
    put(0).await;
    let args = TailArgs { stream: "readings".into(), from: Beginning::Latest, lane: Some(1), config: ConfigArgs::default() };
    let mut out = Lines::wanted(3);
    let enough = out.enough.clone();
    let field = async {
        for seq in 1.. {
            put(seq).await;
            if enough.is_cancelled() {
                break;
            }
        }
    };

    let (summary, ()) = tokio::join!(printed(&gateway, &args, &mut out), field);

    let lines = out.json();
    let numbers: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(lines.iter().all(|line| line["lane"] == "readings/1"));
    assert!(numbers[0] > 0 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert_eq!((summary.counts.duplicates, summary.counts.missing, summary.anonymous), (0, 0, 0));
}
