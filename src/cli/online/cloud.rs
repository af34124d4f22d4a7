//! The way to a destination: name, addresses, TLS, credentials, and each stream with a record that is not stored.
//!
//! A small record comes first, and at each endpoint one of full size behind it: where only the second gets no answer, something on the
//! way swallows large packets, as a VPN with a wrong MTU does.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Report, gateway};
use crate::{
    config::KinesisConfig,
    kinesis::{
        Broken, Client, ClientError, Firehose, PutError, Record, Rehearsal, Trial,
        guard::{HostError, PublicAddress},
        limits::OUR_MAX_RECORD,
    },
    status::{what_and_remedy, with_causes},
    units::{format_duration, format_utc},
};

/// For an answer to something small, the connection included.
const SMALL_WITHIN: Duration = Duration::from_secs(30);
/// For name, TCP and TLS of one endpoint.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
const NAME: &str =
    "compare it with the VPC endpoint's DNS names, check this gateway's name server, or pin the address in `resolve`";
const PRIVATE: &str = "turn on private DNS of the VPC endpoint, write its own name into `endpoint`, let the name server pass private \
                       answers on, or pin the address in `resolve`";
const TCP: &str = "check the VPN or the route, and that the endpoint's security group lets this network in";
const PROXY: &str = "check `proxy`, and whether it allows CONNECT to this host and port";
const MTU: &str = "this looks like a path that swallows large packets: lower the MTU of the VPN's interface (try 1300), or clamp the MSS on \
                   the router; on a slow link give it more time with --patience";

/// One destination.
pub(super) struct Cloud<'a> {
    pub(super) name: &'a str,
    pub(super) device: &'a str,
    /// Names in the cloud.
    pub(super) streams: &'a [&'a str],
    /// For a record of full size.
    pub(super) patience: Duration,
}

