//! The way to Amazon: region, endpoint, and which addresses it may have.

use std::net::IpAddr;

use super::{
    Problems,
    values::{is_host_name, read_url},
};
use crate::{
    addresses::Permitted,
    config::{KinesisConfig, QuietHours},
    units::{ByteCount, ByteRate},
};

/// Below this rate, not even one full reading arrives within a quarter of an hour.
const LEAST_RATE: ByteRate = ByteRate(1 << 10);
/// A month with less is used up by one full reading.
const LEAST_MONTH: ByteCount = ByteCount::mib(2);

pub(super) fn check(name: &str, service: &str, kinesis: &KinesisConfig, problems: &mut Problems) {
    region(name, &kinesis.region, problems);
    endpoints(name, service, kinesis, problems);
    proxy(name, kinesis, problems);
    addresses(name, kinesis, problems);
    metered(name, kinesis, problems);
}

fn region(name: &str, region: &str, problems: &mut Problems) {
    let at = ["destinations", name, "region"];
    let zone = region
        .strip_suffix(|last: char| last.is_ascii_lowercase())
        .filter(|rest| rest.ends_with(|last: char| last.is_ascii_digit()));
    if region.is_empty() {
        problems.missing(&at, "is missing; write for example region = \"eu-west-1\"");
    } else if let Some(whole) = zone {
        problems.wrong(&at, format!("is {region:?}, an availability zone; write {whole:?}"));
    } else if !region.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-') {
        problems.wrong(&at, format!("is {region:?}; write it as in \"eu-west-1\""));
    }
}

fn endpoints(name: &str, service: &str, kinesis: &KinesisConfig, problems: &mut Problems) {
    let at = |key| ["destinations", name, key];
    if kinesis.endpoint.is_empty() && kinesis.private_only {
        let text = "is not set, and the service's public name has private addresses only where a VPC endpoint's private DNS answers for \
                    it; write the endpoint's own name, or else private_only = false";
        problems.warn(&at("endpoint"), text).rests_on(&at("private_only"));
    }
    if !kinesis.endpoint.is_empty() && kinesis.fips {
        let text = "is true, and that is about the region's public name; remove it, and write a FIPS name into endpoint";
        problems.wrong(&at("fips"), text).rests_on(&at("endpoint"));
    }
    let example = format!("https://vpce-0123-abcd.{service}.eu-west-1.vpce.amazonaws.com");
    let mut tls = kinesis.endpoint.is_empty();
    for (n, endpoint) in kinesis.endpoint.iter().enumerate() {
        if kinesis.endpoint[..n].contains(endpoint) {
            problems.wrong(&at("endpoint"), format!("has {endpoint:?} twice; remove one")).element(n);
        }
        match read_url(endpoint, &["https", "http"], &example) {
            Err(what) => {
                tls = true;
                problems.wrong(&at("endpoint"), what).element(n);
            }
            Ok(url) => {
                tls |= url.scheme == "https";
                let literal = url.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
                let here = url.host == "localhost" || literal.is_some_and(|address| address.to_canonical().is_loopback());
                if url.scheme == "http" && !here {
                    let text =
                        format!("is {endpoint:?}, so readings go there unencrypted; write https://, or leave it to emulators");
                    problems.warn(&at("endpoint"), text).element(n);
                }
                let names = |service: &str| url.host.split('.').any(|part| part == service);
                if let Some(other) = ["kinesis", "firehose"].into_iter().find(|other| *other != service && names(other)) {
                    let text = format!(
                        "is {endpoint:?}, where {other} answers; write kind = {other:?}, or an endpoint such as {example:?}"
                    );
                    problems.warn(&at("endpoint"), text).element(n).rests_on(&at("kind"));
                }
                if let Some(address) = literal.filter(|address| !permitted(kinesis).contains(*address)) {
                    let text = format!(
                        "is {endpoint:?}, an address that private_only refuses; write the name of the VPC endpoint, or \
                         allow_addresses = [\"{address}\"]"
                    );
                    let problem = problems.wrong(&at("endpoint"), text).element(n);
                    problem.rests_on(&at("private_only")).rests_on(&at("allow_addresses"));
                }
            }
        }
    }
    if kinesis.ca.is_some() && !tls {
        let text = "is set, but the endpoint is not for TLS; write https:// in the endpoint or remove it";
        problems.wrong(&at("ca"), text).rests_on(&at("endpoint"));
    }
}

fn proxy(name: &str, kinesis: &KinesisConfig, problems: &mut Problems) {
    let at = ["destinations", name, "proxy"];
    let Some(proxy) = &kinesis.proxy else { return };
    if let Err(what) = read_url(proxy, &["http"], "http://proxy.example:3128") {
        problems.wrong(&at, what);
    }
    if kinesis.private_only {
        let text = "is set, and private_only = true can't see where a proxy connects to; write private_only = false, or remove it";
        problems.wrong(&at, text).rests_on(&["destinations", name, "private_only"]);
    }
}

fn addresses(name: &str, kinesis: &KinesisConfig, problems: &mut Problems) {
    let at = |key| ["destinations", name, key];
    for (n, range) in kinesis.allow_addresses.iter().enumerate() {
        if range.is_everything() {
            let text = format!("has \"{range}\", which is every address; write private_only = false, if that is meant");
            problems.wrong(&at("allow_addresses"), text).element(n);
        }
    }
    if !kinesis.private_only && !kinesis.allow_addresses.is_empty() {
        let text = "is set, and private_only = false allows every address already; remove one of the two";
        problems.warn(&at("allow_addresses"), text).rests_on(&at("private_only"));
    }
    for (host, pinned) in &kinesis.resolve {
        let at = ["destinations", name, "resolve", host];
        if !is_host_name(host) {
            let text = "is no host name; write the host alone, without https:// and without a port";
            problems.wrong(&at, text);
        } else if pinned.is_empty() {
            problems.wrong(&at, "has no address; write for example [\"10.0.1.5\"] or remove it");
        }
        for (n, address) in pinned.iter().enumerate().filter(|(_, address)| !permitted(kinesis).contains(address.0)) {
            let text = format!("has {address}, which private_only refuses; write a private address, or add it to allow_addresses");
            let problem = problems.wrong(&at, text).element(n);
            problem.rests_on(&["destinations", name, "private_only"]).rests_on(&["destinations", name, "allow_addresses"]);
        }
    }
}

fn metered(name: &str, kinesis: &KinesisConfig, problems: &mut Problems) {
    let at = |key| ["destinations", name, key];
    if let Some(rate) = kinesis.max_rate.filter(|rate| *rate < LEAST_RATE) {
        problems.wrong(&at("max_rate"), format!("is \"{rate}\", and nothing would ever arrive; write at least \"{LEAST_RATE}\""));
    }
    if let Some(bytes) = kinesis.max_bytes_per_month.filter(|bytes| *bytes < LEAST_MONTH) {
        let text = format!("is \"{bytes}\", which is a few requests; write at least \"{LEAST_MONTH}\"");
        problems.wrong(&at("max_bytes_per_month"), text);
    }
    if !QuietHours::leave_time(&kinesis.quiet_hours) {
        problems.wrong(&at("quiet_hours"), "are the whole day, so nothing would ever be sent; leave some time");
    }
}

fn permitted(kinesis: &KinesisConfig) -> Permitted {
    Permitted { private_only: kinesis.private_only, also: kinesis.allow_addresses.clone() }
}
