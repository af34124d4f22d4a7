//! What is read of a certificate: how long others accept it.

use x509_parser::parse_x509_certificate;

use crate::reading::Timestamp;

/// From when to when a certificate is accepted, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Earliest time.
    pub from: Timestamp,
    /// Latest time.
    pub to: Timestamp,
}

/// Of an X.509 certificate in DER; none when it is no such thing. Source: RFC 5280, section 4.1.2.5.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    let millis = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
    Some(Validity { from: millis(validity.not_before.timestamp()), to: millis(validity.not_after.timestamp()) })
}
