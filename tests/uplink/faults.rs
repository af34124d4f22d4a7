//! Endpoints that fail for hours, each in its own way: what that costs the gateway, and what becomes of the readings.
//!
//! The gateway lives faster than the test, and has a destination of its own for every fault, several times, so that thousands of
//! requests fail although each waits as long as it has to.

use std::{sync::Arc, time::Duration};

use headwater::demo::kinesis::{Endpoint, Failure, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    certificates::Authority,
    cloud::{Cloud, STREAM},
    consumer::ONCE,
    eventually, free_port,
    gateway::{Gateway, Plan},
    haste::Haste,
    line::Line,
};

/// Destinations of each fault.
const EACH: usize = 3;
/// How much faster the gateway lives.
const SPEED: i64 = 100;
/// Of each destination, before memory is looked at: by then all that is kept for one is there, and all waits are at their longest.
const FIRST: u64 = 10;
/// Of each destination, at the end.
const LAST: u64 = 60;
/// What two thousand failures may leave behind, the heap's holes included: half a KiB of each.
const LEFT_BEHIND: u64 = 1 << 20;
/// A processor has this for a failure in a build that is not optimized, a handshake of TLS included, and the time until the next one is a
/// second or more: a loop that spins takes all of that.
const PROCESSOR_TIME: Duration = Duration::from_millis(300);

/// Attempts in so much time: with waits of half a minute on average those of an hour are some hundred; a shard that is full is asked
/// every two seconds, since nothing but an answer tells that it is no longer.
fn most(fault: Fault, time: Duration) -> f64 {
    let wait = if fault == Fault::Throttling { 1.0 } else { 20.0 };
    10.0 + time.as_secs_f64() / wait
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cut,
    BlackHole,
    Impostor,
    Never,
    Refusing,
    Throttling,
    Failing,
    Lying,
    Interrupted,
}

const FAULTS: [Fault; 9] = [
    Fault::Cut,
    Fault::BlackHole,
    Fault::Impostor,
    Fault::Never,
    Fault::Refusing,
    Fault::Throttling,
    Fault::Failing,
    Fault::Lying,
    Fault::Interrupted,
];

/// A destination with a fault.
struct Side {
    fault: Fault,
    name: String,
    cloud: Cloud,
    line: Line,
    /// Who answers in its place.
    impostor: Option<Endpoint>,
}

impl Side {
    async fn new(fault: Fault, nth: usize) -> Self {
        let cloud = Cloud::start(Options { limits: None, ..Options::default() }, 1).await;
        let line = Line::to(cloud.address().port());
        let mut impostor = None;
        match fault {
            Fault::Cut => line.breaks(),
            Fault::BlackHole => line.falls_silent(),
            Fault::Impostor => {
                let tls = Some(Arc::new(Authority::new().server_config()));
                let stranger = Endpoint::start(Options { tls, ..Options::default() }).await.unwrap();
                line.leads_to(stranger.address().port());
                impostor = Some(stranger);
            }
            Fault::Never => cloud.fail_always(Some(Failure::Never)),
            Fault::Refusing => cloud.fail_always(Some(Failure::AccessDenied)),
            Fault::Throttling => cloud.fail_always(Some(Failure::RefuseEvery(1))),
            Fault::Failing => cloud.fail_always(Some(Failure::BadGateway)),
            Fault::Lying => cloud.fail_always(Some(Failure::TooFewRecords)),
            Fault::Interrupted => cloud.fail_always(Some(Failure::CloseBeforeStore)),
        }
        Self { fault, name: format!("{fault:?}-{nth}").to_lowercase(), cloud, line, impostor }
    }

    fn is_in(&self, plan: Plan) -> Plan {
        let at = |table: &str, key: &str| format!("{table}.{}.{key}", self.name);
        plan.stream(&self.name, STREAM)
            .set(&at("streams", "destination"), self.name.clone())
            .set(&at("streams", "aggregation"), "on")
            .set(&at("destinations", "kind"), "kinesis")
            .set(&at("destinations", "region"), "eu-west-1")
            .set(&at("destinations", "ca"), "{dir}/office.pem")
            .set(&at("destinations", "endpoint"), format!("https://127.0.0.1:{}", self.line.port()))
    }

    /// Requests that it was to take, however far they came.
    fn attempts(&self) -> u64 {
        self.cloud.counts().puts.max(self.line.tries().len() as u64)
    }

    fn is_mended(&mut self) {
        self.cloud.fail_always(None);
        self.line.leads_to(self.cloud.address().port());
        self.line.is_mended();
        self.impostor = None;
    }
}

