//! The files under `config/` are right, complete, and say the defaults that there are.

use std::{collections::BTreeSet, fmt::Write, fs, process::ExitCode};

use headwater::{
    cli::check::{CheckArgs, check},
    config::{
        self, BufferConfig, Config, CredentialsConfig, DestinationConfig, DeviceConfig, FileConfig, Files, FramingConfig,
        HttpConfig, KinesisConfig, MqttConfig, SerialConfig, SourceConfig, StreamConfig, WhenFull,
    },
    units::ByteCount,
};
use serde::de::DeserializeOwned;

use super::places::{CLOUD, mqtt};

#[test]
fn the_example_fleet_is_right_for_every_device() {
    let mut out = Vec::new();
    let code = check(&CheckArgs { paths: vec!["config/fleet".into()], ..CheckArgs::default() }, &[], &mut out).unwrap();

    assert_eq!(String::from_utf8(out).unwrap(), "config/fleet: right, 2 devices\n");
    assert_eq!(code, ExitCode::SUCCESS);

    let load = |device| {
        config::load_on("h", Some("config/fleet".as_ref()), Some(device), Files::Skipped, std::iter::empty()).unwrap().config
    };
    let (hall_3, hall_4) = (load("gw-0042"), load("gw-0043"));
    assert_eq!(hall_3.buffer.max_size, ByteCount::gib(8));
    assert_eq!(hall_3.device.tags.keys().collect::<Vec<_>>(), ["hall", "site", "uplink"]);
    assert_eq!(hall_3.streams["readings"].from, ["broker", "scale"]);
    assert_eq!(hall_4.buffer.when_full, WhenFull::Block);
    assert_eq!(mqtt(&hall_4, "broker").window, 200);
}

#[test]
fn every_default_in_the_example_file_is_the_real_one() {
    let text = fs::read_to_string("config/gateway.toml").unwrap();

    let loaded = config::parse(&text, "gw").unwrap();

    let broker = MqttConfig { topics: vec!["plant/#".to_owned()], ..MqttConfig::default() };
    let scale = SerialConfig {
        enabled: false,
        port: "/dev/serial/by-id/usb-FTDI_FT232R-if00-port0".into(),
        topic: "plant/scale".to_owned(),
        ..SerialConfig::default()
    };
    let readings = StreamConfig {
        destination: "cloud".to_owned(),
        stream: "plant-readings".to_owned(),
        from: vec!["broker".to_owned(), "scale".to_owned()],
        ..StreamConfig::default()
    };
    let endpoint = "https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com".into();
    let cloud = KinesisConfig { region: "eu-west-1".to_owned(), endpoint, ..KinesisConfig::default() };
    let archive = FileConfig { path: "/media/usb/headwater".into(), ..FileConfig::default() };
    let expected = Config {
        device: DeviceConfig { id: "gw".to_owned(), ..DeviceConfig::default() },
        sources: [("broker".to_owned(), SourceConfig::Mqtt(broker)), ("scale".to_owned(), SourceConfig::Serial(scale))].into(),
        streams: [("readings".to_owned(), readings)].into(),
        destinations: [
            ("archive".to_owned(), DestinationConfig::File(archive)),
            ("cloud".to_owned(), DestinationConfig::Kinesis(cloud)),
        ]
        .into(),
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_setting_that_there_is_stands_in_the_example_file() {
    // A line that begins with "#" and no space is a setting that is not set by default.
    let text = fs::read_to_string("config/gateway.toml").unwrap();
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line))
        .collect();
    let file: toml::Table = toml::from_str(&uncommented.join("\n")).unwrap();

    let keys = |path: &[&str]| {
        let table = path.iter().fold(&file, |table, key| table[*key].as_table().unwrap());
        table.keys().filter(|key| *key != "kind").cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(keys(&[]), fields::<Config>());
    assert_eq!(keys(&["device"]), fields::<DeviceConfig>());
    assert_eq!(keys(&["sources", "broker"]), fields::<MqttConfig>());
    assert_eq!(keys(&["sources", "scale"]), fields::<SerialConfig>());
    assert_eq!(keys(&["streams", "readings"]), fields::<StreamConfig>());
    assert_eq!(keys(&["destinations", "cloud"]), fields::<KinesisConfig>());
    assert_eq!(keys(&["destinations", "archive"]), fields::<FileConfig>());
    assert_eq!(keys(&["buffer"]), fields::<BufferConfig>());
    assert_eq!(keys(&["http"]), fields::<HttpConfig>());

    // Those that are commented out have values that would be accepted: only their company is wrong here.
    let said = config::parse(&uncommented.join("\n"), "gw").unwrap_err();
    let wrong: Vec<_> = said.mistakes().iter().filter(|mistake| !mistake.text.contains("the url is not for TLS")).collect();
    let company = ["the payload is not JSON", "where a proxy connects to"];
    let of_company = wrong.iter().filter(|mistake| company.iter().any(|text| mistake.text.contains(text))).count();
    assert_eq!(wrong.len(), of_company, "{wrong:?}");
}

/// The keys that serde knows for `T`, from what it says about one that nobody has.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let error = toml::from_str::<T>("no-such-key = 1").err().expect("unknown keys are refused").message().to_owned();
    error.split('`').skip(1).step_by(2).filter(|key| *key != "no-such-key").map(str::to_owned).collect()
}

