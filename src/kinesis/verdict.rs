//! What the service's own words mean.

use std::{error::Error, fmt};

/// The service's own word for why it refused a whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The error's name, such as `AccessDeniedException`; empty when the answer is not one of the service's.
    pub code: String,
    /// Its explanation, or the beginning of an answer that is not one of the service's.
    pub message: String,
}

impl Refusal {
    /// What it means.
    pub(super) fn verdict(&self) -> Verdict {
        match verdict(self.status, &self.code) {
            Verdict::Unavailable if self.code == SLOW_DOWN && self.message.starts_with("Slow down") => Verdict::Throttled,
            verdict => verdict,
        }
    }

    /// Whether it is the credentials, or the time of the signature, that the service does not accept.
    pub(super) fn is_of_credentials(&self) -> bool {
        self.verdict() == Verdict::Credentials
    }
}

impl Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { status, code, message } = self;
        match (code.as_str(), message.as_str()) {
            ("", "") => write!(f, "HTTP {status}, and not a word of AWS"),
            ("", page) => write!(f, "HTTP {status}, which is not of AWS: {page}"),
            (code, message) => write!(f, "HTTP {status} {code}: {message}"),
        }
    }
}

/// Firehose's word for both: it is out of order, or takes no more; the message tells which.
pub(super) const SLOW_DOWN: &str = "ServiceUnavailableException";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Throttled,
    Unavailable,
    Credentials,
    Denied,
    NoStream,
    TooLarge,
    Invalid,
}

/// The one table of what the service's words mean.
///
/// A word that it does not know comes from a newer service, or from a proxy in front of it: waiting is safe, and nothing is lost.
/// Source: Kinesis API Reference, `PutRecords` and "Common Error Types"; Firehose API Reference, `PutRecordBatch`.
pub(super) fn verdict(status: u16, code: &str) -> Verdict {
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "KMSThrottlingException" => Verdict::Throttled,

        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired" => Verdict::Credentials,

        "AccessDeniedException"
        | "AccessDenied"
        | "NotAuthorized"
        | "OptInRequired"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired"
        | "InvalidKMSResourceException" => Verdict::Denied,

        // The last: a Firehose stream that takes its records from elsewhere.
        "ResourceNotFoundException" | "ResourceInUseException" | "InvalidSourceException" => Verdict::NoStream,

        "ValidationException"
        | "ValidationError"
        | "InvalidArgumentException"
        | "SerializationException"
        | "MalformedHttpRequestException" => Verdict::Invalid,

        "RequestEntityTooLargeException" => Verdict::TooLarge,

        _ => match status {
            413 => Verdict::TooLarge,
            429 => Verdict::Throttled,
            _ => Verdict::Unavailable,
        },
    }
}
