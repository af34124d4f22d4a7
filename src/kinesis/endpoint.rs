//! Which host we talk to, and at which of its addresses.
//!
//! Invariant: requests go to the configured hosts and to no other. That is why the endpoint is always given to the SDK, even the
//! region's public one: without it the SDK may pick an account's own host name, which an interface endpoint does not answer for.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use http::Uri;

use super::{ClientError, Service, guard::Guard};
use crate::config::KinesisConfig;

/// The URL of an endpoint, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Scheme, host and port, without a path.
    pub(super) url: Arc<str>,
    /// The host alone, a name or an address.
    pub(super) host: String,
    /// The port, given or implied.
    pub(super) port: u16,
    /// Whether the connection is encrypted. Only tests and the demo go without.
    pub(super) tls: bool,
}

impl Endpoint {
    /// The configured endpoints in their order, or the public one of the region; at least one.
    pub(super) fn all(service: Service, config: &KinesisConfig) -> Result<Vec<Self>, ClientError> {
        let region = config.region.as_str();
        let plausible = !region.is_empty() && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let refused = || ClientError::Region { region: region.to_owned() };
        // The isolated partitions have domains of their own, which are not ours to guess.
        if !plausible || (config.endpoint.is_empty() && region.contains("iso")) {
            return Err(refused());
        }
        if config.endpoint.is_empty() {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            // All of Kinesis that the US government has are FIPS endpoints. Source: the endpoint rules of the services' SDKs.
            let always_fips = service == Service::Kinesis && region.starts_with("us-gov-");
            let fips = if config.fips && !always_fips { "-fips" } else { "" };
            let url = format!("https://{}{fips}.{region}.{domain}", service.name());
            return Self::parse(&url).map(|endpoint| vec![endpoint]).map_err(|_| refused());
        }
        let parse = |url: &String| Self::parse(url).map_err(|why| ClientError::Endpoint { url: url.clone(), why });
        config.endpoint.iter().map(parse).collect()
    }

    fn parse(url: &str) -> Result<Self, &'static str> {
        let parsed: Uri = url.parse().map_err(|_| "is not a URL")?;
        let tls = match parsed.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("begins with neither https:// nor http://"),
        };
        let authority = parsed.authority().filter(|authority| !authority.host().is_empty()).ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user or a password, which has no meaning here");
        }
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return Err("has a path, which an endpoint of AWS does not have");
        }
        let port = match (authority.port(), tls) {
            (Some(port), _) => port.as_u16(),
            (None, true) => 443,
            (None, false) => 80,
        };
        let scheme = if tls { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{authority}").into(), host: authority.host().to_owned(), port, tls })
    }
}

/// Gives the endpoint's addresses that are permitted, each in its turn.
///
/// A regional endpoint has one address a zone, and the system's resolver always sorts them alike. One attempt to connect is over
/// before a dead address gives way to the next one, so after a failure the next attempt begins with another address.
#[derive(Clone, Debug)]
pub(super) struct Resolver(Arc<State>);

#[derive(Debug)]
struct State {
    guard: Guard,
    turn: AtomicUsize,
    last: Mutex<Option<IpAddr>>,
}

impl Resolver {
    /// Looks names up as `guard` permits.
    pub(super) fn new(guard: Guard) -> Self {
        Self(Arc::new(State { guard, turn: AtomicUsize::default(), last: Mutex::default() }))
    }

    /// Begins with another address next time.
    pub(super) fn next_turn(&self) {
        self.0.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The address that was tried first the last time; none for an endpoint that is an address itself.
    pub(super) fn last(&self) -> Option<IpAddr> {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveDnsError> {
        let found = self.0.guard.addresses(name).await.map_err(ResolveDnsError::new)?;
        let addresses = in_turn(found, self.0.turn.load(Ordering::Relaxed));
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = addresses.first().copied();
        Ok(addresses)
    }
}

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(self.resolve(name))
    }
}