impl Cloud<'_> {
    pub(super) async fn kinesis(&self, config: &KinesisConfig, report: &mut Report<'_>) -> io::Result<()> {
        let Some(client) = self.opened(Client::open(config).await, report)? else { return Ok(()) };
        for place in self.way(&client.trial(), config, report).await? {
            let mut full_size = true;
            for stream in self.streams {
                let passed = self.rehearse(&client, place, stream, None, report).await?;
                // One is enough for the way, and each is as large as a minute of a slow link.
                if passed && std::mem::take(&mut full_size) {
                    self.rehearse(&client, place, stream, Some(OUR_MAX_RECORD.as_len()), report).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn firehose(&self, config: &KinesisConfig, report: &mut Report<'_>) -> io::Result<()> {
        let Some(firehose) = self.opened(Firehose::open(config).await, report)? else { return Ok(()) };
        for place in self.way(&firehose.trial(), config, report).await? {
            for stream in self.streams {
                match firehose.knock(place, stream, SMALL_WITHIN).await {
                    Ok(()) => report.right(
                        self.name,
                        format!(
                            "stream {stream}: Firehose answers; it has no dry run, so the first reading tells whether we may use it"
                        ),
                    )?,
                    Err(error) => report.error(self.name, &error)?,
                }
            }
        }
        Ok(())
    }

    fn opened<T>(&self, opened: Result<T, ClientError>, report: &mut Report<'_>) -> io::Result<Option<T>> {
        match opened {
            Ok(client) => Ok(Some(client)),
            Err(error) => report.error(self.name, &error).map(|()| None),
        }
    }

    /// The places of the endpoints that can be talked to, as who we should be.
    async fn way(&self, trial: &Trial, config: &KinesisConfig, report: &mut Report<'_>) -> io::Result<Vec<usize>> {
        let mut places = Vec::new();
        if let Some(proxy) = &config.proxy {
            report.note(self.name, format!("everything goes through {proxy}, which looks names up itself"))?;
        }
        for (place, url) in trial.endpoints().enumerate() {
            let found = config.proxy.is_some() || self.finds(trial, place, url, report).await?;
            if found && self.reaches(trial, place, url, report).await? {
                places.push(place);
            }
        }
        let expiry = match tokio::time::timeout(SMALL_WITHIN, trial.credentials()).await {
            Ok(Ok(expiry)) => expiry,
            Ok(Err(error)) => {
                let (what, remedy) = what_and_remedy(&*error);
                let remedy = if PublicAddress::in_chain(&*error).is_some() { PRIVATE } else { &remedy };
                report.wrong(self.name, format!("no credentials: {what}"), remedy)?;
                return Ok(Vec::new());
            }
            Err(_) => {
                let what = format!("no credentials within {}", format_duration(SMALL_WITHIN));
                report.wrong(self.name, what, "check that whoever issues them can be reached")?;
                return Ok(Vec::new());
            }
        };
        report.right(
            self.name,
            match expiry {
                Some(expiry) => format!("credentials, until {}", format_utc(expiry)),
                None => "credentials, without an expiry".to_owned(),
            },
        )?;
        Ok(places)
    }

    async fn finds(&self, trial: &Trial, place: usize, url: &str, report: &mut Report<'_>) -> io::Result<bool> {
        let Ok(name) = tokio::time::timeout(CONNECT_WITHIN, trial.name(place)).await else {
            return self.no_answer(url, "the name server does not answer", NAME, report);
        };
        match name {
            Err(error) => self.no_answer(url, &with_causes(&error), NAME, report),
            Ok(addresses) if addresses.permitted.is_empty() => {
                let what = format!("it is at {}, and private_only refuses public addresses", list(&addresses.found));
                self.no_answer(url, &what, PRIVATE, report)
            }
            Ok(addresses) => {
                let left_out: Vec<_> =
                    addresses.found.iter().copied().filter(|address| !addresses.permitted.contains(address)).collect();
                let and = if left_out.is_empty() { String::new() } else { format!("; left out as public: {}", list(&left_out)) };
                report.right(self.name, format!("{url} is at {}{and}", list(&addresses.permitted)))?;
                Ok(true)
            }
        }
    }

    async fn reaches(&self, trial: &Trial, place: usize, url: &str, report: &mut Report<'_>) -> io::Result<bool> {
        match tokio::time::timeout(CONNECT_WITHIN, trial.handshake(place)).await {
            Err(_) => self.no_answer(url, &format!("no connection within {}", format_duration(CONNECT_WITHIN)), TCP, report),
            Ok(Err(Broken::Tcp(error @ HostError::Public(_)))) => self.no_answer(url, &error.to_string(), PRIVATE, report),
            Ok(Err(Broken::Tcp(error @ HostError::Proxy { .. }))) => self.no_answer(url, &with_causes(&error), PROXY, report),
            Ok(Err(Broken::Tcp(error))) => self.no_answer(url, &with_causes(&error), TCP, report),
            Ok(Err(Broken::Tls(trouble))) => self.no_answer(url, &format!("no TLS: {trouble}"), trouble.remedy(), report),
            Ok(Ok((address, Some(version)))) => {
                report.right(self.name, format!("{address} speaks {version}, with a certificate that we believe"))?;
                Ok(true)
            }
            Ok(Ok((address, None))) => {
                report.note(self.name, format!("{address} takes connections; readings are not encrypted on the way there"))?;
                Ok(true)
            }
        }
    }

    fn no_answer(&self, url: &str, why: &str, remedy: &str, report: &mut Report<'_>) -> io::Result<bool> {
        report.wrong(self.name, format!("{url}: {why}"), remedy)?;
        Ok(false)
    }

    /// Puts a record that is not stored; one of `size` bytes, or a small one.
    async fn rehearse(
        &self,
        client: &Client,
        place: usize,
        stream: &str,
        size: Option<usize>,
        report: &mut Report<'_>,
    ) -> io::Result<bool> {
        let within = if size.is_some() { self.patience } else { SMALL_WITHIN };
        let started = Instant::now();
        let put = client.rehearse(place, stream, self.record(size.unwrap_or_default()), within).await;
        let took = started.elapsed().as_millis();
        match (put, size) {
            (Ok(Rehearsal { stored: false, at }), size) => {
                let what = size.map_or_else(|| "a small record".to_owned(), |bytes| format!("a record of {} KiB", bytes >> 10));
                report.right(self.name, format!("stream {stream} would take {what}, says the service after {took} ms"))?;
                if let (Some(at), None) = (at, size) {
                    gateway::service_clock(at, report)?;
                }
                Ok(true)
            }
            (Ok(Rehearsal { stored: true, .. }), _) => {
                let what = "this endpoint does not know DryRun, as emulators do not, and has stored a record of the kind \"check\"";
                report.note(self.name, format!("stream {stream}: {what}"))?;
                Ok(false)
            }
            (Err(PutError::Unknown { source, .. }), Some(bytes)) => {
                let what = format!("stream {stream}: a small record is answered, and one of {} KiB is not ({source})", bytes >> 10);
                report.wrong(self.name, what, MTU)?;
                Ok(false)
            }
            (Err(error), _) => {
                report.error(self.name, &error)?;
                Ok(false)
            }
        }
    }

    /// A consumer that meets it takes it for no reading.
    fn record(&self, size: usize) -> Record {
        let mut data = format!(r#"{{"v":1,"dev":{:?},"kind":"check"}}"#, self.device).into_bytes();
        let partition_key = format!("{}/check", self.device);
        data.resize(data.len().max(size.saturating_sub(partition_key.len())), b' ');
        Record { partition_key, explicit_hash_key: None, data }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
