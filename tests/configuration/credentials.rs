//! Who we are to AWS, in the configuration: its kinds, and the files that prove it.

use std::{fs, os::unix::fs::PermissionsExt};

use headwater::{
    cli::show::as_toml,
    config::{self, CredentialsConfig, Files, IotConfig, Loaded},
};
use rcgen::{CertificateParams, KeyPair};

use super::places::{CLOUD, Folder, mistakes};

const IOT: &str = r#"[destinations.cloud.credentials]
kind = "iot"
endpoint = "https://c1a2b3.credentials.iot.eu-west-1.amazonaws.com"
role_alias = "gateway"
cert = "/no/device.pem"
key = "/no/device.key"
"#;

fn read(text: &str) -> CredentialsConfig {
    let config = config::parse(&format!("{CLOUD}{text}"), "gw").unwrap().config;
    config.destinations["cloud"].service().unwrap().credentials.clone()
}

#[test]
fn a_device_certificate_and_a_program_are_credentials() {
    let thing = format!("{IOT}thing_name = \"plant-{{device.id}}\"\n");
    let CredentialsConfig::Iot(IotConfig { endpoint, role_alias, ca, thing_name, .. }) = read(&thing) else { panic!("it is iot") };
    assert_eq!(endpoint, "https://c1a2b3.credentials.iot.eu-west-1.amazonaws.com");
    assert_eq!((role_alias.as_str(), ca), ("gateway", None));
    assert_eq!(thing_name.as_deref(), Some("plant-gw"));
    assert_eq!(
        read("credentials = { kind = \"process\", command = [\"helper\", \"--now\"] }\n"),
        CredentialsConfig::Process { command: vec!["helper".into(), "--now".into()] }
    );
}

#[test]
fn what_is_wrong_with_credentials_is_said_with_what_to_write() {
    let iot = |from: &str, to: &str| mistakes(&format!("{CLOUD}{}", IOT.replace(from, to)));
    for (from, to, said) in [
        ("kind = \"iot\"", "kind = \"iod\"", "write \"default\", \"iot\", \"process\" or \"static\""),
        ("role_alias = \"gateway\"\n", "", "destinations.cloud.credentials has no role_alias; write role_alias = …"),
        ("https://", "http://", "which does not begin with https://"),
        ("c1a2b3.credentials.iot.", "c1a2b3-ats.iot.", "another endpoint of AWS IoT; aws iot describe-endpoint"),
        ("c1a2b3.credentials.iot.eu-west-1.amazonaws.com", "10.0.1.7", "an address, and AWS IoT tells accounts apart by the name"),
        ("\"gateway\"", "\"gate/way\"", "role_alias is \"gate/way\"; write the role alias's name"),
        ("key =", "thing_name = \"{device.name}\"\nkey =", "thing_name is \"{device.name}\"; write the thing's name"),
        ("key =", "token = 1\nkey =", "unknown key destinations.cloud.credentials.token"),
    ] {
        let all = iot(from, to);
        assert!(all.len() == 1 && all[0].contains(said), "{to}: {all:?}");
    }
    let process = mistakes(&format!("{CLOUD}credentials = {{ kind = \"process\", command = [] }}\n"));
    assert!(process[0].contains("command names no program"), "{process:?}");
}

/// A gateway's folder with a certificate and its key, and a configuration that names them.
fn gateway(certificate: &KeyPair, key: &KeyPair) -> Folder {
    let pem = CertificateParams::new(["gw".to_owned()]).unwrap().self_signed(certificate).unwrap().pem();
    let folder = Folder::with(&[("device.pem", &pem), ("keys/device.key", &key.serialize_pem())]);
    fs::set_permissions(folder.path().join("keys/device.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = format!("[device]\nid = \"gw\"\n{CLOUD}{IOT}").replace("/no/device.pem", &at("device.pem"));
    fs::write(folder.path().join("gateway.toml"), text.replace("/no/device.key", "$CREDENTIALS_DIRECTORY/device.key")).unwrap();
    folder
}

fn load(folder: &Folder, files: Files, credentials: bool) -> Result<Loaded, String> {
    let keys = folder.path().join("keys").display().to_string();
    let env = credentials.then(|| ("CREDENTIALS_DIRECTORY".to_owned(), keys));
    let loaded = config::load_on("h", Some(&folder.path().join("gateway.toml")), None, files, env.into_iter());
    loaded.map_err(|mistakes| folder.short(&mistakes))
}

#[test]
fn a_file_may_be_one_of_the_credentials_that_systemd_gives() {
    let key = KeyPair::generate().unwrap();
    let folder = gateway(&key, &key);

    let loaded = load(&folder, Files::Checked, true).unwrap();

    let CredentialsConfig::Iot(iot) = &loaded.config.destinations["cloud"].service().unwrap().credentials else {
        panic!("it is iot")
    };
    assert_eq!(iot.key, folder.path().join("keys/device.key"));
    assert!(as_toml(&loaded, false).unwrap().contains("keys/device.key"));
    fs::set_permissions(&iot.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(load(&folder, Files::Skipped, true).unwrap_err().contains("others can read or change (mode 0644)"));

    let elsewhere = load(&folder, Files::Checked, false).unwrap();
    let warned = elsewhere.warnings.iter().any(|warning| warning.text.contains("CREDENTIALS_DIRECTORY is not set here"));
    assert!(warned, "{:?}", elsewhere.warnings);
    assert!(load(&folder, Files::Skipped, false).unwrap().warnings.iter().all(|warning| !warning.text.contains("CREDENTIALS")));
}

#[test]
fn a_key_of_another_certificate_and_a_file_that_is_none_are_mistakes_on_the_gateway() {
    let (certificate, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let folder = gateway(&certificate, &key);

    let said = load(&folder, Files::Checked, true).unwrap_err();
    assert!(said.contains("cloud.credentials.key can't be used: keys/device.key is not the key of the certificate"), "{said}");
    assert!(load(&folder, Files::Skipped, true).is_ok());

    fs::write(folder.path().join("device.pem"), "no certificate").unwrap();
    let said = load(&folder, Files::Checked, true).unwrap_err();
    assert!(said.contains("cloud.credentials.cert can't be used: device.pem holds no certificate"), "{said}");
    assert_eq!(said.lines().count(), 1, "that the key does not fit follows from it: {said}");
}
