//! A Kinesis endpoint with TLS that looks at every reading it takes: which are missing, which came twice, which came late.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::stdin,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headwater::demo::kinesis::{Endpoint, Keep, Limits, Options, Sequence, StoredRecord, oracle};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::mpsc;

use super::{Outcome, payload, worker::Worker};

/// The stream that the figures are measured with.
pub const STREAM: &str = "plant-readings";
/// Kept for the look, and given up then.
const KEPT: usize = 64 << 20;

/// The process, as the others see it.
pub struct Cloud {
    worker: Worker,
    /// `https://127.0.0.1:PORT`.
    pub url: String,
}

/// What has arrived since the last order to forget.
#[derive(Clone, Debug, Default)]
pub struct Arrived(BTreeMap<String, u64>);

impl Arrived {
    /// One of its counts.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

impl Cloud {
    /// Starts an endpoint of `shards` shards, with the service's limits or without any. Its root certificate goes to `ca`.
    pub fn start(shards: u32, limits: bool, ca: &Path) -> Outcome<Self> {
        let limits = if limits { "limited" } else { "unlimited" };
        let mut worker = Worker::start(&["cloud", &shards.to_string(), limits, &ca.display().to_string()])?;
        let url = worker.hear("url")?;
        Ok(Self { worker, url })
    }

    /// `away`, `back`, `refuse PERCENT`, `forget`.
    pub fn tell(&mut self, order: &str) -> Outcome<()> {
        self.worker.tell(order)?;
        self.worker.hear("ok").map(drop)
    }

    /// Waits until `readings` different ones have arrived, or until nothing new came for a minute and a half: longer than the agent ever waits before it
    /// tries again.
    pub fn wait_for(&mut self, readings: u64) -> Outcome<Arrived> {
        self.worker.tell(&format!("wait {readings}"))?;
        let answer = self.worker.hear("arrived")?;
        let pairs = answer.split(' ').filter_map(|pair| pair.split_once('='));
        Ok(Arrived(pairs.map(|(name, value)| Ok((name.to_owned(), value.parse()?))).collect::<Outcome<_>>()?))
    }
}

/// What the process does until its orders end.
pub fn serve(args: &[&str]) -> Outcome<()> {
    let [shards, limits, ca] = args else { return Err("as cloud SHARDS LIMITS CA".into()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let limits = (*limits == "limited").then_some(Limits::SERVICE);
        let tls = Some(Arc::new(identity(Path::new(ca))?));
        let endpoint = Endpoint::start(Options { tls, limits, keep: Keep::LastBytes(KEPT), ..Options::default() }).await?;
        endpoint.create_stream(STREAM, shards.parse()?);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        tokio::spawn(look(endpoint.clone(), ledger.clone()));
        println!("url {}", endpoint.url());

        let (give, mut orders) = mpsc::channel(1);
        std::thread::spawn(move || stdin().lines().map_while(Result::ok).try_for_each(|line| give.blocking_send(line)));
        while let Some(order) = orders.recv().await {
            match order.split_once(' ') {
                None if order == "away" => endpoint.away(),
                None if order == "back" => endpoint.back(),
                None if order == "forget" => {
                    *lock(&ledger) = Ledger {
                        body: endpoint.counts().body_bytes,
                        refused: endpoint.counts().refused_records,
                        ..Ledger::default()
                    }
                }
                Some(("refuse", percent)) => endpoint.refuse_at_random(percent.parse()?, 42),
                Some(("wait", readings)) => {
                    wait(&ledger, readings.parse()?).await;
                    println!("arrived {}", lock(&ledger).told(&endpoint));
                    continue;
                }
                _ => return Err(format!("no such order: {order}").into()),
            }
            println!("ok");
        }
        Ok(())
    })
}

#[derive(Default)]
struct Ledger {
    seen: Vec<u8>,
    distinct: u64,
    again: u64,
    /// By sensor: the number that must be passed.
    last: BTreeMap<u64, u64>,
    disorder: u64,
    alien: u64,
    records: u64,
    delays: Vec<u32>,
    first: Option<i64>,
    latest: i64,
    /// Bytes of bodies, and records refused, before it began.
    body: u64,
    refused: u64,
}

impl Ledger {
    fn take(&mut self, record: &StoredRecord) {
        self.records += 1;
        self.first.get_or_insert(record.arrived.0);
        self.latest = record.arrived.0;
        let Ok(users) = oracle::user_records(record) else {
            self.alien += 1;
            return;
        };
        for user in users {
            let Some((number, published)) = payload::read(&user.data) else {
                self.alien += 1;
                continue;
            };
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            if self.seen.len() <= place {
                self.seen.resize(place + 1, 0);
            }
            if self.seen[place] > 0 {
                self.again += 1;
                continue;
            }
            self.seen[place] = 1;
            self.distinct += 1;
            let last = self.last.entry(number % payload::SENSORS).or_default();
            self.disorder += u64::from(number < *last);
            *last = number.max(*last);
            let arrived = record.arrived.0.unsigned_abs();
            self.delays.push(u32::try_from(arrived.saturating_sub(published / 1000)).unwrap_or(u32::MAX));
        }
    }

    fn told(&mut self, endpoint: &Endpoint) -> String {
        self.delays.sort_unstable();
        let delay = |part: f64| -> u64 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let place = (self.delays.len() as f64 * part) as usize;
            self.delays.get(place.min(self.delays.len().saturating_sub(1))).copied().unwrap_or_default().into()
        };
        let counts = endpoint.counts();
        let mut told = String::new();
        let pairs = [
            ("distinct", self.distinct),
            ("again", self.again),
            ("disorder", self.disorder),
            ("alien", self.alien),
            ("records", self.records),
            ("p50", delay(0.5)),
            ("p99", delay(0.99)),
            ("body", counts.body_bytes - self.body),
            ("refused", counts.refused_records - self.refused),
            ("took_ms", self.latest.abs_diff(self.first.unwrap_or(self.latest))),
        ];
        for (name, value) in pairs {
            let _ = write!(told, "{name}={value} "); // into a string, which cannot fail
        }
        told.trim_end().to_owned()
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(endpoint: Endpoint, ledger: Arc<Mutex<Ledger>>) {
    let mut last = Sequence::default();
    loop {
        let fresh = endpoint.wait_for(|store| {
            let fresh: Vec<_> = store.records(STREAM).filter(|record| record.sequence > last).cloned().collect();
            (!fresh.is_empty()).then_some(fresh)
        });
        let fresh = fresh.await;
        let mut ledger = lock(&ledger);
        for record in &fresh {
            ledger.take(record);
            last = record.sequence;
        }
    }
}

async fn wait(ledger: &Mutex<Ledger>, readings: u64) {
    let (mut before, mut quiet) = (u64::MAX, 0);
    while quiet < 9000 {
        let distinct = lock(ledger).distinct;
        if distinct >= readings {
            return;
        }
        quiet = if distinct == before { quiet + 1 } else { 0 };
        before = distinct;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server certificate for 127.0.0.1, from an authority whose own goes to `ca`.
fn identity(ca: &Path) -> Outcome<rustls::ServerConfig> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    fs::write(ca, params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?)?)
}