/// `addresses`, beginning with another one each turn.
fn in_turn(mut addresses: Vec<IpAddr>, turn: usize) -> Vec<IpAddr> {
    if !addresses.is_empty() {
        let first = turn % addresses.len();
        addresses.rotate_left(first);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(region: &str, endpoint: Option<&str>) -> Result<Endpoint, String> {
        let endpoint = endpoint.into_iter().collect();
        let config = KinesisConfig { region: region.into(), endpoint, ..KinesisConfig::default() };
        Endpoint::all(Service::Kinesis, &config).map(|all| all[0].clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn endpoints_keep_their_order() {
        let endpoint = ["https://vpce.example", "https://vpce-a.example"].into_iter().collect();
        let config = KinesisConfig { region: "eu-west-1".into(), endpoint, ..KinesisConfig::default() };
        let urls = Endpoint::all(Service::Kinesis, &config).unwrap().into_iter().map(|end| end.url.to_string());
        assert_eq!(urls.collect::<Vec<_>>(), ["https://vpce.example", "https://vpce-a.example"]);
    }

    #[test]
    fn fips_has_public_names_of_its_own() {
        let url = |service, region: &str| {
            let config = KinesisConfig { region: region.into(), fips: true, ..KinesisConfig::default() };
            Endpoint::all(service, &config).unwrap()[0].url.to_string()
        };
        assert_eq!(url(Service::Kinesis, "us-east-1"), "https://kinesis-fips.us-east-1.amazonaws.com");
        assert_eq!(url(Service::Kinesis, "us-gov-west-1"), "https://kinesis.us-gov-west-1.amazonaws.com");
        assert_eq!(url(Service::Firehose, "us-east-1"), "https://firehose-fips.us-east-1.amazonaws.com");
        assert_eq!(url(Service::Firehose, "us-gov-east-1"), "https://firehose-fips.us-gov-east-1.amazonaws.com");
    }

    #[test]
    fn without_an_endpoint_the_regions_public_one_is_used() {
        assert_eq!(&*endpoint("eu-west-1", None).unwrap().url, "https://kinesis.eu-west-1.amazonaws.com");
        assert_eq!(&*endpoint("cn-north-1", None).unwrap().url, "https://kinesis.cn-north-1.amazonaws.com.cn");
        assert!(endpoint("us-iso-east-1", None).unwrap_err().contains("set `endpoint`"));
        assert!(endpoint("", None).unwrap_err().contains("eu-west-1"));
        assert!(endpoint("evil.example/", None).is_err());
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        let given = endpoint("eu-west-1", Some("https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com/")).unwrap();
        assert_eq!(&*given.url, "https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com");
        assert_eq!((given.port, given.tls), (443, true));

        let local = endpoint("eu-west-1", Some("http://127.0.0.1:4568")).unwrap();
        assert_eq!((&*local.url, local.port, local.tls), ("http://127.0.0.1:4568", 4568, false));

        for (wrong, why) in [
            ("kinesis.eu-west-1.amazonaws.com", "https://"),
            ("ftp://kinesis.example", "https://"),
            ("https://", "URL"),
            ("https://me:secret@kinesis.example", "password"),
            ("https://kinesis.example/stream", "path"),
            ("https://kinesis.example/?a=b", "path"),
        ] {
            let text = endpoint("eu-west-1", Some(wrong)).unwrap_err();
            assert!(text.contains(why) && text.contains(wrong), "{text}");
        }
    }

    #[test]
    fn every_address_of_a_name_has_its_turn() {
        let zones: Vec<IpAddr> = ["10.0.1.5", "10.0.2.5", "10.0.3.5"].map(|text| text.parse().unwrap()).to_vec();

        let first: Vec<IpAddr> = (0..4).map(|turn| in_turn(zones.clone(), turn)[0]).collect();

        assert_eq!(first, [zones[0], zones[1], zones[2], zones[0]]);
        assert_eq!(in_turn(zones, 1).len(), 3);
        assert!(in_turn(Vec::new(), 7).is_empty());
    }
}
