//! Who we are to AWS: what each kind needs.

use std::net::IpAddr;

use super::{Problems, values::read_url};
use crate::config::{CredentialsConfig, IotConfig};

/// What to ask for the right endpoint.
const ASK: &str = "aws iot describe-endpoint --endpoint-type iot:CredentialProvider prints the right one";

pub(super) fn check(destination: &str, credentials: &CredentialsConfig, problems: &mut Problems) {
    let at = |key| ["destinations", destination, "credentials", key];
    match credentials {
        CredentialsConfig::Iot(config) => iot(destination, config, problems),
        CredentialsConfig::Process { command } if command.first().is_none_or(String::is_empty) => {
            let text = "names no program; write for example command = [\"aws_signing_helper\", \"credential-process\", …]";
            problems.wrong(&at("command"), text);
        }
        CredentialsConfig::Static { access_key_id, .. } if access_key_id.is_empty() => {
            problems.wrong(&at("access_key_id"), "is empty; write the public half of the key");
        }
        CredentialsConfig::Process { .. } | CredentialsConfig::Static { .. } | CredentialsConfig::Default => {}
    }
}

fn iot(destination: &str, config: &IotConfig, problems: &mut Problems) {
    let at = |key| ["destinations", destination, "credentials", key];
    let endpoint = &config.endpoint;
    match read_url(endpoint, &["https"], "https://c1a2b3.credentials.iot.eu-west-1.amazonaws.com") {
        Err(what) => {
            problems.wrong(&at("endpoint"), what);
        }
        Ok(url) if url.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            let text =
                format!("is {endpoint:?}, an address, and AWS IoT tells accounts apart by the name; {ASK}, and `resolve` pins it");
            problems.wrong(&at("endpoint"), text);
        }
        Ok(url) if url.host.contains(".amazonaws.com") && !url.host.contains(".credentials.iot.") => {
            problems.wrong(&at("endpoint"), format!("is {endpoint:?}, another endpoint of AWS IoT; {ASK}"));
        }
        Ok(_) => {}
    }
    // Source: AWS IoT API reference, `CreateRoleAlias`, `roleAlias`.
    if !is_made_of(&config.role_alias, "_=,@-") {
        let text = format!("is {:?}; write the role alias's name: 1 to 128 of A-Z, a-z, 0-9 and _=,@-", config.role_alias);
        problems.wrong(&at("role_alias"), text);
    }
    // Source: AWS IoT API reference, `CreateThing`, `thingName`.
    if let Some(name) = config.thing_name.as_ref().filter(|name| !is_made_of(name, ":_-")) {
        let text = format!("is {name:?}; write the thing's name, 1 to 128 of A-Z, a-z, 0-9 and :_-, or \"{{device.id}}\"");
        problems.wrong(&at("thing_name"), text).rests_on(&["device", "id"]);
    }
}

fn is_made_of(text: &str, marks: &str) -> bool {
    (1..=128).contains(&text.len()) && text.chars().all(|letter| letter.is_ascii_alphanumeric() || marks.contains(letter))
}
