//! The parts that other tests stand on do what their helpers say of them.
//!
//! When one of these fails, the installation is broken, not headwater.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::{io::Read, net::Ipv4Addr};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use support::{
    certificates::Authority,
    decoders::{Library, UserRecord, deaggregate},
    kinesalite::Kinesalite,
    kinesis::StreamRecord,
    mosquitto::{Clients, Mosquitto},
    moto::Moto,
    part::Part,
    process::headwater,
    publisher::Publisher,
    serial::SerialLine,
    within,
};
use tokio::process::Command;

/// `dev-1: "hello"`, `dev-2: ""`, `dev-1: 00 FF`, made by PyPI's `aws_kinesis_agg` aggregator.
const THREE_RECORDS: &str = "f3899ac20a056465762d310a056465762d321a0908001a0568656c6c6f1a0408011a001a0608001a0200ff\
                             310f620b2bcc4dc890116c0ba020f9e9";
/// `dev-1: "hello"`, `dev-2: "world"`, both with the explicit hash key MD5("gw-7"), made by the same.
const EXPLICIT_HASH_KEYS: &str = "f3899ac20a056465762d310a056465762d321226363632373331373235373837363138323136393139303332\
                                  32383533393438333436393030391a0b080010001a0568656c6c6f1a0b080110001a05776f726c64\
                                  e26dddbf31c49427b6c517259ee4442d";

#[tokio::test]
async fn a_broker_hands_on_what_is_published_at_every_qos() {
    let broker = Mosquitto::new().start().await;
    let mut subscriber = Subscriber::of(broker.port(), "listener").await;
    let mut sensor = Publisher::to(&broker, "sensor");

    for qos in 0..=2 {
        sensor.publish("plant/1/temp", format!("at {qos}"), qos).await;
    }

    assert_eq!(subscriber.next(3).await, ["at 0", "at 1", "at 2"]);
}

#[tokio::test]
async fn a_publisher_sends_far_more_than_the_broker_takes_at_once_and_keeps_the_order() {
    let broker = Mosquitto::new().max_inflight(0).max_queued(0).start().await;
    let mut subscriber = Subscriber::of(broker.port(), "listener").await;
    let mut sensor = Publisher::to(&broker, "sensor");

    let numbers = || (0..2_000).map(|n: u32| n.to_string());
    let ((), seen) = tokio::join!(sensor.publish_all(1, numbers().map(|n| ("plant/1/temp", n))), subscriber.next(2_000));

    assert!(seen.into_iter().eq(numbers()));
}

#[tokio::test]
async fn a_broker_that_is_stopped_keeps_its_sessions_and_messages() {
    let mut broker = Mosquitto::new().persistence().start().await;
    Subscriber::of(broker.port(), "listener").await.leaves().await;
    Publisher::to(&broker, "sensor").publish("plant/1/temp", "21.5", 1).await;

    broker.stop().await;
    broker.restart().await;

    assert_eq!(Subscriber::of(broker.port(), "listener").await.next(1).await, ["21.5"]);
}

#[tokio::test]
async fn a_broker_that_is_killed_starts_again_on_its_port() {
    let mut broker = Mosquitto::new().start().await;
    let mut sensor = Publisher::to(&broker, "sensor");
    sensor.publish("plant/1/temp", "before", 1).await;
    let port = broker.port();

    broker.kill().await;
    broker.restart().await;

    assert_eq!(broker.port(), port);
    sensor.publish("plant/1/temp", "after", 1).await;
}

#[tokio::test]
async fn a_broker_with_a_password_refuses_a_stranger() {
    let broker = Mosquitto::new().password("gateway", "secret").start().await;
    let (_client, mut events) = AsyncClient::new(MqttOptions::new("stranger", Ipv4Addr::LOCALHOST.to_string(), broker.port()), 1);

    let answer = within("an answer", || broker.log(), events.poll()).await;

    assert!(answer.is_err_and(|refusal| refusal.to_string().contains("NotAuthorized")));
}

#[tokio::test]
async fn a_broker_with_tls_proves_its_name_and_knows_its_clients() {
    let authority = Authority::new();
    let broker = Mosquitto::new().tls(&authority, Clients::WithCertificate).start().await;
    let (certificate, key) = authority.client("gateway");
    let mut options = MqttOptions::new("gateway", "localhost", broker.port());
    options.set_transport(rumqttc::Transport::tls_with_config(tls_of(&authority, &certificate, &key).into()));
    let (_client, mut events) = AsyncClient::new(options, 1);

    let answer = within("an answer", || broker.log(), events.poll()).await;

    assert!(matches!(answer, Ok(Event::Incoming(Packet::ConnAck(_)))), "{answer:?}; {}", broker.log());
    assert!(broker.url().starts_with("mqtts://localhost:"));
}

#[tokio::test]
async fn a_device_that_is_unplugged_ends_the_line_and_comes_back_under_its_name() {
    let mut line = SerialLine::new();
    let mut reader = open(&line);
    line.sends("first\r\n").await;
    assert_eq!(read(&mut reader, 7), b"first\r\n");

    line.unplug();
    assert!(!line.path().exists());
    assert!(matches!(reader.read(&mut [0; 8]), Ok(0)));

    line.plug_in();
    let mut reader = open(&line);
    line.sends([0, 3, 4, 0xFF]).await; // bytes that a cooked line would swallow
    assert_eq!(read(&mut reader, 4), [0, 3, 4, 0xFF]);
}

