//! What is said about a configuration that is wrong: everything, at once, with its line and what to write.

use headwater::config;

use super::places::mistakes;

#[test]
fn every_mistake_is_reported_at_once_with_its_line_and_what_to_write() {
    let text = r#"
groups = ["lte"]
[device]
id = 42
tags = { since = 2020-01-01, site = "x" }
[sources.broker]
kind = "mqtt"
url = "mqtt://me:secret@broker"
quality = 1
qos = "one"
window = 0
topic = ["a"]
topics = [
  "plant/#",
  5,
  "a/#/b",
]
[sources.mystery]
kind = "mqqt"
anything = 1
[sources.nameless]
url = "mqtt://broker"
topicz = ["a"]
[sources.scale]
kind = "serial"
framing = { kind = "delimiter", bite = 3, byte = "x" }
parity = "odds"
topic = "plant/+"
[streams.readings]
lanes = 1000
linger = 5
from = ["broker", "mystery:a/#", "scala"]
destination = "clout"
stream = "arn:aws:kinesis"
[destinations.cloud]
kind = "kinesis"
region = "eu-west-1a"
credentials = { kind = "default", profile = "x" }
[buffer]
max_size = "64"
hold = true
when_full = "drop-eldest"
[http]
listen = "0.0.0.0:80"
"#;

    let said = mistakes(text);

    let expected = [
        r"2: unknown key groups; it belongs into devices/ID.toml of a fleet folder, so name that folder",
        r#"4: device.id is the number 42; write "42""#,
        r#"5: device.tags.since is a date; write it as text: "2020-01-01""#,
        r#"8: sources.broker.url is "mqtt://***@broker", which carries a user or a password that backups and logs would keep; write for example "mqtt://127.0.0.1:1883""#,
        r"9: unknown key sources.broker.quality; known here are enabled, url, client_id, topics, qos, window, version, keep_alive, ca, client_cert, client_key, username, password_file, payload, timestamp",
        r#"10: sources.broker.qos is the text "one"; write a whole number from 0 to 2"#,
        r"11: sources.broker.window is the number 0; write a whole number from 1 to 65535",
        r"12: unknown key sources.broker.topic; write topics",
        r#"15: sources.broker.topics has the number 5; write "5""#,
        r#"16: sources.broker.topics has "a/#/b", which is no topic filter; write + for one whole level, # for all that follow, at the end"#,
        r#"18: sources.mystery.topics is missing; write for example topics = ["plant/#"]"#,
        r#"19: sources.mystery.kind is "mqqt"; write "mqtt" or "serial""#,
        r"20: unknown key sources.mystery.anything; known here are enabled, url, client_id, topics, qos, window, version, keep_alive, ca, client_cert, client_key, username, password_file, payload, timestamp",
        r#"21: sources.nameless has no kind; write kind = "mqtt" or kind = "serial""#,
        r#"21: sources.nameless.topics is missing; write for example topics = ["plant/#"]"#,
        r"23: unknown key sources.nameless.topicz; write topics",
        r"24: sources.scale.port is missing; write the device file, best one under /dev/serial/by-id",
        r#"26: sources.scale.framing.byte is the text "x"; write a whole number from 0 to 255"#,
        r"26: unknown key sources.scale.framing.bite; write byte",
        r#"27: sources.scale.parity is "odds"; write "none", "odd" or "even""#,
        r#"28: sources.scale.topic is "plant/+", and a topic has no + and no #; write for example "plant/scale""#,
        r"30: streams.readings.lanes is the number 1000; write a whole number from 1 to 256",
        r#"31: streams.readings.linger is the number 5; write a duration such as "10s""#,
        r#"32: streams.readings.from has "scala", and no source is called so; write "scale""#,
        r#"33: streams.readings.destination is "clout", and no destination is called so; write "cloud""#,
        r#"34: streams.readings.stream is "arn:aws:kinesis"; write the stream's name, not its ARN: 1 to 128 of A-Z, a-z, 0-9, '_', '-' and '.'"#,
        r#"37: destinations.cloud.region is "eu-west-1a", an availability zone; write "eu-west-1""#,
        r"38: unknown key destinations.cloud.credentials.profile; remove it",
        r#"40: buffer.max_size: "64" is not a size; write for example "64 MiB", "512 KiB" or "100 B""#,
        r#"41: buffer.hold is true; write a duration such as "10s""#,
        r#"42: buffer.when_full is "drop-eldest"; write "drop-oldest", "drop-newest", "thin" or "block""#,
        r#"44: http.listen is 0.0.0.0:80, where anybody could read it; write "127.0.0.1:80" or "off""#,
    ];
    assert_eq!(said, expected);
}

