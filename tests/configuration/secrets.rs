//! Files that a configuration names, and the secrets in them.

use std::{fs, os::unix::fs::PermissionsExt};

use headwater::config::{self, Files};

use super::places::{CLOUD, Folder};

#[test]
fn a_secret_that_others_can_read_is_a_mistake_and_a_missing_one_only_on_the_gateway() {
    let folder = Folder::with(&[("secret", "x")]);
    let secret = folder.path().join("secret");
    let text = format!(
        "[device]\nid = \"gw\"\n[sources.a]\nkind = \"mqtt\"\nurl = \"mqtts://b\"\ntopics = [\"a\"]\nusername = \"me\"\npassword_file = {secret:?}\nca = \"/no/ca.pem\"\n\
         [streams.s]\nstream = \"s\"\ndestination = \"cloud\"\nfrom = [\"a\"]\n{CLOUD}"
    );
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let load = |files| {
        config::load_on("host", Some(folder.path()), None, files, std::iter::empty())
            .map(|_| ())
            .map_err(|errors| folder.short(&errors))
    };

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let said = load(Files::Skipped).unwrap_err();
    assert_eq!(
        said,
        "gateway.toml:8: sources.a.password_file is secret, which others can read or change (mode 0640); run chmod 600 secret"
    );

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(load(Files::Skipped), Ok(()));
    let said = load(Files::Checked).unwrap_err();
    assert_eq!(said, "gateway.toml:9: sources.a.ca is /no/ca.pem, and there is no such file; put it there or write another path");
}

/// A gateway with a key and a password of its own; both are TOML.
fn with_secrets(key: &str, password: &str) -> String {
    format!(
        "[device]\nid = \"gw\"\n[sources.a]\nkind = \"mqtt\"\nurl = \"mqtts://b\"\ntopics = [\"a\"]\nusername = \"me\"\n\
         client_cert = \"/no/own.pem\"\nclient_key = {key}\npassword_file = {password}\n\
         [streams.s]\nstream = \"s\"\ndestination = \"cloud\"\nfrom = [\"a\"]\n{CLOUD}"
    )
}

#[test]
fn a_secret_in_the_place_of_its_files_path_is_a_mistake_and_is_not_repeated() {
    let pem = "\"\"\"-----BEGIN PRIVATE KEY-----\nMIIhunter2\n-----END PRIVATE KEY-----\n\"\"\"";
    for (key, password) in [
        (pem, "\"/etc/hunter2\\n\""),
        ("\"/-----BEGIN PRIVATE KEY-----MIIhunter2\"", "\"hunter2\""),
        ("\"MIIhunter2/abc==\"", "\"hunter2 with / in it\""),
    ] {
        let folder = Folder::with(&[("gateway.toml", &with_secrets(key, password))]);
        for files in [Files::Skipped, Files::OfDestinations, Files::Checked] {
            let found = config::load_on("host", Some(folder.path()), None, files, std::iter::empty());
            let said = found.unwrap_err().to_string();
            for setting in ["client_key", "password_file"] {
                assert!(said.contains(&format!("sources.a.{setting} is not the path of a file; ")), "{said}");
            }
            assert!(!said.contains("hunter2") && !said.contains("BEGIN"), "{said}");
        }
    }
}

#[test]
fn a_laptop_that_only_sends_a_gateways_readings_needs_no_files_of_its_sources() {
    let text = with_secrets("\"/no/own.key\"", "\"/no/password\"");
    let load = |text: &str, files| {
        let folder = Folder::with(&[("gateway.toml", text)]);
        config::load_on("host", Some(folder.path()), None, files, std::iter::empty())
            .map(|_| ())
            .map_err(|errors| folder.short(&errors))
    };
    assert!(load(&text, Files::Checked).unwrap_err().contains("sources.a.client_key is /no/own.key"));
    assert_eq!(load(&text, Files::OfDestinations), Ok(()));

    let said = load(&text.replace(CLOUD, &format!("{CLOUD}ca = \"/no/ca.pem\"\n")), Files::OfDestinations).unwrap_err();
    assert!(said.contains("destinations.cloud.ca is /no/ca.pem, and there is no such file"), "{said}");
}
