//! `headwater check` and `headwater show`.

use std::process::ExitCode;

use clap::Args;
use headwater::{
    cli::{
        check::{CheckArgs, check},
        show::{ShowArgs, as_toml, show},
    },
    config::{self, DestinationConfig, Files, KinesisConfig},
};

use super::places::{CLOUD, Folder};

#[test]
fn a_whole_fleet_is_checked_and_a_shared_mistake_is_said_once() {
    let fleet = Folder::with(&[
        ("fleet.toml", "[buffer]\nhold = \"1\"\n"),
        ("groups/lte.toml", "[buffer]\nsize = 1\n"),
        ("groups/unused.toml", "buffer = [\n"),
        ("devices/gw-1.toml", "groups = [\"lte\"]\n[http]\nlisten = \"here\"\n"),
        ("devices/gw-2.toml", "groups = [\"lte\", \"ltf\"]\n"),
        ("devices/gw-3.toml", "[device]\nid = \"gw-1\"\n"),
    ]);
    let mut out = Vec::new();

    let code = check(&CheckArgs { paths: vec![fleet.path().to_owned()], ..CheckArgs::default() }, &[], &mut out).unwrap();

    assert_eq!(code, ExitCode::from(2));
    assert_eq!(
        fleet.short(&String::from_utf8(out).unwrap()).replace(&fleet.path().display().to_string(), "FLEET"),
        r#"devices/gw-1.toml:3: http.listen: "here" is neither an address such as "127.0.0.1:8470" nor "off"
devices/gw-2.toml:1: groups has "ltf", and there is no such group; write "lte"
devices/gw-3.toml:2: device.id is "gw-1", as in devices/gw-1.toml; write a name that only this gateway has
fleet.toml:2: buffer.hold: "1" is not a duration; write for example "250ms", "10s", "5min", "12h" or "30d"
groups/lte.toml:2: unknown key buffer.size; known here are hold, memory, max_size, keep_free, when_full, max_age
groups/unused.toml:1: this list is not complete; write [ before it, a comma between two values, and ] after it
devices/gw-1.toml:1: warning: sources has none that is enabled, so nothing is collected; write for example [sources.broker]
devices/gw-3.toml:1: warning: sources has none that is enabled, so nothing is collected; write for example [sources.broker]
groups/unused.toml: warning: no device is in this group; name it in a device's groups or remove it
"#
    );
}

#[test]
fn what_is_shown_reads_back_as_the_same_settings() {
    let load =
        |device| config::load_on("h", Some("config/fleet".as_ref()), Some(device), Files::Skipped, std::iter::empty()).unwrap();
    for loaded in [load("gw-0042"), load("gw-0043"), config::parse("", "gw").unwrap()] {
        for with_origin in [false, true] {
            let text = as_toml(&loaded, with_origin).unwrap();
            assert_eq!(config::parse(&text, "other").unwrap().config, loaded.config, "{text}");
        }
    }
}

#[test]
fn one_gateways_file_is_that_of_the_device_that_is_asked_for_or_refused() {
    let folder = Folder::with(&[("named.toml", "[device]\nid = \"gw-1\"\n"), ("nameless.toml", "")]);
    let load = |file: &str, device: &str| {
        let path = folder.path().join(file);
        config::load_on("h", Some(&path), Some(device), Files::Skipped, std::iter::empty()).map(|loaded| loaded.config.device.id)
    };
    assert_eq!(load("named.toml", "gw-1").unwrap(), "gw-1");
    assert_eq!(load("nameless.toml", "gw-2").unwrap(), "gw-2");
    let refused = load("named.toml", "gw-2").unwrap_err().to_string();
    assert!(refused.contains("\"gw-1\"") && refused.contains("--device says \"gw-2\""), "{refused}");
}

#[test]
fn show_tells_where_each_value_came_from_and_what_is_wrong_instead() {
    let folder = Folder::with(&[
        ("gateway.toml", "[device]\nid = \"gw\"\n[buffer]\nhold = \"5s\"\n"),
        ("wrong.toml", "[buffer]\nhold = 5\n"),
    ]);
    let shown = |file: &str| {
        let args = ShowArgs { config: Some(folder.path().join(file)), device: None, origin: true };
        let (mut out, mut wrong) = (Vec::new(), Vec::new());
        let env = [("HEADWATER__BUFFER__MEMORY".to_owned(), "2 MiB".to_owned())];
        let code = show(&args, &env, &mut out, &mut wrong).unwrap();
        let text = |bytes| folder.short(&String::from_utf8(bytes).unwrap());
        (code, text(out), text(wrong))
    };

    let (code, out, wrong) = shown("gateway.toml");
    assert_eq!((code, wrong.as_str()), (ExitCode::SUCCESS, ""));
    let line = |setting: &str| {
        out.lines().find(|line| line.starts_with(setting)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("hold"), "hold = \"5s\" # gateway.toml:4");
    assert_eq!(line("memory"), "memory = \"2 MiB\" # HEADWATER__BUFFER__MEMORY");
    assert_eq!(line("max_size"), "max_size = \"2 GiB\" # default");

    let (code, out, wrong) = shown("wrong.toml");
    assert_eq!((code, out.as_str()), (ExitCode::from(2), ""));
    assert!(wrong.starts_with("wrong.toml:2: buffer.hold is the number 5; write a duration such as \"10s\"\n"), "{wrong}");
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    let mut loaded = config::parse(&format!("[device]\nid = \"gw\"\n{CLOUD}"), "gw").unwrap();
    let endpoint = "https://me:secret@vpce.example".into();
    loaded
        .config
        .destinations
        .insert("cloud".to_owned(), DestinationConfig::Kinesis(KinesisConfig { endpoint, ..KinesisConfig::default() }));

    let text = as_toml(&loaded, false).unwrap();

    assert!(text.contains("https://***@vpce.example") && !text.contains("secret"), "{text}");
}

#[test]
fn the_help_of_check_and_show_says_what_they_do_and_gives_examples() {
    let command = clap::Command::new("headwater");
    let mut check = CheckArgs::augment_args(command.clone());
    check.clone().debug_assert();
    let help = check.render_long_help().to_string();
    assert!(help.contains("headwater check config/fleet/") && help.contains("FILE:LINE"), "{help}");

    let mut show = ShowArgs::augment_args(command);
    show.clone().debug_assert();
    let help = show.render_long_help().to_string();
    assert!(help.contains("headwater show --origin") && help.contains("--device <ID>"), "{help}");
}