#[test]
fn lines_that_are_no_toml_are_reported_together_with_what_is_wrong_on_the_others() {
    let said =
        mistakes("[device]\nid = gw-1\ncolor = 1\n[buffer]\nhold = \nmemory = \"1\"\n[http\nlisten = \"x\"\n[sources]\nsources\n");

    assert_eq!(
        said,
        [
            "2: this is text without quotes; write \" before and after it",
            "3: unknown key device.color; known here are id, state_dir, socket, clock_synchronized, tags",
            "5: this is text without quotes; write \" before and after it",
            "6: buffer.memory: \"1\" is not a size; write for example \"64 MiB\", \"512 KiB\" or \"100 B\"",
            "7: this table's name has no end; write ] after it",
            "10: this is a key without a value; write KEY = VALUE",
        ]
    );
}

#[test]
fn settings_that_contradict_each_other_are_mistakes() {
    let said = mistakes(
        r#"
[sources.a]
kind = "mqtt"
client_id = "same"
topics = ["a"]
ca = "ca.pem"
client_cert = "cert.pem"
payload = "text"
timestamp = "/ts"
[sources.b]
kind = "mqtt"
url = "mqtt://127.0.0.1"
client_id = "same"
topics = ["a"]
username = "me"
timestamp = "$.ts"
keep_alive = "1500ms"
[sources.c]
kind = "serial"
port = "/dev/ttyUSB0"
topic = "c"
[sources.d]
kind = "serial"
port = "/dev/ttyUSB0"
topic = "d"
[streams.s]
stream = "s"
destination = "cloud"
from = ["a", "b:a/b#", "c", "d"]
partition_key = "{topik}"
max_size = "512 KiB"
max_age = "500ms"
priority = 101
[destinations.cloud]
kind = "kinesis"
region = "eu-west-1"
endpoint = "kinesis.eu-west-1.amazonaws.com"
[buffer]
memory = "16 MiB"
max_size = "8 MiB"
"#,
    );

    assert_eq!(
        said,
        [
            r"6: sources.a.ca is set, but the url is not for TLS; write mqtts:// in the url or remove it",
            r"7: sources.a.client_cert is set without client_key; write client_key too",
            r"7: sources.a.client_cert is set, but the url is not for TLS; write mqtts:// in the url or remove it",
            r#"9: sources.a.timestamp is a JSON pointer, and the payload is not JSON; write payload = "json" or remove it"#,
            r"13: sources.b.client_id is also that of sources.a at the same broker, and each would throw the other out; write {source} into it",
            r"15: sources.b.username is set without password_file; write password_file too",
            r#"16: sources.b.timestamp is "$.ts", which is no JSON pointer; write for example "/ts""#,
            r#"17: sources.b.keep_alive is "1500ms"; write whole seconds from "1s" to "65535s""#,
            r"24: sources.d.port is also that of sources.c, and a line has one reader; write another port",
            r#"29: streams.s.from has "b:a/b#", and "a/b#" is no topic filter; write + for one whole level, # for all that follow, at the end"#,
            r#"30: streams.s.partition_key has "{topik}", which is not filled in; write {topic} or {source} or {device.id} or none"#,
            r#"31: streams.s.max_size is "512 KiB", and one reading may have 1,000 KiB; write at least "1 MiB""#,
            r#"32: streams.s.max_age is "500ms"; write at least "1s""#,
            r"33: streams.s.priority is the number 101; write a whole number from 0 to 100",
            r#"37: destinations.cloud.endpoint is "kinesis.eu-west-1.amazonaws.com", which does not begin with https:// or http://; write for example "https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com""#,
            r#"39: buffer.memory is "16 MiB"; write less than buffer.max_size, "8 MiB""#,
        ]
    );
}

