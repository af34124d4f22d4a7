//! What can go wrong with a request, and what follows from it.
//!
//! Invariant: a request is called *unreachable* only when not one byte of it can have left, and *refused* only when the service said
//! so. Everything else is *unknown*: it may have been stored.

use std::{error::Error, fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    credentials::{CredentialsError, Fault},
    guard::PublicAddress,
    tls::Untimely,
    trouble::Trouble,
    verdict::{Refusal, Verdict, verdict},
};

/// The error behind an error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A destination's settings can't be used. Nothing was tried over the network.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The region is empty, or its public endpoint has a name that we don't know.
    #[error("{region:?} does not lead to an endpoint; write for example region = \"eu-west-1\", or set `endpoint`")]
    Region {
        /// As configured.
        region: String,
    },
    /// The endpoint is not a plain URL.
    #[error("the endpoint {url:?} {why}; write for example \"https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com\"")]
    Endpoint {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The proxy's URL is not one.
    #[error("the proxy {url:?} can't be used; write for example \"http://proxy.example:3128\"")]
    Proxy {
        /// As configured.
        url: String,
        /// Why not.
        source: Cause,
    },
    /// The endpoint is itself an address that may not be connected to.
    #[error("private_only refuses the endpoint {url}; write the name of the VPC endpoint, or add the address to allow_addresses")]
    Public {
        /// As configured.
        url: Arc<str>,
        /// Which address that is.
        source: PublicAddress,
    },
    /// The file with the roots is not there, or holds no certificate.
    #[error("no root certificates in {}; `ca` names a PEM file that begins with -----BEGIN CERTIFICATE-----", path.display())]
    Ca {
        /// As configured.
        path: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// The system trusts nobody.
    #[error("this system has no root certificates; install its package ca-certificates, or set `ca`")]
    NoRoots,
    /// The credentials provider's endpoint is not a plain URL.
    #[error(
        "{url:?} is no endpoint of a credentials provider; write for example \"https://c1a2b3.credentials.iot.eu-west-1.amazonaws.com\""
    )]
    CredentialsEndpoint {
        /// As configured.
        url: String,
    },
    /// A file with a key, a certificate or a secret can't be used.
    #[error(transparent)]
    Credentials(CredentialsError),
}

/// A service that takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Kinesis Data Streams.
    Kinesis,
    /// Amazon Data Firehose.
    Firehose,
}

impl Service {
    /// As in the names of its endpoints and of its permissions.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kinesis => "kinesis",
            Self::Firehose => "firehose",
        }
    }

    /// What a put needs to be allowed.
    fn put(self) -> &'static str {
        match self {
            Self::Kinesis => "kinesis:PutRecords",
            Self::Firehose => "firehose:PutRecordBatch",
        }
    }

    /// What else may be wrong with a stream that takes no records.
    fn source(self) -> &'static str {
        match self {
            Self::Kinesis => "",
            Self::Firehose => ", and that its source is Direct PUT",
        }
    }

    /// How to get more throughput.
    fn more(self) -> &'static str {
        match self {
            Self::Kinesis => "add shards",
            Self::Firehose => "ask AWS for a higher quota of this Firehose stream",
        }
    }
}

/// A stream at an endpoint, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which service it is of.
    pub service: Service,
    /// The stream's name.
    pub stream: String,
    /// The endpoint's URL.
    pub endpoint: Arc<str>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = match self.service {
            Service::Kinesis => "stream",
            Service::Firehose => "Firehose stream",
        };
        write!(f, "{kind} {} at {}", self.stream, self.endpoint)
    }
}

