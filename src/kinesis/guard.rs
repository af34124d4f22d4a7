//! Which addresses a host has, and whether we may connect to them.
//!
//! Everything that the agent sends to the cloud passes here: readings, and what is asked for credentials. A name is looked up, or is
//! pinned, and of its addresses only those that are permitted are handed on; an address that stands in a URL is judged when a request
//! is about to be sent to it, because nobody looks it up.
//!
//! Invariant: every connection goes to an address that was judged a moment before, so no change of a name server leads anywhere else.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::dns::{DnsFuture, ResolveDns, ResolveDnsError, SharedDnsResolver},
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    trouble::causes,
    tunnel::{self, Proxy},
};
use crate::addresses::{Address, AddressRange, Permitted};

/// Of several addresses of a host, how long one may take before the next one is tried.
const ONE_ADDRESS: Duration = Duration::from_secs(5);

/// Judges the addresses of one destination; cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    rules: Arc<Rules>,
    names: SharedDnsResolver,
    proxy: Option<Arc<Proxy>>,
}

#[derive(Debug)]
struct Rules {
    permitted: Permitted,
    /// By host name in small letters.
    pins: BTreeMap<String, Vec<IpAddr>>,
}

/// Why a host is not connected to.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Nobody knows the name.
    #[error("{host} has no address here (a name server that strips private answers, \"rebind protection\", has this effect too)")]
    Unknown {
        /// The name.
        host: String,
        /// What the name server said.
        source: BoxError,
    },
    /// Its addresses are public.
    #[error(transparent)]
    Public(#[from] PublicAddress),
    /// The proxy does not lead there.
    #[error("the proxy gives no way to {host}")]
    Proxy {
        /// Whereto.
        host: String,
        /// What it said.
        source: io::Error,
    },
    /// It did not take the connection.
    #[error("no connection to {address}")]
    Away {
        /// The last address that was tried.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A host leads to public addresses only, and `private_only` refuses those.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {}, and private_only refuses public addresses", list(addresses))]
pub struct PublicAddress {
    /// As it was asked for.
    pub host: String,
    /// What it leads to.
    pub addresses: Vec<IpAddr>,
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl PublicAddress {
    /// The one among `error` and its causes, however deep: it passes through the SDK, its HTTP client and TLS.
    pub fn in_chain<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|error| match error.downcast_ref() {
            Some(HostError::Public(public)) => Some(public),
            _ => error.downcast_ref(),
        })
    }
}

/// The system's own way to look names up.
#[derive(Clone, Copy, Debug)]
pub struct SystemNames;

impl ResolveDns for SystemNames {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

impl Guard {
    /// Permits private addresses and `allow_addresses`, or, without `private_only`, all. A name in `resolve` has the addresses that
    /// stand there; all others are looked up as the system does it.
    pub fn new(private_only: bool, allow_addresses: &[AddressRange], resolve: &BTreeMap<String, Vec<Address>>) -> Self {
        let pin = |(host, addresses): (&String, &Vec<Address>)| {
            (plain(host).to_ascii_lowercase(), addresses.iter().map(|Address(address)| *address).collect())
        };
        let rules = Rules {
            permitted: Permitted { private_only, also: allow_addresses.to_vec() },
            pins: resolve.iter().map(pin).collect(),
        };
        Self { rules: Arc::new(rules), names: SharedDnsResolver::new(SystemNames), proxy: None }
    }

    /// The same, but that names which are not pinned are looked up in `names`.
    #[must_use]
    pub fn asking(self, names: impl ResolveDns + 'static) -> Self {
        Self { names: SharedDnsResolver::new(names), ..self }
    }

    /// The same, but that connections lead through `proxy`, which looks names up itself.
    #[must_use]
    pub(super) fn through(self, proxy: Option<Proxy>) -> Self {
        Self { proxy: proxy.map(Arc::new), ..self }
    }

    /// The addresses of `host` that may be connected to, at least one, in the order in which they should be tried. Where some are
    /// permitted and some are not, those that are not are left out.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, HostError> {
        let (found, permitted) = self.look_up(host).await?;
        if permitted.is_empty() { Err(PublicAddress { host: host.to_owned(), addresses: found }.into()) } else { Ok(permitted) }
    }

    /// All addresses of `host`, and those of them that may be connected to.
    pub async fn look_up(&self, host: &str) -> Result<(Vec<IpAddr>, Vec<IpAddr>), HostError> {
        let unknown = |source| HostError::Unknown { host: host.to_owned(), source };
        let found = match (literal(host), self.rules.pins.get(&plain(host).to_ascii_lowercase())) {
            (Some(address), _) => vec![address],
            (None, Some(pinned)) => pinned.clone(),
            (None, None) => self.names.resolve_dns(host).await.map_err(|error| unknown(error.into()))?,
        };
        if found.is_empty() {
            return Err(unknown("the name exists, without an address".into()));
        }
        let permitted = found.iter().copied().filter(|address| self.rules.permitted.contains(*address)).collect();
        Ok((found, permitted))
    }

    /// Refuses a host that is itself an address which may not be connected to. A name passes: it is judged when it is looked up.
    pub fn judge_literal(&self, host: &str) -> Result<(), PublicAddress> {
        match literal(host).filter(|address| !self.rules.permitted.contains(*address)) {
            Some(address) => Err(PublicAddress { host: host.to_owned(), addresses: vec![address] }),
            None => Ok(()),
        }
    }

    /// Connects to the first address of `host` that takes it, or to `host` by the proxy. The caller bounds the time.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, HostError> {
        let Some(proxy) = &self.proxy else { return self.dial(host, port).await };
        let stream = self.dial(&proxy.host, proxy.port).await?;
        tunnel::open(stream, host, port).await.map_err(|source| HostError::Proxy { host: host.to_owned(), source })
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, HostError> {
        let addresses = self.addresses(host).await?;
        let mut last = None;
        for (nth, address) in addresses.iter().enumerate() {
            let address = SocketAddr::new(*address, port);
            let patience = if nth + 1 < addresses.len() { ONE_ADDRESS } else { Duration::MAX };
            let source = match timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            last = Some(HostError::Away { address, source });
        }
        // `addresses` gives an error where there is none.
        Err(last.expect("a host has at least one address, and each was tried"))
    }
}

impl ResolveDns for Guard {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move { self.addresses(name).await.map_err(ResolveDnsError::new) })
    }
}