#[tokio::test]
async fn what_is_put_into_kinesalite_comes_back_in_order_through_a_split() {
    let cloud = Kinesalite::start().await;
    cloud.create_stream("readings", 1).await;
    put(&cloud, "before").await;

    let split = cloud.split_shard().stream_name("readings").shard_to_split("shardId-000000000000");
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
    cloud.active("readings").await;
    put(&cloud, "after").await;

    let records = cloud.records("readings").await;
    let texts: Vec<_> = records.iter().map(text).collect();
    assert_eq!(texts, ["before", "after"]);
    assert_ne!(records[0].shard, records[1].shard);
    cloud.stop().await;
}

#[tokio::test]
async fn what_is_put_into_moto_by_its_arn_comes_back() {
    let cloud = Moto::start().await;
    cloud.create_stream("readings", 1).await;
    let summary = cloud.describe_stream_summary().stream_name("readings").send().await.unwrap();
    let arn = summary.stream_description_summary.unwrap().stream_arn;

    cloud.put_record().stream_arn(arn).partition_key("a").data(b"21.5".to_vec().into()).send().await.unwrap();

    assert_eq!(cloud.records("readings").await.iter().map(text).collect::<Vec<_>>(), ["21.5"]);
    cloud.stop().await;
}

#[tokio::test]
async fn both_decoders_read_an_aggregate_that_a_third_one_made() {
    for library in Library::ALL {
        let answers = deaggregate(library, [("a", &*bytes(THREE_RECORDS)), ("a", &*bytes(EXPLICIT_HASH_KEYS))]).await;

        let hash_key = "66273172578761821691903228539483469009";
        assert_eq!(
            answers,
            [
                Ok(vec![user("dev-1", None, 0, b"hello"), user("dev-2", None, 1, b""), user("dev-1", None, 2, b"\0\xFF")]),
                Ok(vec![user("dev-1", Some(hash_key), 0, b"hello"), user("dev-2", Some(hash_key), 1, b"world")]),
            ],
            "{library:?}"
        );
    }
}

#[tokio::test]
async fn a_decoder_passes_a_plain_record_on_and_does_not_take_a_damaged_one_apart() {
    let mut damaged = bytes(THREE_RECORDS);
    *damaged.last_mut().unwrap() ^= 1;
    let records = || [("a", &b"plain"[..]), ("a", &*damaged)];

    let python = deaggregate(Library::Python, records()).await;
    let javascript = deaggregate(Library::JavaScript, records()).await;

    assert_eq!(python, [Ok(vec![user("a", None, 0, b"plain")]), Ok(vec![user("a", None, 0, &damaged)])]);
    assert_eq!(javascript, [Ok(vec![user("a", None, 0, b"plain")]), Err("Invalid record checksum".into())]);
}

#[tokio::test]
async fn a_part_that_is_stopped_says_how_it_ended_and_what_it_said() {
    let script = "trap 'echo stopping >&2; exit 7' TERM; echo ready; while :; do read -r _ </dev/null; done";
    let mut part = Part::start("shell", Command::new("sh").args(["-c", script]));
    part.out.line_with("ready").await;

    let end = part.terminate().await;

    assert_eq!(end.code(), Some(7));
    assert_eq!(part.err.to_the_end().await, "stopping");
}

#[tokio::test]
async fn the_binary_of_this_build_is_the_one_that_runs() {
    assert!(headwater(["--version"]).await.status.success());
}

/// A client with a persistent session that listens to everything.
struct Subscriber {
    client: AsyncClient,
    events: EventLoop,
    seen: Vec<String>,
}

impl Subscriber {
    async fn of(port: u16, client_id: &str) -> Self {
        let mut options = MqttOptions::new(client_id, Ipv4Addr::LOCALHOST.to_string(), port);
        options.set_clean_session(false);
        let (client, events) = AsyncClient::new(options, 8);
        client.subscribe("#", QoS::ExactlyOnce).await.unwrap();
        let mut subscriber = Self { client, events, seen: Vec::new() };
        subscriber.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_)))).await;
        subscriber
    }

    async fn leaves(mut self) {
        self.client.disconnect().await.unwrap();
        self.until(|event| matches!(event, Event::Outgoing(rumqttc::Outgoing::Disconnect))).await;
    }

    async fn next(&mut self, messages: usize) -> Vec<String> {
        while self.seen.len() < messages {
            self.until(|event| matches!(event, Event::Incoming(Packet::Publish(_)))).await;
        }
        std::mem::take(&mut self.seen)
    }

    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        loop {
            let event = within("the broker speaks", || format!("{:?}", self.seen), self.events.poll()).await.unwrap();
            if let Event::Incoming(Packet::Publish(publish)) = &event {
                self.seen.push(String::from_utf8_lossy(&publish.payload).into_owned());
            }
            if wanted(&event) {
                return;
            }
        }
    }
}

fn tls_of(authority: &Authority, certificate: &str, key: &str) -> rustls::ClientConfig {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider().into();
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap()
}

fn open(line: &SerialLine) -> std::fs::File {
    std::fs::File::open(line.path()).unwrap()
}

fn read(from: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

async fn put(cloud: &Kinesalite, text: &str) {
    let put = cloud.put_record().stream_name("readings").partition_key("a").data(text.as_bytes().to_vec().into());
    put.send().await.unwrap();
}

fn text(record: &StreamRecord) -> &str {
    std::str::from_utf8(&record.data).unwrap()
}

fn user(partition_key: &str, explicit_hash_key: Option<&str>, sub: u64, data: &[u8]) -> UserRecord {
    UserRecord { partition_key: partition_key.into(), explicit_hash_key: explicit_hash_key.map(Into::into), sub, data: data.into() }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