#[test]
fn addresses_that_would_be_refused_later_are_mistakes_now() {
    let cloud =
        |settings: &str| mistakes(&format!("[destinations.cloud]\nkind = \"kinesis\"\nregion = \"eu-west-1\"\n{settings}\n"));
    for (settings, expected) in [
        (
            r#"endpoint = "https://52.94.1.2""#,
            r#"4: destinations.cloud.endpoint is "https://52.94.1.2", an address that private_only refuses; write the name of the VPC endpoint, or allow_addresses = ["52.94.1.2"]"#,
        ),
        (
            r#"resolve = { "vpce.example" = ["10.0.1.5", "100.64.0.1"] }"#,
            r"4: destinations.cloud.resolve.vpce.example has 100.64.0.1, which private_only refuses; write a private address, or add it to allow_addresses",
        ),
        (
            r#"resolve = { "https://vpce.example" = ["10.0.1.5"] }"#,
            r"4: destinations.cloud.resolve.https://vpce.example is no host name; write the host alone, without https:// and without a port",
        ),
        (
            r"resolve = { vpce = [] }",
            r#"4: destinations.cloud.resolve.vpce has no address; write for example ["10.0.1.5"] or remove it"#,
        ),
        (
            r#"resolve = { vpce = ["10.0.1"] }"#,
            r#"4: destinations.cloud.resolve.vpce: "10.0.1" is no address; write for example "10.0.1.5""#,
        ),
        (
            r#"allow_addresses = ["100.64.0.0/10", "here"]"#,
            r#"4: destinations.cloud.allow_addresses: "here" is no range of addresses; write for example "100.64.0.0/10""#,
        ),
        (
            r#"endpoint = ["https://vpce.example", "https://vpce.example", "vpce.example"]"#,
            r#"4: destinations.cloud.endpoint has "https://vpce.example" twice; remove one"#,
        ),
        ("endpoint = 5", r"4: destinations.cloud.endpoint is the number 5; write a URL in quotes, or a list of them"),
        (
            "endpoint = \"https://vpce.example\"\nfips = true",
            r"5: destinations.cloud.fips is true, and that is about the region's public name; remove it, and write a FIPS name into endpoint",
        ),
        (
            r#"proxy = "http://proxy.example:3128""#,
            r"4: destinations.cloud.proxy is set, and private_only = true can't see where a proxy connects to; write private_only = false, or remove it",
        ),
        (
            "private_only = false\nproxy = \"socks5://proxy.example\"",
            r#"5: destinations.cloud.proxy is "socks5://proxy.example", which does not begin with http://; write for example "http://proxy.example:3128""#,
        ),
        (
            r#"allow_addresses = ["0.0.0.0/0"]"#,
            r#"4: destinations.cloud.allow_addresses has "0.0.0.0/0", which is every address; write private_only = false, if that is meant"#,
        ),
        (
            r#"max_rate = "512 B/s""#,
            r#"4: destinations.cloud.max_rate is "512 B/s", and nothing would ever arrive; write at least "1 KiB/s""#,
        ),
        (
            r#"max_rate = "1 MiB""#,
            r#"4: destinations.cloud.max_rate: "1 MiB" is not a rate; write for example "512 KiB/s" or "1 MiB/s""#,
        ),
        (
            r#"max_bytes_per_month = "1 MiB""#,
            r#"4: destinations.cloud.max_bytes_per_month is "1 MiB", which is a few requests; write at least "2 MiB""#,
        ),
        (
            r#"quiet_hours = ["8-18"]"#,
            r#"4: destinations.cloud.quiet_hours: "8-18" are no hours of the day; write for example "08:00-18:00" or "22:00-06:00""#,
        ),
        (
            r#"quiet_hours = ["06:00-22:00", "21:00-06:00"]"#,
            r"4: destinations.cloud.quiet_hours are the whole day, so nothing would ever be sent; leave some time",
        ),
    ] {
        let said = cloud(settings);
        assert_eq!(said[0], expected, "{settings}");
        assert_eq!(said.len(), 1 + usize::from(settings.contains("\"vpce.example\"]")), "{said:?}");
    }
}

#[test]
fn a_setting_of_a_later_version_is_refused_as_unknown() {
    let said = mistakes("[http]\ntoken_file = \"/etc/headwater/token\"\n");
    assert!(said.iter().any(|line| line.contains("unknown key")), "{said:?}");
}

#[test]
fn a_name_that_every_new_board_has_is_refused() {
    for host in ["raspberrypi", "localhost"] {
        let said = config::parse("# nothing\n[device]\n", host).unwrap_err().to_string();
        assert_eq!(
            said,
            format!(
                "configuration:2: device.id is {host:?}, as on every new board; write [device] id = \"gw-0042\", a name that only this gateway has"
            )
        );
    }
    assert_eq!(config::parse("", "gw-7").unwrap().config.device.id, "gw-7");
    assert!(mistakes("[device]\nid = \"a/b\"\n")[0].starts_with("2: device.id is \"a/b\"; write 1 to 64 of"));
}