/// A put that failed as a whole.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "every variant says the same two things: on what, and why")]
pub enum PutError {
    /// Nothing was sent: no name, no route, no connection, no TLS.
    #[error("{target} is out of reach; {}", source.remedy())]
    Unreachable { target: Target, source: Trouble },
    /// Nothing was sent, because it would have gone to a public address.
    #[error(
        "{target} is not sent to; turn on private DNS of the VPC endpoint, give a hand-made zone the right name, keep the name \
         server from stripping private answers (rebind protection), or pin the address in `resolve`; it is tried again every minute"
    )]
    Public { target: Target, source: PublicAddress },
    /// It was sent, and no answer came that can be trusted: it may have been stored.
    #[error("{target} gave no valid answer; what was sent may be stored, and is sent again under the same names; {}", source.remedy())]
    Unknown { target: Target, source: Trouble },
    /// More than the stream or the account takes now.
    #[error("{target} takes no more at the moment; for more throughput, {}", target.service.more())]
    Throttled { target: Target, source: Cause },
    /// The service, or something in front of it, failed.
    #[error("{target} is not in service; it is tried again until it is")]
    Unavailable { target: Target, source: Cause },
    /// We have no credentials, and know why.
    #[error("no credentials for {target}: {}", why.in_full())]
    NoCredentials { target: Target, why: Arc<CredentialsError>, pause: Option<Duration> },
    /// Nothing was sent: this gateway's clock is not within the validity of the endpoint's certificate.
    #[error("{target} is out of reach: {untimely}")]
    Untimely { target: Target, untimely: Untimely },
    /// Ours are expired, unknown or signed at the wrong time.
    #[error("no valid credentials for {target}; check `credentials`, `region` and this gateway's clock")]
    Credentials { target: Target, source: Cause },
    /// Known credentials that may not do this, or a key that may not be used.
    #[error(
        "{target} denies access; allow {} to our role and in the endpoint's policy, and the stream's KMS key",
        target.service.put()
    )]
    Denied { target: Target, source: Cause },
    /// No such stream for this account in this region, or not now.
    #[error(
        "{target} does not exist or is not ready; check `stream`, `region` and which account the credentials are for{}",
        target.service.source()
    )]
    NoStream { target: Target, source: Cause },
    /// Something on the way takes only smaller requests.
    #[error("{target} takes no request of this size; where a proxy stands in front of it, raise its limit to 15 MB")]
    TooLarge { target: Target, source: Cause },
    /// The request can't be taken as it is, now or later: one record in it is enough for that.
    #[error(
        "{target} refuses the request as it is; while it accepts nothing else no reading need be at fault: check `stream` and what \
         stands in front of the endpoint"
    )]
    Invalid { target: Target, source: Cause },
}

/// What follows from a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It passes by itself: the same again, after growing waits.
    Away,
    /// Nothing may be sent there: the same again every minute.
    Barred,
    /// Not an error: send slower.
    Throttled,
    /// New credentials will be asked for, and the clock's skew is known now: once more at once, then as [`Class::Held`].
    Credentials,
    /// A person has to act: the same again every minute.
    Held,
    /// Never the same again: smaller ones from now on, and for this one as [`Class::Invalid`].
    TooLarge,
    /// Never the same again: split it.
    Invalid,
}

impl Class {
    /// Whether the destination is out of reach, whatever is sent to it.
    pub fn is_away(self) -> bool {
        matches!(self, Self::Away | Self::Barred)
    }
}

impl PutError {
    /// What follows from it.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Untimely { .. } | Self::Unknown { .. } | Self::Unavailable { .. } => Class::Away,
            Self::NoCredentials { why, .. } if why.fault() == Fault::TheWay => Class::Away,
            Self::Public { .. } => Class::Barred,
            Self::Throttled { .. } => Class::Throttled,
            Self::Credentials { .. } => Class::Credentials,
            Self::NoCredentials { .. } | Self::Denied { .. } | Self::NoStream { .. } => Class::Held,
            Self::TooLarge { .. } => Class::TooLarge,
            Self::Invalid { .. } => Class::Invalid,
        }
    }

    /// Whether not one byte of the request can have left.
    pub fn was_not_sent(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Untimely { .. } | Self::NoCredentials { .. } | Self::Public { .. })
    }

    /// How long nothing is tried in any case, where that is known.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::NoCredentials { pause, .. } => *pause,
            _ => None,
        }
    }

    /// The service refused the request, with this word.
    pub(super) fn refused(target: Target, refusal: Refusal) -> Self {
        let verdict = refusal.verdict();
        let source = refusal.into();
        match verdict {
            Verdict::Throttled => Self::Throttled { target, source },
            Verdict::Unavailable => Self::Unavailable { target, source },
            Verdict::Credentials => Self::Credentials { target, source },
            Verdict::Denied => Self::Denied { target, source },
            Verdict::NoStream => Self::NoStream { target, source },
            Verdict::TooLarge => Self::TooLarge { target, source },
            Verdict::Invalid => Self::Invalid { target, source },
        }
    }
}

