//! The targets as plain tests, and how this crate's property tests are run.

use std::{fs, path::Path};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{RngSeed, TestRunner},
};

use super::*;

/// The same inputs at every run, and few enough for a debug build; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for more and for others.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(8);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = few;
    }
    config
}

/// What is done to a seed.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Cut(Index),
    Drop(Index, u8),
    Repeat(Index, u8),
    Insert(Index, Vec<u8>),
    /// Goes on with the end of another seed.
    Join(Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, bits)| Edit::Flip(at, bits)),
        1 => at().prop_map(Edit::Cut),
        2 => (at(), any::<u8>()).prop_map(|(at, n)| Edit::Drop(at, n)),
        2 => (at(), any::<u8>()).prop_map(|(at, n)| Edit::Repeat(at, n)),
        3 => (at(), prop::collection::vec(telling_byte(), 1..9)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), at(), at()).prop_map(|(at, other, from)| Edit::Join(at, other, from)),
    ]
}

/// Bytes at which formats change their mind.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"\x00\x01\x7f\x80\xff\r\n\"\\[]{},:#+/$=.-e019nu\x1f\x9f\xbf\xf9\xfb".to_vec())]
}

impl Edit {
    fn apply(&self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index| at.index(data.len() + 1);
        match self {
            Self::Flip(at, bits) => {
                let from = place(at);
                data[from..].iter_mut().take(1).for_each(|byte| *byte ^= bits);
            }
            Self::Cut(at) => data.truncate(place(at)),
            Self::Drop(at, n) => {
                let from = place(at);
                data.drain(from..(from + usize::from(*n)).min(data.len()));
            }
            Self::Repeat(at, n) => {
                let from = place(at);
                let again = data[from..(from + usize::from(*n)).min(data.len())].to_vec();
                data.splice(from..from, again);
            }
            Self::Insert(at, bytes) => {
                let from = place(at);
                data.splice(from..from, bytes.iter().copied());
            }
            Self::Join(at, other, from) => {
                data.truncate(place(at));
                let other = other.get(seeds);
                data.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn holds(name: &str, few: u32) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| target(seed));
    let input = (any::<Index>(), prop::collection::vec(edit(), 1..12));
    let outcome = TestRunner::new(cases(few)).run(&input, |(seed, edits)| {
        let mut data = seed.get(&seeds).clone();
        edits.iter().for_each(|edit| edit.apply(&mut data, &seeds));
        target(&data);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_bytes_from_a_broker_are_the_same_packets_however_they_are_cut() {
    holds("wire", 1_500);
}

#[test]
fn any_bytes_from_a_line_are_the_same_frames_however_they_are_cut() {
    holds("serial", 1_500);
}

#[test]
fn any_payload_becomes_a_record_that_every_reader_can_read() {
    holds("payload", 1_000);
}

#[test]
fn any_answer_of_a_proxy_is_a_way_or_a_reason_however_it_is_cut() {
    holds("proxy", 1_500);
}

#[test]
fn any_buffer_file_is_read_as_far_as_it_can_be() {
    holds("cold", 300);
}

#[test]
fn any_line_of_an_export_is_a_reading_or_counted() {
    holds("lines", 1_000);
}

#[test]
fn any_record_of_a_stream_is_taken_apart_or_left_whole() {
    holds("aggregate", 1_500);
}

#[test]
fn any_record_is_printed_by_tail_as_one_line_of_json() {
    holds("tail", 1_000);
}

#[test]
fn any_text_is_a_configuration_or_a_list_of_mistakes() {
    holds("settings", 100);
}

#[test]
fn any_topic_is_matched_as_the_specification_says() {
    holds("routes", 1_500);
}

#[test]
fn every_target_can_be_fuzzed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
}
