//! Which layer wins, and how a value remembers where it came from.

use std::path::Path;

use headwater::config::{self, Files, WhenFull};

use super::places::{Folder, mqtt};

#[test]
fn a_later_layer_wins_key_by_key_and_an_array_replaces_the_array() {
    let fleet = Folder::with(&[
        (
            "fleet.toml",
            "[sources.Broker]\nkind = \"mqtt\"\ntopics = [\"a\", \"b\"]\nqos = 0\nwindow = 10\n[buffer]\nhold = \"2s\"\n",
        ),
        ("groups/first.toml", "[sources.Broker]\nqos = 1\nwindow = 100\n"),
        ("groups/second.toml", "[sources.Broker]\nwindow = 200\n"),
        ("devices/gw-1.toml", "groups = [\"first\", \"second\"]\n[sources.Broker]\ntopics = [\"c\"]\n"),
        ("devices/gw-2.toml", "groups = [\"second\", \"first\"]\n"),
    ]);

    let (one, two) = (fleet.config("gw-1"), fleet.config("gw-2"));

    let broker = mqtt(&one, "Broker");
    assert_eq!((broker.qos, broker.window, broker.topics), (1, 200, vec!["c".to_owned()]));
    assert_eq!(one.buffer.hold.as_secs(), 2);
    assert_eq!(one.device.id, "gw-1");
    let broker = mqtt(&two, "Broker");
    assert_eq!((broker.qos, broker.window, broker.topics), (1, 100, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn the_environment_wins_over_every_file_and_is_read_as_what_is_wanted() {
    let fleet = Folder::with(&[
        ("fleet.toml", "[sources.lte-Broker]\nkind = \"mqtt\"\ntopics = [\"a\"]\n"),
        ("devices/gw-1.toml", "[device]\nid = \"other\"\n"),
    ]);

    let loaded = fleet.load(
        Some("gw-1"),
        &[
            ("HEADWATER__DEVICE__ID", "0042"),
            ("HEADWATER__DEVICE__TAGS", "{ site = \"7\" }"),
            ("HEADWATER__SOURCES__LTE_BROKER__QOS", "2"),
            ("HEADWATER__SOURCES__LTE_BROKER__TOPICS", "[\"x\", \"y\"]"),
            ("HEADWATER__SOURCES__LTE_BROKER__ENABLED", "false"),
            ("HEADWATER__BUFFER__WHEN_FULL", "block"),
            ("HEADWATER_LOG", "debug"),
        ],
    );

    let config = loaded.unwrap().config;
    assert_eq!(config.device.id, "0042");
    assert_eq!(config.device.tags["site"], "7");
    let broker = mqtt(&config, "lte-Broker");
    assert_eq!((broker.qos, broker.enabled, broker.topics), (2, false, vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!(config.buffer.when_full, WhenFull::Block);
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    let file = Folder::with(&[("gateway.toml", "")]);

    let errors = file.load(None, &[("HEADWATER__BUFFER__HOLD", "5"), ("HEADWATER__DEVICE__NAME", "x"), ("HEADWATER____ID", "x")]);

    let said = errors.unwrap_err().to_string();
    assert_eq!(
        said,
        "HEADWATER__BUFFER__HOLD: buffer.hold: \"5\" is not a duration; write for example \"250ms\", \"10s\", \"5min\", \"12h\" or \"30d\"\n\
         HEADWATER__DEVICE__NAME: unknown key device.name; known here are id, state_dir, socket, clock_synchronized, tags\n\
         HEADWATER____ID: this names no setting; write for example HEADWATER__DEVICE__ID"
    );
}

#[test]
fn every_value_knows_the_file_and_line_that_it_came_from() {
    let fleet = Folder::with(&[
        ("fleet.toml", "# all\n[buffer]\nhold = \"2s\"\nmemory = \"2 MiB\"\n"),
        ("groups/lte.toml", "buffer.hold = \"5s\"\n"),
        ("devices/gw-1.toml", "groups = [\n  \"lte\",\n]\n\n[http]\nlisten = \"off\"\n"),
    ]);

    let loaded = fleet.load(Some("gw-1"), &[("HEADWATER__BUFFER__WHEN_FULL", "block")]).unwrap();

    let origin = |path: &[&str]| fleet.short(&loaded.origins.of(path));
    assert_eq!(origin(&["buffer", "hold"]), "groups/lte.toml:1");
    assert_eq!(origin(&["buffer", "memory"]), "fleet.toml:4");
    assert_eq!(origin(&["http", "listen"]), "devices/gw-1.toml:6");
    assert_eq!(origin(&["buffer", "when_full"]), "HEADWATER__BUFFER__WHEN_FULL");
    assert_eq!(origin(&["buffer", "max_size"]), "default");
    assert_eq!(origin(&["device", "id"]), "the name of devices/gw-1.toml");
}

#[test]
fn a_source_that_is_off_may_wait_for_the_layer_that_completes_it() {
    let fleet = Folder::with(&[
        ("fleet.toml", "[sources.scale]\nkind = \"serial\"\nenabled = false\ntopic = \"scale\"\n"),
        ("devices/without.toml", ""),
        ("devices/with.toml", "[sources.scale]\nenabled = true\nport = \"/dev/ttyUSB0\"\n"),
        ("devices/half.toml", "[sources.scale]\nenabled = true\n"),
    ]);

    assert!(fleet.load(Some("without"), &[]).is_ok());
    assert!(fleet.load(Some("with"), &[]).is_ok());
    let said = fleet.short(&fleet.load(Some("half"), &[]).unwrap_err());
    assert_eq!(said, "devices/half.toml:1: sources.scale.port is missing; write the device file, best one under /dev/serial/by-id");
}

#[test]
fn the_device_is_picked_by_name_or_by_the_host_and_a_wrong_one_is_told_which_there_are() {
    let fleet = Folder::with(&[("devices/gw-1.toml", ""), ("devices/gw-2.toml", ""), ("devices/some-host.toml", "")]);
    let others = Folder::with(&[("devices/gw-1.toml", ""), ("devices/gw-2.toml", "")]);
    let said = |folder: &Folder, device| {
        let errors = folder.load(device, &[]).unwrap_err().to_string();
        errors.replace(&folder.path().display().to_string(), "FLEET")
    };

    assert_eq!(fleet.config("gw-2").device.id, "gw-2");
    assert_eq!(fleet.load(None, &[]).unwrap().config.device.id, "some-host");
    assert_eq!(said(&fleet, Some("gw-3")), "FLEET: no device \"gw-3\" here; write --device gw-1");
    assert_eq!(
        said(&others, None),
        "FLEET: no device \"some-host\" here, which is this host's name; write --device and one of gw-1, gw-2"
    );
}

#[test]
fn the_place_is_the_path_then_the_variable_and_a_folder_may_hold_one_gateway() {
    let folder =
        Folder::with(&[("gateway.toml", "[device]\nid = \"from-folder\"\n"), ("other.toml", "[device]\nid = \"from-variable\"\n")]);
    let variable = ("HEADWATER_CONFIG".to_owned(), folder.path().join("other.toml").display().to_string());
    let id = |path: Option<&Path>| {
        config::load_on("h", path, None, Files::Skipped, [variable.clone()].into_iter()).unwrap().config.device.id
    };

    assert_eq!(id(Some(folder.path())), "from-folder");
    assert_eq!(id(None), "from-variable");

    let empty = Folder::with(&[]);
    let said = empty.load(None, &[]).unwrap_err().to_string();
    assert!(
        said.ends_with("this folder has no configuration; put a gateway.toml there, or a fleet.toml with devices/ID.toml"),
        "{said}"
    );
}