/// A stream that was not described.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are always: on what, and why")]
pub enum DescribeError {
    /// We may not ask.
    #[error(
        "we may not ask how {target} distributes records; allow kinesis:DescribeStreamSummary to our role and in the endpoint's policy"
    )]
    Denied { target: Target, source: Cause },
    /// The service answers, and does not say it.
    #[error("{target} did not say how it distributes records; it is asked again")]
    Unknown { target: Target, source: Cause },
    /// A put would fail too, and for this reason.
    #[error(transparent)]
    Failed(PutError),
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "every variant has the same two fields: on what, and why")]
pub enum ReadError {
    /// The position is too old: ask for a new one.
    #[error("the position in {target} has expired")]
    Expired { target: Target, source: Cause },
    /// Nothing was asked, because it would have gone to a public address.
    #[error("{target} is not asked; see `private_only`, `allow_addresses` and `resolve`")]
    Public { target: Target, source: PublicAddress },
    /// It passes by itself.
    #[error("{target} can't be read at the moment")]
    Passing { target: Target, source: Cause },
    /// A person has to act.
    #[error(
        "{target} can't be read; check `stream`, `region` and `credentials`, which must allow kinesis:ListShards, \
         kinesis:GetShardIterator and kinesis:GetRecords"
    )]
    Refused { target: Target, source: Cause },
}

impl ReadError {
    /// The service refused the request, with this word.
    pub(super) fn refused(target: Target, refusal: Refusal) -> Self {
        let passing = matches!(verdict(refusal.status, &refusal.code), Verdict::Throttled | Verdict::Unavailable);
        let expired = refusal.code == "ExpiredIteratorException";
        let source = refusal.into();
        match (expired, passing) {
            (true, _) => Self::Expired { target, source },
            (_, true) => Self::Passing { target, source },
            _ => Self::Refused { target, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str) -> Class {
        let target = Target { service: Service::Kinesis, stream: "plant".into(), endpoint: "https://kinesis.example".into() };
        PutError::refused(target, Refusal { status, code: code.into(), message: String::new() }).class()
    }

    #[test]
    fn every_documented_refusal_has_its_consequence() {
        for code in
            ["ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException", "KMSThrottlingException"]
        {
            assert_eq!(class(400, code), Class::Throttled, "{code}");
        }
        for code in ["InternalFailure", "InternalFailureException", "ServiceUnavailable", ""] {
            assert_eq!(class(500, code), Class::Away, "{code}");
        }
        for code in ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"] {
            assert_eq!(class(400, code), Class::Credentials, "{code}");
        }
        for code in ["IncompleteSignature", "MissingAuthenticationToken"] {
            assert_eq!(class(403, code), Class::Credentials, "{code}");
        }
        for code in ["AccessDeniedException", "KMSDisabledException", "KMSOptInRequired", "ResourceNotFoundException"] {
            assert_eq!(class(400, code), Class::Held, "{code}");
        }
        for code in ["ValidationException", "InvalidArgumentException", "SerializationException"] {
            assert_eq!(class(400, code), Class::Invalid, "{code}");
        }
        assert_eq!(class(413, ""), Class::TooLarge);
    }

    #[test]
    fn a_refusal_that_nobody_documented_is_waited_out() {
        assert_eq!(class(400, "BrandNewException"), Class::Away);
        assert_eq!(class(302, ""), Class::Away);
        assert_eq!(class(502, ""), Class::Away);
        assert_eq!(class(429, ""), Class::Throttled);
    }

    #[test]
    fn an_error_says_what_failed_on_what_and_what_to_do() {
        let target = Target { service: Service::Kinesis, stream: "plant".into(), endpoint: "https://kinesis.example".into() };
        let refusal = Refusal { status: 400, code: "AccessDeniedException".into(), message: "not you".into() };

        let error = PutError::refused(target, refusal);

        assert_eq!(
            error.to_string(),
            "stream plant at https://kinesis.example denies access; allow kinesis:PutRecords to our role and in the endpoint's \
             policy, and the stream's KMS key"
        );
        assert_eq!(error.source().unwrap().to_string(), "HTTP 400 AccessDeniedException: not you");
    }
}
