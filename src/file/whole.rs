//! How much of a file are whole records: what a power cut left behind them is no data.
//!
//! A file system may have written the end of what was not synced and not its beginning, and then there are zeros between. Neither a line of
//! JSON nor an item of ours in a CBOR sequence begins with a zero, and no line has one in it.

use std::io::{self, BufRead, Read};

use crate::config::Encoding;

/// What the names of files with these records end in.
pub(super) fn extension(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "jsonl",
        Encoding::Cbor => "cborseq",
        Encoding::Raw => "raw",
    }
}

/// The other way round.
pub(super) fn encoding(extension: &str) -> Option<Encoding> {
    [Encoding::Json, Encoding::Cbor, Encoding::Raw].into_iter().find(|encoding| self::extension(*encoding) == extension)
}

/// Bytes up to the end of the last record before the first one that is not whole. Raw records have no marks, so all of them count.
pub(super) fn whole_len(mut file: impl BufRead, encoding: Encoding) -> io::Result<u64> {
    match encoding {
        Encoding::Json => lines(&mut file),
        Encoding::Cbor => items(&mut file),
        Encoding::Raw => io::copy(&mut file, &mut io::sink()),
    }
}

fn lines(file: &mut impl BufRead) -> io::Result<u64> {
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        file.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") || line.contains(&0) {
            return Ok(whole);
        }
        whole += line.len() as u64;
    }
}

fn items(file: &mut impl BufRead) -> io::Result<u64> {
    let mut whole = 0;
    loop {
        // An envelope is a map; zeros would be numbers.
        if file.fill_buf()?.first().is_none_or(|head| head >> 5 != 5) {
            return Ok(whole);
        }
        let mut counted = Counted { file, bytes: 0 };
        match serde::Deserialize::deserialize(&mut serde_cbor::Deserializer::from_reader(&mut counted)) {
            Ok(serde::de::IgnoredAny) => whole += counted.bytes,
            Err(error) if error.is_io() => return Err(io::Error::other(error)),
            Err(_) => return Ok(whole),
        }
    }
}

struct Counted<'a, R> {
    file: &'a mut R,
    bytes: u64,
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::BufReader};

    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::tests::cases;

    fn len(bytes: &[u8], encoding: Encoding) -> u64 {
        whole_len(bytes, encoding).unwrap()
    }

    #[test]
    fn a_torn_line_and_all_that_follows_it_is_not_whole() {
        assert_eq!(len(b"", Encoding::Json), 0);
        assert_eq!(len(b"{\"a\":1}\n{\"b\":2}\n", Encoding::Json), 16);
        assert_eq!(len(b"{\"a\":1}\n{\"b\":", Encoding::Json), 8);
        assert_eq!(len(b"{\"a\":1}\n\0\0\0\0\":2}\n{\"c\":3}\n", Encoding::Json), 8, "a page that was never written");
    }

    #[test]
    fn a_torn_item_and_all_that_follows_it_is_not_whole() {
        let item = serde_cbor::to_vec(&[("v", 1)].into_iter().collect::<std::collections::BTreeMap<_, _>>()).unwrap();
        let two = item.repeat(2);
        for cut in 0..=two.len() {
            let expected = cut / item.len() * item.len();
            assert_eq!(len(&two[..cut], Encoding::Cbor), expected as u64, "{cut}");
            let zeros = [&two[..cut], &[0; 100]].concat();
            assert!(len(&zeros, Encoding::Cbor) <= (cut.div_ceil(item.len()) * item.len()) as u64);
        }
        assert_eq!(len(&[&item[..], &[0; 9], &item].concat(), Encoding::Cbor), item.len() as u64);
    }

    #[test]
    fn raw_payloads_have_no_marks_and_stay_as_they_are() {
        assert_eq!(len(b"21.5\x0021.", Encoding::Raw), 8);
    }

    /// As they are written.
    fn record(members: &BTreeMap<String, i64>, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Cbor => serde_cbor::to_vec(members).unwrap(),
            _ => [serde_json::to_vec(members).unwrap(), b"\n".to_vec()].concat(),
        }
    }

    fn members() -> impl Strategy<Value = BTreeMap<String, i64>> {
        prop::collection::btree_map(".{0,9}", any::<i64>(), 0..6)
    }

    fn with_marks() -> impl Strategy<Value = Encoding> {
        prop_oneof![Just(Encoding::Json), Just(Encoding::Cbor)]
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn all_records_before_a_torn_one_are_whole(
            records in prop::collection::vec(members(), 0..9),
            torn in members(),
            cut in any::<prop::sample::Index>(),
            encoding in with_marks(),
        ) {
            let whole: Vec<u8> = records.iter().flat_map(|members| record(members, encoding)).collect();
            let torn = record(&torn, encoding);
            let bytes = [&whole[..], &torn[..cut.index(torn.len())]].concat();

            prop_assert_eq!(len(&bytes, encoding), whole.len() as u64);
        }

        #[test]
        fn of_any_bytes_the_same_are_whole_however_they_are_read_and_again(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\0\n{}\xa0\xa1\x61a\x00\x9f\xbf\xff"[..])], 0..300),
            capacity in 1..64_usize,
            encoding in prop_oneof![with_marks(), Just(Encoding::Raw)],
        ) {
            let whole = len(&bytes, encoding);

            let kept = &bytes[..usize::try_from(whole).unwrap()];
            prop_assert_eq!(len(kept, encoding), whole);
            prop_assert_eq!(whole_len(BufReader::with_capacity(capacity, &bytes[..]), encoding).unwrap(), whole);
        }
    }
}
