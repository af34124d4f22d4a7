//! Credentials as JSON, from whoever issued them.
//!
//! Invariant: every secret in it is in memory that is wiped, from the bytes that were read on; the JSON parser's own memory and that of
//! the HTTP client are not ours to wipe.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use serde::Deserialize;
use serde_json::error::Category;

use crate::{
    identity::Secret,
    kinesis::{Cause, answer::harmless},
};

/// What an answer of the AWS IoT credentials provider holds. Source: AWS IoT developer guide, "Authorizing direct calls".
#[derive(Deserialize)]
struct IotAnswer {
    credentials: IotCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IotCredentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
    expiration: String,
}

/// What a process prints. Source: AWS SDKs and tools reference guide, "Process credential provider". It may have more, such as an
/// account, which we leave out: the SDK would take another endpoint for it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessOutput {
    version: u32,
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    expiration: Option<String>,
}

/// Reads an answer of the AWS IoT credentials provider.
pub(super) fn from_iot(json: &[u8]) -> Result<Credentials, Cause> {
    let IotAnswer { credentials } = serde_json::from_slice(json).map_err(|error| without_content(&error))?;
    let IotCredentials { access_key_id, secret_access_key, session_token, expiration } = credentials;
    build(access_key_id, secret_access_key, Some(session_token), Some(&expiration), "headwater-iot")
}

/// Reads what a credential process printed.
pub(super) fn from_process(json: &[u8]) -> Result<Credentials, Cause> {
    let ProcessOutput { version, access_key_id, secret_access_key, session_token, expiration } =
        serde_json::from_slice(json).map_err(|error| without_content(&error))?;
    if version != 1 {
        return Err(format!("its Version is {version}, and only 1 is known").into());
    }
    build(access_key_id, secret_access_key, session_token, expiration.as_deref(), "headwater-process")
}

fn build(
    id: String,
    secret: Secret,
    token: Option<Secret>,
    expiration: Option<&str>,
    from: &'static str,
) -> Result<Credentials, Cause> {
    let token = token.filter(|token| !token.reveal().is_empty());
    if id.is_empty() || secret.reveal().is_empty() {
        return Err("the key or its secret is empty".into());
    }
    let expiry = expiration.map(time).transpose()?;
    Ok(Credentials::new(id, secret.into_revealed(), token.map(Secret::into_revealed), expiry, from))
}

/// Source: RFC 3339.
fn time(text: &str) -> Result<SystemTime, Cause> {
    let time = DateTime::from_str(text, Format::DateTimeWithOffset);
    let time = time.map_err(|_| "its expiration is no time such as 2026-11-21T05:30:00Z")?;
    Ok(SystemTime::try_from(time)?)
}

/// What is wrong, without what stands there: serde quotes a value that it did not expect.
fn without_content(error: &serde_json::Error) -> Cause {
    let text = error.to_string();
    let what = match error.classify() {
        Category::Data if text.starts_with("missing field") => text.split(" at line").next().unwrap_or_default(),
        Category::Data => "it has another shape",
        _ => "it is no JSON, or not all of it",
    };
    format!("{what} (line {}, column {})", error.line(), error.column()).into()
}

/// The beginning of what should have been credentials, for people; nothing of what may be some.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let small = text.to_ascii_lowercase();
    match () {
        () if text.trim().is_empty() => "nothing".into(),
        () if ["secret", "token", "key"].iter().any(|word| small.contains(word)) => {
            format!("{} bytes that may hold a secret", bytes.len())
        }
        () => harmless(&text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn an_answer_of_aws_iot_holds_a_key_its_secret_a_token_and_an_end() {
        let json = format!(
            r#"{{"credentials":{{"accessKeyId":"ASIA1","secretAccessKey":"{SECRET}","sessionToken":"tok","expiration":"2018-01-18T09:18:06Z"}}}}"#
        );
        let credentials = from_iot(json.as_bytes()).unwrap();
        assert_eq!((credentials.access_key_id(), credentials.secret_access_key()), ("ASIA1", SECRET));
        assert_eq!(credentials.session_token(), Some("tok"));
        assert_eq!(credentials.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_516_267_086)));
    }

    #[test]
    fn what_a_process_prints_may_have_no_token_and_no_end_and_more_than_we_know() {
        let json = format!(r#"{{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"{SECRET}","AccountId":"123456789012"}}"#);
        let credentials = from_process(json.as_bytes()).unwrap();
        assert_eq!((credentials.session_token(), credentials.expiry()), (None, None));
        assert!(credentials.account_id().is_none(), "the SDK would take the account's own endpoint for it");

        let json = json.replace("\"AccountId\"", r#""SessionToken":"t","Expiration":"2018-01-18T10:18:06+01:00","AccountId""#);
        let credentials = from_process(json.as_bytes()).unwrap();
        assert_eq!(credentials.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_516_267_086)));
    }

    #[test]
    fn whatever_is_wrong_with_an_answer_is_said_without_its_secrets() {
        for (json, why) in [
            (String::new(), "no JSON"),
            (format!(r#"{{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"{SECRET}"#), "not all of it"),
            (format!(r#"{{"Version":1,"AccessKeyId":"{SECRET}"}}"#), "SecretAccessKey"),
            (format!(r#"{{"Version":"{SECRET}"}}"#), "another shape"),
            (format!(r#"{{"Version":2,"AccessKeyId":"AKIA1","SecretAccessKey":"{SECRET}"}}"#), "Version is 2"),
            (r#"{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":""}"#.into(), "empty"),
            (format!(r#"{{"Version":1,"AccessKeyId":"A","SecretAccessKey":"{SECRET}","Expiration":"soon"}}"#), "no time"),
        ] {
            let error = from_process(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("wJalr"), "{json}: {error}");
            assert!(!shown(json.as_bytes()).contains("wJalr"), "{json}");
        }
        assert_eq!(shown(b"<html>welcome\n to our hotel</html>"), "<html>welcome to our hotel</html>");
        assert_eq!(shown(b" \n"), "nothing");
        assert!(from_iot(b"{\"credentials\":{}}").unwrap_err().to_string().contains("accessKeyId"));
    }

    #[test]
    fn secrets_are_not_shown_when_credentials_are_printed_for_debugging() {
        let json = format!(r#"{{"Version":1,"AccessKeyId":"A","SecretAccessKey":"{SECRET}","SessionToken":"tokentoken"}}"#);
        let text = format!("{:?} {:?}", from_process(json.as_bytes()).unwrap(), Secret::from(SECRET.to_owned()));
        assert!(!text.contains("wJalr") && !text.contains("tokentoken"), "{text}");
    }
}
