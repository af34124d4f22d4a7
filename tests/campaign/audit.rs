//! What the audits count, and how.

use super::support::consumer::{Consumer, Repeats};

/// What is set aside with a damaged buffer may come behind what the broker sent again meanwhile.
#[test]
fn a_repetition_is_marked_whether_what_it_repeats_comes_before_it_or_behind_it() {
    let reading = |run: u8, seq: u8, dup: &str| {
        let name = format!("\"dev\":\"gw-1\",\"run\":\"000000000000000{run}\",\"lane\":\"readings/0\",\"seq\":{seq}");
        format!("{{\"v\":1,{name},\"src\":\"broker\",\"topic\":\"plant/1/temp\",\"ts\":1,{dup}\"val\":1}}\n").into_bytes()
    };
    let (plain, marked, third) = (reading(1, 7, ""), reading(2, 0, "\"dup\":true,"), reading(3, 0, ""));
    for (first, second) in [(&plain, &marked), (&marked, &plain)] {
        let mut consumer = Consumer::that_sorts();
        [first, second, &third].into_iter().for_each(|reading| consumer.takes(reading));
        assert_eq!((consumer.repeats, consumer.most_marked()), (Repeats { same_name: 0, marked: 1, unmarked: 1 }, 1));
    }
}
