use proptest::prelude::*;

use super::*;
use crate::{drain::meter::Meter, fuzz::tests::cases, units::ByteCount};

/// 2026-11-28T12:00:00Z.
const NOON: Timestamp = Timestamp(1_795_867_200_000);
const DECEMBER: Timestamp = Timestamp(1_796_083_200_000);
const KIB: usize = 1 << 10;

fn allowance(change: impl FnOnce(&mut KinesisConfig)) -> Allowance {
    let mut config = KinesisConfig::default();
    change(&mut config);
    Allowance::new(&config, Months::new())
}

fn a_month(bytes: u64) -> Allowance {
    allowance(|config| config.max_bytes_per_month = Some(ByteCount(bytes)))
}

/// Writes the file whenever it has to be; says what may be sent then, and how often it was written.
fn noted(allowance: &mut Allowance, now: Instant, time: Timestamp) -> (Permit, u32) {
    match allowance.permit(now, time) {
        Permit::Unnoted => {
            let note = allowance.note(time);
            allowance.noted(note);
            (allowance.permit(now, time), 1)
        }
        permit => (permit, 0),
    }
}

fn sends(allowance: &mut Allowance, now: Instant, bytes: usize) {
    allowance.sends(now, bytes);
    allowance.ended(NOON, bytes, Some(bytes));
}

#[test]
fn without_a_limit_everything_may_be_sent() {
    let mut free = allowance(|_| {});
    let now = Instant::now();
    sends(&mut free, now, 100 * KIB);
    assert_eq!(free.permit(now, NOON), Permit::Open(records_in(u64::MAX)));
    assert_eq!((free.of_the_month(NOON), free.last_note()), (None, None));
}

#[test]
fn no_more_than_the_rate_leaves_over_all_requests() {
    let mut limited = allowance(|config| config.max_rate = "16 KiB/s".parse().ok());
    let start = Instant::now();
    let (mut now, mut sent) = (start, 0);
    while now < start + Duration::from_mins(1) {
        match limited.permit(now, NOON) {
            Permit::Open(bytes) => {
                assert!(bytes <= 24 * KIB, "{bytes}");
                sends(&mut limited, now, bytes);
                sent += wire(bytes);
            }
            Permit::Later(at) => now = at,
            other => panic!("{other:?}"),
        }
    }
    let rate = sent as f64 / (now - start).as_secs_f64();
    assert!((0.99 * 16_384.0..=16_384.5).contains(&rate), "{rate}");
}

#[test]
fn a_request_that_never_left_costs_nothing_and_one_that_was_smaller_less() {
    let mut both = allowance(|config| {
        config.max_rate = "16 KiB/s".parse().ok();
        config.max_bytes_per_month = Some(ByteCount::mib(1));
    });
    let now = Instant::now();
    assert!(matches!(noted(&mut both, now, NOON).0, Permit::Open(_)));
    both.sends(now, 24 * KIB);
    assert!(matches!(both.permit(now, NOON), Permit::Later(_)));
    both.ended(NOON, 24 * KIB, None);
    assert!(matches!(both.permit(now, NOON), Permit::Open(_)));
    both.sends(now, 24 * KIB);
    both.ended(NOON, 24 * KIB, Some(3 * KIB));
    assert_eq!(both.of_the_month(NOON), Some((wire(3 * KIB), 1 << 20)));
}

#[test]
fn in_quiet_hours_nothing_is_sent() {
    let quiet = allowance(|config| config.quiet_hours = vec!["08:00-18:00".parse().unwrap(), "17:00-19:30".parse().unwrap()]);
    let now = Instant::now();
    let at = |hour: i64| Timestamp(NOON.0 + (hour - 12) * 3_600_000);
    assert_eq!(quiet.permit(now, at(7)), Permit::Open(records_in(u64::MAX)));
    assert_eq!(quiet.permit(now, NOON), Permit::Closed(Closed::Quiet(at(18))));
    assert_eq!(quiet.permit(now, at(17)), Permit::Closed(Closed::Quiet(Timestamp(at(19).0 + 1_800_000))));
    assert_eq!(quiet.permit(now, at(20)), Permit::Open(records_in(u64::MAX)));
}

#[test]
fn when_the_month_is_used_up_nothing_is_sent_until_it_ends() {
    let mut metered = a_month(1 << 20);
    let now = Instant::now();
    let mut requests = 0;
    while let (Permit::Open(bytes), _) = noted(&mut metered, now, NOON) {
        sends(&mut metered, now, bytes.min(100 * KIB));
        requests += 1;
    }
    assert!(requests < 20, "{requests}");
    let (spent, of) = metered.of_the_month(NOON).unwrap();
    assert!(spent <= of && spent > of - SCRAP, "{spent}");
    assert_eq!(metered.permit(now, NOON), Permit::Closed(Closed::Spent(DECEMBER)));
    assert!(matches!(metered.permit(now, Timestamp(DECEMBER.0 - 1)), Permit::Closed(_)));
    assert!(matches!(noted(&mut metered, now, DECEMBER).0, Permit::Open(_)));
    assert_eq!(metered.of_the_month(DECEMBER), Some((0, 1 << 20)));
}