/// Waits until each has been tried so often.
async fn each_is_tried(sides: &[Side], least: u64) {
    eventually(format_args!("{least} attempts each"), async || {
        let attempts: Vec<_> = sides.iter().map(|side| (&side.name, side.attempts())).collect();
        if attempts.iter().all(|(_, attempts)| *attempts >= least) { Ok(()) } else { Err(format!("{attempts:?}")) }
    })
    .await;
}

fn all(sides: &[Side]) -> u64 {
    sides.iter().map(Side::attempts).sum()
}

#[tokio::test]
async fn an_hour_of_whatever_fault_costs_no_memory_no_processor_and_no_attempt_before_its_time_and_then_the_backlog_drains() {
    let mut sides = Vec::new();
    for fault in FAULTS {
        for nth in 0..EACH {
            sides.push(Side::new(fault, nth).await);
        }
    }
    let plan = sides.iter().fold(Gateway::new(), |plan, side| side.is_in(plan));
    let mut gateway = plan.installs().await;
    let mut haste = Haste::of(&mut gateway.agent);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    let began = haste.now();
    gateway.field.publishes(20).await;
    haste.is(&gateway.agent, SPEED);
    each_is_tried(&sides, FIRST).await;

    haste.is(&gateway.agent, 1);
    let (memory, failed) = (gateway.agent.resident(), all(&sides));
    let (before, tried) = (gateway.agent.processor_time(), all(&sides));
    eventually("a few more attempts, in their own time", async || {
        let more = all(&sides) - tried;
        if more >= 5 { Ok(()) } else { Err(more) }
    })
    .await;
    let (processor, tried) = (gateway.agent.processor_time().saturating_sub(before), all(&sides) - tried);
    assert!(processor <= PROCESSOR_TIME * u32::try_from(tried).unwrap(), "{processor:?} for {tried}");

    haste.is(&gateway.agent, SPEED);
    each_is_tried(&sides, LAST).await;
    haste.is(&gateway.agent, 1);
    let (grown, failed) = (gateway.agent.resident().saturating_sub(memory), all(&sides) - failed);
    assert!(grown <= LEFT_BEHIND, "{grown} bytes more than before {failed} attempts failed");
    let passed = haste.now().saturating_sub(began);
    for side in &sides {
        assert!(side.attempts() as f64 <= most(side.fault, passed), "{}: {} attempts in {passed:?}", side.name, side.attempts());
    }

    let status = gateway.agent.status().await;
    for side in &sides {
        let [retries, throttled] =
            ["retries", "throttled"].map(|count| status.count(&format!("/streams/{}/lanes/0/{count}", side.name)));
        let refused = side.cloud.counts().refused_records;
        assert_eq!(throttled > 0, side.fault == Fault::Throttling, "{}: {throttled} of {refused}", side.name);
        // Whatever an answer told that came too late is not known.
        assert!(throttled <= refused, "{}: {throttled} of {refused}", side.name);
        assert!(retries > 0 || side.fault == Fault::Refusing, "{}: {retries}", side.name);
    }

    haste.is(&gateway.agent, SPEED / 10); // what is to succeed has the time for it
    sides.iter_mut().for_each(Side::is_mended);
    for side in &sides {
        side.cloud.takes_records(STREAM, 1).await;
    }
    haste.is(&gateway.agent, 1);
    gateway.agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await.balances();
    for side in &mut sides {
        let consumer = side.cloud.consumer(STREAM);
        consumer.lacks_nothing();
        assert!(consumer.has_all_of(gateway.field.sent()), "{}", side.name);
    }
    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn what_a_full_shard_refuses_of_the_upload_is_counted_to_the_byte() {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut gateway = Gateway::new().set("http.listen", listen.clone()).installs().await;
    gateway.cloud.fail_next(5, Failure::RefuseEvery(2));
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(50).await;
    gateway.everything_arrives().await;

    let told = metric(&listen, "headwater_upload_refused_bytes_total{destination=\"cloud\"}").await;
    let wasted = gateway.cloud.counts().refused_bytes;
    assert_eq!((told, wasted > 0), (wasted, true));
    let sent = metric(&listen, "headwater_upload_bytes_total{destination=\"cloud\"}").await;
    assert!(sent > wasted && sent <= gateway.cloud.counts().body_bytes, "{sent} of {:?}", gateway.cloud.counts());
    gateway.agent.stops().await;
}

/// What the agent tells a Prometheus of itself.
async fn metric(listen: &str, name: &str) -> u64 {
    let mut page = TcpStream::connect(listen).await.unwrap();
    page.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
}
