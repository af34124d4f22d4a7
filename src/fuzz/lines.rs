//! Lines of an export, as `headwater buffer import` takes them; and user records, as they lie in the buffer.

use std::sync::LazyLock;

use crate::{
    cli::buffer::import::taken_from,
    config::{self, Config, Encoding},
    record::{
        Notice,
        correct::{self, correct},
        kpl::first_record,
        names_of,
    },
};

/// A stream of each encoding.
const CONFIG: &str = r#"
    [sources.broker]
    kind = "mqtt"
    url = "mqtt://127.0.0.1:1883"
    topics = ["plant/#"]
    [destinations.cloud]
    kind = "kinesis"
    region = "eu-west-1"
    [streams.cbor]
    destination = "cloud"
    stream = "s"
    from = ["broker"]
    encoding = "cbor"
    [streams.json]
    destination = "cloud"
    stream = "s"
    from = ["broker"]
    encoding = "json"
    partition_key = "{topic}"
    [streams.raw]
    destination = "cloud"
    stream = "s"
    from = ["broker"]
    encoding = "raw"
"#;

static SETTINGS: LazyLock<Config> =
    LazyLock::new(|| config::parse(CONFIG, "gw-7").unwrap_or_else(|errors| panic!("{errors}")).config);

/// No line comes twice, and none is gone without a word; a chunk is as many records as it says.
pub fn target(data: &[u8]) {
    // A vertical tab is blank to some, and to others not.
    let is_blank = |line: &&[u8]| std::str::from_utf8(line).is_ok_and(|line| line.trim().is_empty());
    let lines = data.split(|byte| *byte == b'\n').filter(|line| !is_blank(line)).count() as u64;
    let (chunks, unread) = taken_from(&SETTINGS, data);
    let mut taken = 0;
    for (_, chunk) in &chunks {
        let mut rest = &chunk.data[..];
        let mut records = 0;
        while !rest.is_empty() {
            let record = first_record(rest).expect("it was made just now");
            user_record(record.data);
            records += 1;
            rest = &rest[record.field_len..];
        }
        assert_eq!(chunk.readings + u64::from(chunk.notice), records);
        assert!(i64::try_from(chunk.first_seq).is_ok());
        taken += records;
    }
    assert_eq!(taken + unread, lines, "{taken} taken, {unread} not");
    user_record(data);
}

fn user_record(record: &[u8]) {
    for add in [0, -1, i64::MAX, i64::MIN] {
        let mut corrected = Vec::new();
        correct(&mut corrected, record, add);
        assert!(corrected.len() <= record.len() + correct::MAX_GROWTH);
        assert_eq!(names_of(&corrected), names_of(record));
    }
    let Some(notice) = Notice::decode(record) else { return };
    for encoding in [Encoding::Cbor, Encoding::Json] {
        let again = notice.encode(encoding, "gw-7", "s/0").expect("it has names");
        assert_eq!(Notice::decode(&again), Some(notice));
    }
}
