//! Records of a stream, whoever wrote them, and runs of `Record` fields from the disk.

use md5::{Digest, Md5};

use crate::record::{
    deaggregate::deaggregate,
    kpl::{self, MAGIC},
};

/// Any record; and as if it were the inside of one, so that the MD5 does not keep everything out.
pub fn target(data: &[u8]) {
    check(data);
    check(&[&MAGIC[..], data, &Md5::digest(data)[..]].concat());
    run(data);
}

fn check(record: &[u8]) {
    let Some(users) = deaggregate(record) else { return };
    let bytes: usize = users.iter().map(|user| user.data.len()).sum();
    assert!(bytes + kpl::FRAME_LEN <= record.len(), "{bytes} bytes out of {}", record.len());
}

/// A run is cut into the same records whatever the size that is asked for, or refused.
fn run(fields: &[u8]) {
    let mut records = Vec::new();
    let mut rest = fields;
    while let Ok(record) = kpl::first_record(rest) {
        assert!(record.field_len > record.data.len() && record.field_len <= rest.len());
        records.push(record.field_len);
        rest = &rest[record.field_len..];
    }
    let Ok(whole) = kpl::cut(fields, usize::MAX, 0) else { return };
    assert_eq!(whole.len, fields.len());
    for at_most in [0, fields.len() / 2, fields.len()] {
        for at_least in [0, 1] {
            let run = kpl::cut(fields, at_most, at_least).expect("it was read before");
            assert!(run.len <= at_most || run.records <= at_least, "{run:?} of at most {at_most}");
            assert!(run.records <= whole.records);
        }
    }
    if rest.is_empty() {
        assert_eq!(records.len() as u64, whole.records);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{fuzz::tests::cases, record::kpl::HashKeyUse};

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn what_was_put_into_an_aggregate_comes_out_of_it(
            keys in prop::collection::vec(".{1,40}", 1..6),
            hash_key in any::<Option<u128>>(),
            records in prop::collection::vec((any::<prop::sample::Index>(), any::<Vec<u8>>()), 0..20),
        ) {
            let usage = if hash_key.is_some() { HashKeyUse::First } else { HashKeyUse::None };
            let mut fields = Vec::new();
            for (key, data) in &records {
                kpl::put_record(&mut fields, u32::try_from(key.index(keys.len())).unwrap(), usage, data);
            }
            run(&fields);
            let names: Vec<_> = keys.iter().map(String::as_str).collect();
            let aggregate = kpl::assemble(&names, hash_key.map(|key| key.to_string()).as_deref(), &fields);

            let users = deaggregate(&aggregate).unwrap();

            prop_assert_eq!(users.len(), records.len());
            for (user, (key, data)) in users.iter().zip(&records) {
                prop_assert_eq!((user.partition_key, user.data), (names[key.index(keys.len())], &data[..]));
                prop_assert_eq!(user.explicit_hash_key, hash_key);
            }
            target(&aggregate);
        }

        #[test]
        fn a_run_that_is_cut_again_and_again_is_the_same_run(
            records in prop::collection::vec(any::<Vec<u8>>(), 1..20),
            sizes in prop::collection::vec(0..300_usize, 1..5),
        ) {
            let mut fields = Vec::new();
            records.iter().for_each(|data| kpl::put_record(&mut fields, 0, HashKeyUse::None, data));
            let (mut rest, mut seen) = (&fields[..], 0);
            for at_most in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let run = kpl::cut(rest, *at_most, 1).unwrap();
                prop_assert!(run.records >= 1);
                seen += run.records;
                rest = &rest[run.len..];
            }
            prop_assert_eq!(seen, records.len() as u64);
        }
    }
}
