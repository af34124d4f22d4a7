//! What is said about a configuration that is right, and hardly what somebody wants.

use headwater::config;

use super::places::{CLOUD, mistakes};

#[test]
fn an_endpoint_that_only_private_dns_can_make_private_is_a_warning() {
    let warnings = |settings: &str| {
        let text = format!("[destinations.cloud]\nkind = \"kinesis\"\nregion = \"eu-west-1\"\n{settings}\n");
        let warnings = config::parse(&text, "gw").unwrap().warnings.into_iter().map(|warning| warning.text);
        warnings.filter(|text| text.starts_with("destinations")).collect::<Vec<_>>()
    };

    assert_eq!(
        warnings(""),
        [
            "destinations.cloud.endpoint is not set, and the service's public name has private addresses only where a VPC endpoint's private DNS answers for it; write the endpoint's own name, or else private_only = false"
        ]
    );
    assert!(warnings("private_only = false").is_empty());
    assert!(warnings("endpoint = \"https://kinesis.eu-west-1.amazonaws.com\"").is_empty());
    let both = warnings("private_only = false\nallow_addresses = [\"100.64.0.0/10\"]");
    assert!(both[0].contains("remove one of the two"), "{both:?}");
}

#[test]
fn an_endpoint_without_tls_is_a_warning_wherever_it_is_but_on_the_gateway_itself() {
    let warnings = |endpoint: &str| {
        let text = format!("[destinations.cloud]\nkind = \"kinesis\"\nregion = \"eu-west-1\"\nendpoint = \"{endpoint}\"\n");
        let warnings = config::parse(&text, "gw").unwrap().warnings.into_iter().map(|warning| warning.to_string());
        warnings.filter(|text| text.contains("destinations")).collect::<Vec<_>>()
    };

    assert_eq!(
        warnings("http://10.0.0.1"),
        [
            r#"configuration:4: destinations.cloud.endpoint is "http://10.0.0.1", so readings go there unencrypted; write https://, or leave it to emulators"#
        ]
    );
    assert_eq!(warnings("http://vpce.example:8080").len(), 1);
    for fine in ["https://10.0.0.1", "http://127.0.0.1:4566", "http://[::1]:4566", "http://localhost:4566"] {
        assert!(warnings(fine).is_empty(), "{fine}: {:?}", warnings(fine));
    }
}

#[test]
fn a_source_that_no_stream_takes_is_a_warning() {
    let loaded = config::parse("[sources.broker]\nkind = \"mqtt\"\ntopics = [\"a\"]\n", "gw").unwrap();

    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = "configuration:1: sources.broker is taken by no stream, so all its readings are rejected as unrouted; name it in a stream's from";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_linger_as_long_as_hold_is_a_warning_because_it_wears_the_card() {
    let text = format!(
        "[sources.a]\nkind = \"mqtt\"\ntopics = [\"a\"]\n\
         [streams.s]\nlinger = \"1s\"\nstream = \"s\"\ndestination = \"cloud\"\nfrom = [\"a\"]\n{CLOUD}"
    );
    let loaded = config::parse(&text, "gw").unwrap();

    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = "configuration:5: streams.s.linger is \"1s\", and what waits longer than buffer.hold, \"1s\", is written to the card even while the link is good; write less, or raise buffer.hold";
    assert_eq!(warnings, [expected]);
}

#[test]
fn what_firehose_has_no_use_for_is_a_warning_and_a_name_that_it_cannot_have_is_wrong() {
    let with = |stream: &str| {
        format!(
            "[sources.a]\nkind = \"mqtt\"\ntopics = [\"a\"]\n[streams.s]\ndestination = \"lake\"\nfrom = [\"a\"]\n\
             encoding = \"raw\"\npartition_key = \"{{topic}}\"\nstream = \"{stream}\"\n[destinations.lake]\nkind = \"firehose\"\n\
             region = \"eu-west-1\"\nendpoint = \"https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com\"\n"
        )
    };
    let loaded = config::parse(&with("plant"), "gw").unwrap();

    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "configuration:7: streams.s.encoding is \"raw\", and nothing stands between two payloads there, so nobody can take them apart unless each ends in a mark of its own; write \"json\", one line a reading",
        "configuration:8: streams.s.partition_key has no meaning there, for records have no keys; remove it",
        "configuration:13: destinations.lake.endpoint is \"https://vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com\", where kinesis answers; write kind = \"kinesis\", or an endpoint such as \"https://vpce-0123-abcd.firehose.eu-west-1.vpce.amazonaws.com\"",
    ];
    assert_eq!(warnings, expected);
    let long = "p".repeat(65);
    let said = mistakes(&with(&long));
    let expected = format!(
        "9: streams.s.stream is {long:?}; write the stream's name, not its ARN: 1 to 64 of A-Z, a-z, 0-9, '_', '-' and '.'"
    );
    assert_eq!(said, [expected]);
}

#[test]
fn raw_readings_that_nobody_could_sort_are_a_warning() {
    let text = format!(
        "[sources.a]\nkind = \"mqtt\"\ntopics = [\"a\"]\n\
         [streams.s]\nencoding = \"raw\"\ndrain_order = \"live-first\"\nstream = \"s\"\ndestination = \"cloud\"\nfrom = [\"a\"]\n{CLOUD}"
    );
    let loaded = config::parse(&text, "gw").unwrap();

    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = "configuration:6: streams.s.drain_order is \"live-first\", and raw readings have no `seq` by which a consumer could sort them; write \"oldest-first\", or \"cbor\" or \"json\" for the encoding";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_configuration_that_collects_nothing_is_right_with_a_warning() {
    let loaded = config::parse("", "gw").unwrap();

    let warnings: Vec<_> = loaded.warnings.iter().map(|warning| &warning.text[..]).collect();
    assert_eq!(warnings, ["sources has none that is enabled, so nothing is collected; write for example [sources.broker]"]);
}
