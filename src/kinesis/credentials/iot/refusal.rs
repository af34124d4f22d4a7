//! What the AWS IoT credentials provider means when it gives none. Pure.

use std::fmt;

use serde::Deserialize;

use super::{CredentialsError, harmless};

/// What to do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy(&'static str);

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The beginnings of its messages, each with what a person has to do. Source: measured by the authors of
/// aws-iot-core-credential-provider-session-helper, `docs/dev_notes.md`; the last one is what another endpoint of AWS IoT says.
const REMEDIES: [(&str, Remedy); 7] = [
    ("Invalid thing name", Remedy("`thing_name` must be a thing that this certificate is attached to; or leave it out")),
    (
        "Access Denied",
        Remedy(
            "attach to the certificate an AWS IoT policy that allows iot:AssumeRoleWithCertificate on this role alias, and see that the \
             certificate is active",
        ),
    ),
    (
        "Certificate is invalid on this endpoint",
        Remedy(
            "`endpoint` must be that of the account and region where the certificate is registered: \
             aws iot describe-endpoint --endpoint-type iot:CredentialProvider",
        ),
    ),
    ("Role alias does not exist", Remedy("correct `role_alias`, or make it in this region: aws iot create-role-alias")),
    (
        "Unable to assume the role",
        Remedy("the role must exist and its trust policy must let credentials.iot.amazonaws.com assume it; check the alias's role"),
    ),
    (
        "The requested CredentialDurationSeconds exceeds",
        Remedy("lower the role alias's credentialDurationSeconds, or raise the role's MaxSessionDuration"),
    ),
    (
        "Not Found",
        Remedy(
            "`endpoint` is another endpoint of AWS IoT; the right one has .credentials.iot. in its name: \
             aws iot describe-endpoint --endpoint-type iot:CredentialProvider",
        ),
    ),
];
/// What AWS never said before.
const UNKNOWN: Remedy =
    Remedy("check the certificate's AWS IoT policy, the role alias and its role, and what stands in front of the endpoint");

/// What `endpoint` means by an answer of this status, which is not 200.
pub(super) fn refused(endpoint: &str, status: u16, body: &[u8]) -> CredentialsError {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }

    let endpoint = endpoint.to_owned();
    let said = serde_json::from_slice::<Said>(body).ok();
    let message = said.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |said| said.message);
    let message = harmless(&message);
    if (400..500).contains(&status) && status != 408 && status != 429 {
        let known = REMEDIES.iter().find(|(beginning, _)| message.starts_with(beginning));
        CredentialsError::Refused { endpoint, status, message, remedy: known.map_or(UNKNOWN, |(_, remedy)| *remedy) }
    } else {
        CredentialsError::Unavailable { endpoint, status, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::credentials::Fault;

    #[test]
    fn every_known_refusal_says_what_to_do() {
        for (status, message, remedy) in [
            (403, "Invalid thing name passed", "thing_name"),
            (403, "Access Denied", "iot:AssumeRoleWithCertificate"),
            (403, "Certificate is invalid on this endpoint", "describe-endpoint"),
            (404, "Role alias does not exist", "role_alias"),
            (400, "Unable to assume the role, or the role to assume does not exist", "trust policy"),
            (400, "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role", "MaxSessionDuration"),
            (404, "Not Found", ".credentials.iot."),
            (403, "Something new", "role alias"),
        ] {
            let body = serde_json::json!({ "message": message, "traceId": "1" }).to_string();
            let error = refused("c1.example", status, body.as_bytes());
            let text = error.to_string();
            let (what, to_do) = text.split_once("; ").unwrap();
            assert!(what.contains("c1.example") && what.contains(message) && to_do.contains(remedy), "{text}");
            assert_eq!(error.fault(), Fault::Ours);
        }
    }

    #[test]
    fn a_fault_of_the_service_and_a_page_of_something_else_are_shown_as_they_are() {
        for (status, body, shown) in [
            (500, &b"{\"message\":\"Internal\"}"[..], "HTTP 500: Internal"),
            (429, b"", "HTTP 429: "),
            (302, b"<html>log in</html>", "HTTP 302: <html>log in</html>"),
        ] {
            let error = refused("c1.example", status, body);
            assert!(error.to_string().contains(shown), "{error}");
            assert_eq!(error.fault(), Fault::Theirs);
        }
        let page = refused("c1.example", 403, b"<html>forbidden</html>").to_string();
        assert!(page.contains("<html>forbidden</html>"), "{page}");
    }
}
