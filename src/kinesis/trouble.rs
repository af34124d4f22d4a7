//! What became of a request that nobody answered, in the words of somebody at the gateway.
//!
//! The SDK and its HTTP client wrap what happened in up to six layers of their own, each with a word for programmers.
//!
//! Invariant: nothing that is said of what failed holds "; ", which parts what is wrong from what to do.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    iter::successors,
    time::Duration,
};

use aws_smithy_runtime_api::client::result::ConnectorError;
use rustls::{CertificateError, Error as TlsError};

use super::{answer::harmless, guard::HostError};

/// `error` and its causes, however deep.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error: &&'a (dyn Error + 'static)| match error.downcast_ref::<io::Error>() {
        // It leaves out what it wraps from its own causes.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// What happened, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    what: String,
    remedy: &'static str,
}

const CA: &str = "set `ca` to a PEM file with the root of that authority, or leave `ca` out for an endpoint of AWS; a proxy that opens TLS \
                  has an authority of its own";
const CLOCK: &str = "check the clock first (timedatectl tells), and if it is right, have that certificate renewed";
const NAMES: &str = "write one of those names into `endpoint`, and pin its address in `resolve` where no name server knows it";
const PORT: &str = "check host and port in `endpoint`, and what stands in front of it";
const WAY: &str =
    "check the uplink, and whether routes, firewalls and the endpoint's security group let packets through to its port";
const REFUSED: &str = "check the port in `endpoint`: nothing listens there, or a firewall says no";
const LOOK_UP: &str = "check the name in `endpoint` and this gateway's name server, which may strip private answers (rebind protection), or pin \
                       the address in `resolve`";
const LATE: &str = "if that goes on, see whether large packets come through (`headwater check --online` tries one)";
const ENDED: &str = "if that goes on, see which proxy, firewall or router on the way ends connections";
const STRANGER: &str = "if that goes on, see what answers in its place: another service at that port, a proxy, a log-in page";

impl Trouble {
    /// No connection came about, because of `error`.
    pub(super) fn before(error: &(dyn Error + 'static)) -> Self {
        let closed = |how: &str| (format!("the connection was {how} before TLS was agreed on"), PORT);
        let (what, remedy) = tls(error).unwrap_or_else(|| match (found::<HostError>(error), kind(error)) {
            (Some(HostError::Unknown { host, .. }), _) => (format!("no name server knows {host} ({})", last(error)), LOOK_UP),
            _ if is_timeout(error) => ("nobody answers there, packets get no reply".into(), WAY),
            (_, Some(kind)) => match kind {
                ErrorKind::ConnectionRefused => ("the connection is refused".into(), REFUSED),
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ("there is no route to it".into(), WAY),
                ErrorKind::TimedOut => ("nobody answers there, packets get no reply".into(), WAY),
                ErrorKind::UnexpectedEof => closed("closed"),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => closed("reset"),
                _ => (last(error), WAY),
            },
            _ => (last(error), WAY),
        });
        Self { what, remedy }
    }

    /// There was a connection, and no answer that is one came on it, because of `error`.
    pub(super) fn after(error: &(dyn Error + 'static)) -> Self {
        let closed = |how: &str| (format!("the connection was {how} before the answer was complete"), ENDED);
        let (what, remedy) = tls(error).unwrap_or_else(|| match (found::<hyper::Error>(error), kind(error)) {
            (_, Some(kind)) => match kind {
                ErrorKind::TimedOut => ("packets on the connection get no reply any more".into(), WAY),
                ErrorKind::UnexpectedEof => closed("closed"),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => closed("reset"),
                _ => (last(error), ENDED),
            },
            (Some(hyper), None) if hyper.is_parse() => (format!("what came back is no HTTP ({})", last(error)), STRANGER),
            (Some(hyper), None) if hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled() => closed("closed"),
            _ => (format!("what came back is no answer of the service ({})", last(error)), STRANGER),
        });
        Self { what, remedy }
    }

    /// No answer came within `time`.
    pub(super) fn late(time: Duration) -> Self {
        Self { what: format!("no answer within {:.0} s", time.as_secs_f64().ceil()), remedy: LATE }
    }

    /// The same, with what came back.
    pub(super) fn showing(mut self, shown: Option<String>) -> Self {
        self.what.extend(shown.into_iter().flat_map(|shown| [": ".to_owned(), shown]));
        self
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        self.remedy
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Trouble {}

fn found<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What the system calls it.
fn kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.filter(|kind| *kind != ErrorKind::Other).last()
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    found::<ConnectorError>(error).is_some_and(ConnectorError::is_timeout)
}

/// The cause of all others.
fn last(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(|last| harmless(&last.to_string())).unwrap_or_default()
}

/// What TLS says, if it was that.
fn tls(error: &(dyn Error + 'static)) -> Option<(String, &'static str)> {
    Some(match found::<TlsError>(error)? {
        // A signature is bad when the authority has the name of one that is trusted, and another key.
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            ("its certificate comes from an authority that is not trusted here".into(), CA)
        }
        TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            (format!("its certificate is not for {}, but for {}", expected.to_str(), names(presented)), NAMES)
        }
        TlsError::InvalidCertificate(
            why @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        ) => (format!("its certificate is not valid at this gateway's time ({})", harmless(&why.to_string())), CLOCK),
        TlsError::InvalidCertificate(why) => (format!("its certificate can't be accepted ({})", harmless(&why.to_string())), CA),
        TlsError::InvalidMessage(_) => ("what listens there does not speak TLS".into(), PORT),
        TlsError::AlertReceived(alert) => (format!("it ended the TLS handshake ({alert:?})"), PORT),
        TlsError::PeerIncompatible(_) => ("it speaks no TLS that is safe, which is 1.2 or later".into(), PORT),
        other => (format!("TLS failed ({})", harmless(&other.to_string())), PORT),
    })
}

/// rustls has each as `DnsName("HOST")`.
fn names(presented: &[String]) -> String {
    let name = |text: &String| text.split('"').nth(1).unwrap_or(text).to_owned();
    if presented.is_empty() { "no name".into() } else { presented.iter().map(name).collect::<Vec<_>>().join(", ") }
}
