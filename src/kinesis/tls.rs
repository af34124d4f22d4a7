//! Why TLS failed, as far as it is something that a person at the gateway can act on.

use std::{error::Error, fmt};

use rustls::{CertificateError, Error as TlsError, pki_types::UnixTime};

use super::trouble::causes;
use crate::{clock, reading::Timestamp, units::format_utc};

/// The error of TLS among `error` and its causes, however deep: it passes through the SDK and its HTTP client.
pub(super) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// A certificate that is not valid at what this gateway's clock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untimely {
    /// Whose it is.
    host: String,
    now: Timestamp,
    /// When its validity begins or ended, as far as is known.
    bound: Option<Timestamp>,
    early: bool,
}

impl Untimely {
    /// What `error` says of the certificate of `host`, if it is about time.
    pub(super) fn of(host: &str, error: &(dyn Error + 'static)) -> Option<Self> {
        let TlsError::InvalidCertificate(why) = tls_error(error)? else { return None };
        let time = |time: &UnixTime| Timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000));
        let (now, bound, early) = match why {
            CertificateError::NotValidYetContext { time: now, not_before } => (time(now), Some(time(not_before)), true),
            CertificateError::NotValidYet => (clock::now(), None, true),
            CertificateError::ExpiredContext { time: now, not_after } => (time(now), Some(time(not_after)), false),
            CertificateError::Expired => (clock::now(), None, false),
            _ => return None,
        };
        Some(Self { host: host.to_owned(), now, bound, early })
    }
}

impl fmt::Display for Untimely {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { host, now, bound, early } = self;
        let bound = bound.map_or("another time".to_owned(), format_utc);
        let now = format_utc(*now);
        if *early {
            write!(
                f,
                "this gateway's clock is wrong: it says {now}, and the certificate of {host} is valid from {bound}; let it reach a time \
                 server (timedatectl tells) or set it"
            )
        } else {
            write!(
                f,
                "this gateway's clock says {now}, and the certificate of {host} was valid until {bound}; check the clock first \
                 (timedatectl tells), and if it is right, have that certificate renewed"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("dispatch failure")]
    struct Outer(#[source] io::Error);

    fn in_layers(error: TlsError) -> Outer {
        Outer(io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_certificate_of_the_future_tells_that_the_clock_is_wrong() {
        let error = CertificateError::NotValidYetContext { time: at(0), not_before: at(1_795_219_200) };

        let untimely = Untimely::of("kinesis.example", &in_layers(error.into())).unwrap();

        let text = untimely.to_string();
        assert!(text.starts_with("this gateway's clock is wrong: it says 1970-01-01"), "{text}");
        assert!(text.contains("kinesis.example") && text.contains("2026-11-21") && text.contains("timedatectl"), "{text}");
    }

    #[test]
    fn a_certificate_of_the_past_may_be_the_clocks_fault_or_its_own() {
        let text = Untimely::of("kinesis.example", &in_layers(CertificateError::Expired.into())).unwrap().to_string();
        assert!(text.contains("check the clock first") && text.contains("certificate renewed"), "{text}");
    }

    #[test]
    fn other_failures_have_nothing_to_do_with_time() {
        assert_eq!(Untimely::of("h", &in_layers(CertificateError::UnknownIssuer.into())), None);
        assert_eq!(Untimely::of("h", &in_layers(TlsError::HandshakeNotComplete)), None);
        assert_eq!(Untimely::of("h", &Outer(io::ErrorKind::ConnectionReset.into())), None);
    }
}