#[test]
fn a_value_of_any_wrong_shape_is_told_what_belongs_there() {
    for (text, expected) in [
        ("sources = 5", r"1: sources is the number 5; write a table"),
        ("sources.a = \"b\"", r#"1: sources.a is the text "b"; write a table with kind = "mqtt" or kind = "serial""#),
        ("[[sources.a]]\nkind = \"mqtt\"", r#"1: sources.a is a list; write a table with kind = "mqtt" or kind = "serial""#),
        ("streams.s.from = \"a\"", r#"1: streams.s.from is the text "a"; write a list such as ["a", "b"]"#),
        ("streams.s.enabled = \"yes\"", r#"1: streams.s.enabled is the text "yes"; write true or false"#),
        ("sources.a = { kind = \"mqtt\", version = 3.1 }", r#"1: sources.a.version is the number 3.1; write "3.1.1""#),
        ("sources.a = { kind = \"mqtt\", version = \"5\" }", r#"1: sources.a.version is "5"; write "3.1.1""#),
        ("sources.a = { kind = \"serial\", port = 1 }", r#"1: sources.a.port is the number 1; write "1""#),
        (
            "sources.a = { kind = \"serial\", baud = 99999999999999999999 }",
            r"1: sources.a.baud is 99999999999999999999, beyond all numbers that we know; write a smaller one",
        ),
        (
            "sources.a = { kind = \"serial\", framing = \"lines\" }",
            r#"1: sources.a.framing is the text "lines"; write a table with kind = "lines" or kind = "delimiter""#,
        ),
        (
            "sources.a = { kind = \"serial\", framing = { kind = \"delimiter\" } }",
            r"1: sources.a.framing has no byte; write byte = …",
        ),
        (
            "sources.\"a/b\" = { kind = \"serial\", enabled = false }",
            r"1: sources.a/b is not a name that lanes can carry; write 1 to 64 of A-Z, a-z, 0-9, '_', '-' and '.'",
        ),
        ("device.tags.site = 7", r#"1: device.tags.site is the number 7; write "7""#),
        ("\u{feff}http.listen = false\r\n", r"1: http.listen is false; write text in quotes"),
        ("\r\n\r\n\"a.b\" = 1", r#"3: unknown key "a.b"; write it without quotes or remove it"#),
    ] {
        let said = mistakes(text);
        assert!(said.iter().any(|line| line == expected), "{text}: {said:?}");
    }
}

#[test]
fn a_folder_is_given_whole_and_has_room_for_two_files() {
    let file = |settings: &str| format!("[destinations.a]\nkind = \"file\"\n{settings}");
    for (text, expected) in [
        (file(""), r#"1: destinations.a.path is missing; write the folder, for example path = "/media/usb/headwater""#),
        (
            file("path = \"files\"\n"),
            r#"3: destinations.a.path is "files", and from where is not said; write the whole path, such as "/media/usb/headwater""#,
        ),
        (
            file("path = \"/f\"\nmax_size = \"20 MiB\"\n"),
            r#"4: destinations.a.max_size is "20 MiB", and one file may have "16 MiB"; write at least twice as much, or lower file_size"#,
        ),
        (file("path = \"/f\"\nfile_age = \"0s\"\n"), r#"4: destinations.a.file_age is "0s"; write for example "1h""#),
        (file("path = \"/f\"\ncompress = \"gzip\"\n"), r#"4: destinations.a.compress is "gzip"; write "none" or "zstd""#),
        (
            file("path = \"/f\"\n[destinations.b]\nkind = \"file\"\npath = \"/f\"\n"),
            r"6: destinations.b.path is that of destinations.a; let streams lead to one of the two, or write another folder",
        ),
    ] {
        assert_eq!(mistakes(&text), [expected]);
    }

    let stream = "[sources.a]\nkind = \"mqtt\"\ntopics = [\"a\"]\n[streams.s]\ndestination = \"a\"\nfrom = [\"a\"]\n";
    let loaded = config::parse(&format!("{stream}{}", file("path = \"/f\"\n")), "gw").unwrap();
    assert_eq!(loaded.warnings, [], "a stream needs no name for files");
}

#[test]
fn a_file_that_is_no_configuration_at_all_is_said_to_be_so_in_a_few_lines() {
    let said = mistakes(&"0\n".repeat(200));

    assert_eq!(said.len(), 21, "{said:#?}");
    assert_eq!(said[20], "21: this and 179 more lines are no TOML; give a configuration file");
}
