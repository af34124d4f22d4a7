//! What a broker may do, from the point of view of the memory that has to tell publishes apart.

use super::*;

const fn publish(packet: u16, hash: u32) -> Fingerprint {
    Fingerprint { packet, hash }
}

/// A memory that is connected, with publishes 1, 2, 3, … received as readings 1, 2, 3, …
fn received(packets: impl IntoIterator<Item = u16>) -> Redelivery {
    let mut memory = Redelivery::new(vec![]);
    memory.connected(false);
    for (ordinal, packet) in (1..).zip(packets) {
        let fingerprint = publish(packet, packet.into());
        assert_eq!(memory.recognise(fingerprint, false, false), Delivery::New { dup: false });
        memory.remember(fingerprint, false, ordinal);
    }
    memory
}

#[test]
fn a_repeated_publish_is_the_reading_that_it_became() {
    let mut memory = received(1..=3);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(2, 2), false, true), Delivery::Repeated(2));
}

#[test]
fn a_publish_of_the_run_before_is_recognised() {
    let mut memory = Redelivery::new(vec![publish(7, 70), publish(8, 80)]);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(8, 80), false, true), Delivery::Repeated(0));
    assert_eq!(memory.recognise(publish(8, 80), false, true), Delivery::Repeated(0), "until it is settled");
}

#[test]
fn a_repeated_publish_that_the_run_before_may_have_had_is_marked() {
    let mut memory = Redelivery::new(vec![publish(7, 70)]);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(8, 80), false, true), Delivery::New { dup: true });
}

#[test]
fn a_repeated_publish_that_only_this_process_can_have_had_and_has_not_is_not_marked() {
    let mut memory = received(1..=3);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(4, 4), false, true), Delivery::New { dup: false });
}

#[test]
fn a_new_publish_that_reuses_an_identifier_is_new_even_with_the_same_bytes() {
    let mut memory = received(1..=3);
    assert_eq!(memory.recognise(publish(2, 2), false, false), Delivery::New { dup: false });
}

#[test]
fn a_repeated_publish_with_a_reused_identifier_is_compared_with_its_newest_use() {
    let mut memory = received([1]);
    memory.acknowledged(1);
    memory.remember(publish(1, 99), false, 2);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::New { dup: false });
    assert_eq!(memory.recognise(publish(1, 99), false, true), Delivery::Repeated(2));
}

#[test]
fn a_broker_that_reuses_identifiers_for_equal_publishes_loses_nothing() {
    // The value does not change, and the broker always uses identifier 1. Both were acknowledged, so this may be a third.
    let mut memory = Redelivery::new(vec![publish(1, 5), publish(1, 5)]);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(1, 5), false, true), Delivery::New { dup: true });
}

#[test]
fn a_broker_that_takes_an_identifier_again_at_once_may_repeat_one_that_we_do_not_have() {
    let mut memory = received([1]);
    memory.acknowledged(1);
    memory.settled(memory.fence().unwrap());
    assert_eq!(memory.recognise(publish(1, 1), false, false), Delivery::New { dup: false });
    memory.remember(publish(1, 1), false, 2);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::Repeated(2), "until it is acknowledged it is this one");
    memory.acknowledged(2);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::New { dup: true });
}

#[test]
fn a_broker_that_counts_upwards_is_known_by_it_around_the_end_of_the_identifiers_too() {
    let mut memory = Redelivery::new(vec![publish(65_534, 1), publish(65_535, 1), publish(1, 1), publish(3, 1)]);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(65_535, 1), false, true), Delivery::Repeated(0));
    let mut memory = Redelivery::new(vec![publish(99, 1), publish(100, 1), publish(1, 1), publish(2, 1)]);
    memory.connected(true);
    assert_eq!(
        memory.recognise(publish(99, 1), false, true),
        Delivery::New { dup: true },
        "of a hundred that come again and again"
    );
}

#[test]
fn a_publish_whose_acknowledgement_the_broker_had_is_not_taken_for_its_equal_successor() {
    let mut memory = received([1]);
    memory.acknowledged(1);
    let fence = memory.fence().unwrap();
    memory.settled(fence);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::New { dup: false });
}

#[test]
fn nothing_is_settled_while_the_broker_may_be_repeating() {
    let mut memory = received([1]);
    memory.acknowledged(1);
    memory.connected(true);
    assert_eq!(memory.fence(), None);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::Repeated(1));
    assert_eq!(memory.fence(), None);
    assert_eq!(memory.recognise(publish(2, 2), false, false), Delivery::New { dup: false });
    assert_eq!(memory.fence(), Some(1));
}

#[test]
fn a_new_session_forgets_packet_identifiers() {
    let mut memory = received(1..=3);
    memory.remember(publish(4, 4), true, 4);
    memory.connected(false);
    assert_eq!(memory.recognise(publish(2, 2), false, true), Delivery::New { dup: false });
    assert_eq!(memory.recognise(publish(4, 4), true, false), Delivery::New { dup: false });
}

#[test]
fn what_is_acknowledged_is_remembered_until_the_broker_is_known_to_have_had_that() {
    let mut memory = received(1..=2000);
    memory.acknowledged(2000);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::Repeated(1));

    memory.settled(1000);
    assert_eq!(memory.seen.len(), 1000);
    assert_eq!(memory.recognise(publish(1001, 1001), false, true), Delivery::Repeated(1001));
}

#[test]
fn a_repeated_publish_that_may_be_a_third_equal_one_is_marked() {
    let mut memory = received([1, 1]);
    memory.acknowledged(2);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(1, 1), false, true), Delivery::New { dup: true });
}

#[test]
fn the_memory_is_never_longer_than_there_are_packet_identifiers() {
    let mut memory = received((1..=u16::MAX).chain(1..=1000));
    memory.remember(publish(1001, 0), false, 70_000);
    assert_eq!(memory.seen.len(), MOST_IN_FLIGHT);
}

#[test]
fn a_qos_2_publish_is_the_same_until_it_is_released_however_long_that_takes() {
    let mut memory = received([]);
    memory.remember(publish(5, 50), true, 1);
    (10..1_000).for_each(|packet| memory.remember(publish(packet, 0), false, packet.into()));
    memory.acknowledged(1_000);
    memory.settled(1_000);
    assert_eq!(memory.recognise(publish(5, 50), true, false), Delivery::Repeated(1));
    assert_eq!(memory.recognise(publish(5, 50), true, true), Delivery::Repeated(1));

    memory.released(5);
    assert_eq!(memory.recognise(publish(5, 50), true, false), Delivery::New { dup: false });
}

#[test]
fn a_release_also_forgets_what_the_run_before_knew() {
    let mut memory = Redelivery::new(vec![publish(5, 50)]);
    memory.connected(true);
    assert_eq!(memory.recognise(publish(5, 50), true, true), Delivery::Repeated(0));
    memory.released(5);
    assert_eq!(memory.recognise(publish(5, 50), true, true), Delivery::New { dup: true });
}