#[test]
fn the_kinds_of_framing_and_credentials_are_read_by_their_kind() {
    let framing = |toml: &str| {
        let text = format!(
            "[sources.s]\nkind = \"serial\"\nport = \"/dev/ttyS9\"\ntopic = \"s\"\nframing = {toml}\n{CLOUD}credentials = {{ kind = \"default\" }}\n"
        );
        let config = config::parse(&text, "gw").unwrap().config;
        assert_eq!(config.destinations["cloud"].service().unwrap().credentials, CredentialsConfig::Default);
        match &config.sources["s"] {
            SourceConfig::Serial(serial) => serial.framing.clone(),
            SourceConfig::Mqtt(_) => panic!("it is serial"),
        }
    };

    assert_eq!(framing("{ kind = \"lines\" }"), FramingConfig::Lines { max_length: ByteCount::kib(4) });
    assert_eq!(
        framing("{ max_length = \"1 KiB\", byte = 3, kind = \"delimiter\" }"),
        FramingConfig::Delimiter { byte: 3, max_length: ByteCount::kib(1) }
    );
}

#[test]
fn the_readme_lists_every_setting_with_its_default_and_meaning() {
    let table = settings_table(&fs::read_to_string("config/gateway.toml").unwrap());
    let readme = fs::read_to_string("README.md").unwrap();

    let section = readme.split_once(TABLE_BEGINS).and_then(|(_, rest)| rest.split_once(TABLE_ENDS));

    let (listed, _) = section.expect("the README has the two marks");
    assert!(listed.trim() == table.trim(), "config/gateway.toml has changed; the README's table must be:\n\n{table}");
}

const TABLE_BEGINS: &str = "<!-- settings: made from config/gateway.toml -->";
const TABLE_ENDS: &str = "<!-- end of settings -->";

/// The example file as a table: a row for each setting, with the comment above it.
fn settings_table(file: &str) -> String {
    let mut table = String::from("| setting | default | meaning |\n|---|---|---|\n");
    let (mut section, mut meaning, mut complete) = ("", String::new(), false);
    for line in file.lines() {
        let setting = line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some(comment) = line.strip_prefix("# ") {
            if std::mem::take(&mut complete) {
                meaning.clear();
            }
            meaning = format!("{meaning} {comment}");
        } else if let Some((key, value)) = setting.split_once(" = ").filter(|(key, _)| *key != "kind") {
            let value = if line.starts_with('#') { "" } else { value };
            let value = if value.is_empty() { String::new() } else { format!("`{value}`") };
            let meaning = meaning.trim().replace('|', "\\|");
            writeln!(table, "| `{section}.{key}` | {value} | {meaning} |").unwrap();
            complete = true;
        } else {
            meaning.clear();
        }
    }
    table
}
