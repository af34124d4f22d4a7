//! Why there are no credentials, and what to do about it.
//!
//! Invariant: the text of each variant reads `WHAT; WHAT TO DO`, and nothing in it could be used as a credential.

use std::{path::PathBuf, time::Duration};

use super::{Fault, iot::Remedy};
use crate::{
    identity::{IdentityError, SecretFileError},
    kinesis::{Cause, guard::PublicAddress, tls::Untimely},
    status::what_and_remedy,
};

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "`endpoint` is a host, `command` a program, `source` the cause, in every variant")]
pub enum CredentialsError {
    /// The chain of the AWS tools found none.
    #[error(
        "there are no credentials where AWS tools look for them; set AWS_ACCESS_KEY_ID and its companions, or a `kind` of `credentials`"
    )]
    Chain { source: Cause },
    /// The first source in the chain can't be reached.
    #[error(
        "the source of credentials that AWS tools find here is out of reach; check the uplink, and the URL in the AWS_ variable or profile \
         that names it (STS: AWS_ENDPOINT_URL_STS, and PrivateLink has a VPC endpoint of its own for it)"
    )]
    SourceAway { source: Cause },
    /// The first source in the chain gives none.
    #[error(
        "the source of credentials that AWS tools find here gives none; check the AWS_ variables or the profile that name it, and try \
         `aws sts get-caller-identity` as the user that runs headwater"
    )]
    Source { source: Cause },
    /// The first source in the chain has not come to an end.
    #[error(
        "the source of credentials that AWS tools find here has not answered within {waited:?}; look whether a program that a profile names \
         hangs, and end it"
    )]
    NoAnswer { waited: Duration },
    /// The file of a secret key can't be used.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// Certificate and key can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No name, no route, no connection, no answer.
    #[error(
        "{endpoint} is out of reach; check the uplink, the name, and that port 443 is open (PrivateLink: a VPC endpoint of its own)"
    )]
    Unreachable { endpoint: String, source: Cause },
    /// Its addresses are public.
    #[error("{endpoint} is not asked; give its name a private address with `resolve`, or set private_only = false")]
    Public { endpoint: String, source: PublicAddress },
    /// Its certificate is from an authority that we don't know, or for another name.
    #[error("{endpoint} can't be trusted; `ca` names a file with Amazon Root CA 1, and `endpoint` is the name that AWS IoT gave")]
    Untrusted { endpoint: String, source: Cause },
    /// Its certificate and our clock don't agree.
    #[error("{0}")]
    Untimely(Untimely),
    /// It ended the connection for our certificate.
    #[error(
        "{endpoint} does not accept the certificate in {}; register it with AWS IoT in this account and region, and activate it", certificate.display()
    )]
    NotAccepted { endpoint: String, certificate: PathBuf, source: Cause },
    /// It says no.
    #[error("{endpoint} gives no credentials (HTTP {status}: {message}); {remedy}")]
    Refused { endpoint: String, status: u16, message: String, remedy: Remedy },
    /// It fails.
    #[error("{endpoint} is not in service (HTTP {status}: {message}); it is asked again until it is")]
    Unavailable { endpoint: String, status: u16, message: String },
    /// It says something else.
    #[error("what {endpoint} answers is not credentials: {shown}; check `endpoint`, and what stands in front of it")]
    Garbage { endpoint: String, shown: String, source: Cause },
    /// The program can't be started.
    #[error("{command:?} can't be started; check that `command` begins with the path of a program that this user may run")]
    NotStarted { command: String, source: std::io::Error },
    /// The program failed.
    #[error("{command:?} gave no credentials ({ended}, it says: {said}); run it by hand as the user that runs headwater")]
    Failed { command: String, ended: String, said: String },
    /// The program did not come to an end.
    #[error("{command:?} did not end within {waited:?}; run it by hand as the user that runs headwater")]
    Slow { command: String, waited: Duration },
    /// The program printed something else.
    #[error(
        "what {command:?} prints is not credentials: {shown}; it has to print JSON as credential_process does: Version 1, AccessKeyId, SecretAccessKey"
    )]
    Misprint { command: String, shown: String, source: Cause },
}

impl CredentialsError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused { .. } | Self::NotAccepted { .. } | Self::Chain { .. } | Self::Public { .. } => Fault::Ours,
            Self::Unreachable { .. } | Self::SourceAway { .. } | Self::Untimely(_) => Fault::TheWay,
            // Of the rest, what is wrong here may be put right any moment, and looking again costs little.
            _ => Fault::Theirs,
        }
    }

    /// On one line, causes included: `WHAT: WHY; WHAT TO DO`.
    pub fn in_full(&self) -> String {
        let (what, remedy) = what_and_remedy(self);
        format!("{what}; {remedy}")
    }
}