#[test]
fn a_clock_that_jumps_and_is_set_right_again_gives_nothing_back() {
    let mut metered = a_month(1 << 20);
    let now = Instant::now();
    while let (Permit::Open(bytes), _) = noted(&mut metered, now, NOON) {
        sends(&mut metered, now, bytes);
    }
    let next_year = Timestamp(NOON.0 + 365 * 86_400_000);
    for time in [DECEMBER, next_year] {
        assert!(matches!(noted(&mut metered, now, time).0, Permit::Open(_)));
    }
    assert!(matches!(metered.permit(now, NOON), Permit::Closed(Closed::Spent(_))));
}

#[test]
fn the_file_always_says_at_least_what_has_left_and_is_seldom_written() {
    let mut metered = a_month(100 << 20);
    let now = Instant::now();
    let mut writes = 0;
    for _ in 0..1000 {
        let (permit, wrote) = noted(&mut metered, now, NOON);
        let Permit::Open(bytes) = permit else { panic!("{permit:?}") };
        sends(&mut metered, now, bytes.min(30 * KIB));
        assert!(of(&metered.noted, "2026-11") >= metered.of_the_month(NOON).unwrap().0);
        writes += wrote;
    }
    assert!((30..=45).contains(&writes), "{writes}");
}

#[test]
fn a_power_cut_costs_what_the_file_says_too_much_and_an_orderly_stop_nothing() {
    let config = KinesisConfig { max_bytes_per_month: Some(ByteCount::mib(100)), ..KinesisConfig::default() };
    let now = Instant::now();
    let mut before = Allowance::new(&config, Months::new());
    noted(&mut before, now, NOON);
    sends(&mut before, now, 300 * KIB);

    let cut = Allowance::new(&config, before.noted.clone());
    assert_eq!(cut.of_the_month(NOON), Some((1 << 20, 100 << 20)));

    let stopped = Allowance::new(&config, before.last_note().unwrap().clone());
    assert_eq!(stopped.of_the_month(NOON), before.of_the_month(NOON));
}

#[test]
fn only_the_last_months_and_the_one_that_it_is_are_kept() {
    let mut metered = a_month(1 << 20);
    for month in (0..12).rev() {
        let time = Timestamp(NOON.0 + month * 31 * 86_400_000);
        let note = metered.note(time);
        metered.noted(note);
        assert!(matches!(metered.permit(Instant::now(), time), Permit::Open(_)));
        metered.ended(time, 0, Some(KIB));
    }
    assert_eq!(metered.noted.len(), MONTHS);
    assert!(metered.spent.len() <= MONTHS);
}

/// Months as they may stand in a file, of today and of any other time, and what else may.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0..1_u64 << 24];
    let months = prop::collection::btree_map(prop_oneof![Just("2026-11".to_owned()), "[0-9]{4}-[01][0-9]", ".*"], bytes, 0..6);
    let json = months.prop_map(|months| serde_json::to_vec(&months).unwrap());
    let torn = (json.clone(), any::<prop::sample::Index>()).prop_map(|(json, cut)| json[..cut.index(json.len())].to_vec());
    prop_oneof![4 => json, 1 => torn, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn whatever_stands_in_the_file_of_the_month_no_more_leaves_than_it_has_left(
        file in file(),
        most in 1 << 20..1_u64 << 40,
        requests in prop::collection::vec((0..2_usize << 20, prop::option::of(0..2_usize << 20)), 0..9),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("month.json");
        std::fs::write(&path, &file).unwrap();
        let known: Months = serde_json::from_slice(&file).unwrap_or_default();
        let config = KinesisConfig { max_bytes_per_month: Some(ByteCount(most)), ..KinesisConfig::default() };

        let mut metered = Meter::open(&config, Some(path)).allowance;

        let before = known.get("2026-11").copied().unwrap_or_default();
        prop_assert_eq!(metered.of_the_month(NOON), Some((before, most)));
        for (bytes, left) in requests {
            let note = metered.note(NOON);
            prop_assert!(note["2026-11"] <= most && note.len() <= MONTHS);
            metered.noted(note);
            let (gone, _) = metered.of_the_month(NOON).unwrap();
            let Permit::Open(allowed) = metered.permit(Instant::now(), NOON) else { continue };
            prop_assert!(gone < most);
            metered.sends(Instant::now(), bytes.min(allowed));
            metered.ended(NOON, bytes.min(allowed), left.map(|left| left.min(allowed)));
        }
    }
}