/// The address that `host`, of a URL, is itself.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// A name means the same with a dot at its end.
fn plain(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server that knows one answer to everything.
    #[derive(Debug)]
    struct Says(Vec<IpAddr>);

    impl ResolveDns for Says {
        fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
            DnsFuture::ready(Ok(self.0.clone()))
        }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn guard(private_only: bool, allowed: &[&str], pins: &[(&str, &[&str])], says: &[&str]) -> Guard {
        let allowed: Vec<AddressRange> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        let pins = pins.iter().map(|(host, texts)| ((*host).to_owned(), addresses(texts).into_iter().map(Address).collect()));
        Guard::new(private_only, &allowed, &pins.collect()).asking(Says(addresses(says)))
    }

    #[tokio::test]
    async fn a_name_that_leads_to_public_addresses_only_is_refused_with_them() {
        let error = guard(true, &[], &[], &["52.94.1.2", "52.94.1.3"]).addresses("kinesis.example").await.unwrap_err();

        let public = PublicAddress::in_chain(&error).expect("the reason can be told from others");
        assert_eq!(public, &PublicAddress { host: "kinesis.example".into(), addresses: addresses(&["52.94.1.2", "52.94.1.3"]) });
        assert_eq!(error.to_string(), "kinesis.example is at 52.94.1.2, 52.94.1.3, and private_only refuses public addresses");
    }

    #[tokio::test]
    async fn of_a_mixed_answer_the_private_addresses_are_used() {
        let found = guard(true, &[], &[], &["52.94.1.2", "10.0.2.5", "10.0.1.5"]).addresses("kinesis.example").await.unwrap();
        assert_eq!(found, addresses(&["10.0.2.5", "10.0.1.5"]));
    }

    #[tokio::test]
    async fn what_is_allowed_and_everything_without_the_rule_may_be_connected_to() {
        let carrier = guard(true, &["100.64.0.0/10"], &[], &["100.64.1.1"]);
        assert_eq!(carrier.addresses("kinesis.example").await.unwrap(), addresses(&["100.64.1.1"]));
        let open = guard(false, &[], &[], &["52.94.1.2"]);
        assert_eq!(open.addresses("kinesis.example").await.unwrap(), addresses(&["52.94.1.2"]));
    }

    #[tokio::test]
    async fn a_pinned_name_is_not_looked_up_and_its_address_is_judged_like_any_other() {
        let pins: &[(&str, &[&str])] = &[("VPCE.example", &["10.0.1.5"]), ("leak.example", &["52.94.1.2"])];
        let guard = guard(true, &[], pins, &["10.9.9.9"]);

        assert_eq!(guard.addresses("vpce.example").await.unwrap(), addresses(&["10.0.1.5"]));
        assert_eq!(guard.addresses("vpce.EXAMPLE.").await.unwrap(), addresses(&["10.0.1.5"]));
        assert_eq!(guard.addresses("other.example").await.unwrap(), addresses(&["10.9.9.9"]));
        assert!(matches!(guard.addresses("leak.example").await, Err(HostError::Public(_))));
    }

    #[tokio::test]
    async fn an_address_is_judged_without_a_look_up() {
        let guard = guard(true, &["169.254.170.2"], &[], &[]);

        for (host, permitted) in [
            ("52.94.1.2", false),
            ("[2a05:d018::1]", false),
            ("[::ffff:52.94.1.2]", false),
            ("169.254.169.254", false),
            ("169.254.170.2", true),
            ("10.0.1.5", true),
            ("[::1]", true),
            ("kinesis.example", true),
        ] {
            assert_eq!(guard.judge_literal(host).is_ok(), permitted, "{host}");
        }
        assert!(matches!(guard.connect("52.94.1.2", 443).await, Err(HostError::Public(_))));
    }

    #[tokio::test]
    async fn an_address_in_disguise_is_judged_when_the_system_has_read_it() {
        let guard = Guard::new(true, &[], &BTreeMap::new());

        // inet_aton(3) reads a whole number as 198.51.100.7, and Rust does not.
        guard.judge_literal("3325256711").unwrap();
        let error = guard.addresses("3325256711").await.unwrap_err();

        assert!(matches!(&error, HostError::Public(public) if public.addresses == addresses(&["198.51.100.7"])), "{error:?}");
    }

    #[tokio::test]
    async fn a_name_without_an_address_says_what_may_have_taken_it() {
        let error = guard(true, &[], &[], &[]).addresses("kinesis.example").await.unwrap_err();
        assert!(matches!(&error, HostError::Unknown { .. }) && error.to_string().contains("rebind protection"), "{error}");
    }

    #[tokio::test]
    async fn a_dead_address_gives_way_to_the_next_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nobody listens at the first one.
        let guard = guard(true, &[], &[], &["127.0.0.2", "127.0.0.1"]);

        let stream = guard.connect("kinesis.example", port).await.unwrap();

        assert_eq!(stream.peer_addr().unwrap().to_string(), format!("127.0.0.1:{port}"));
    }
}
