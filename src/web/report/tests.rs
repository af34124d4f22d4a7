//! What the report says of an agent in a given state.

use std::time::Duration;

use super::*;
use crate::{
    config::DeviceConfig,
    status::{Reason, Status},
};

const NOW: Timestamp = Timestamp(1_700_000_100_000);

fn view(started: Instant, status: &Status) -> View {
    View::new(&DeviceConfig { id: "gw-0042".into(), ..DeviceConfig::default() }, "00ff".into(), started, status.clone())
}

#[test]
fn the_one_word_says_what_matters_most() {
    let status = Status::default();
    let activity = || Activity::of(&status.lock());
    status.link("cloud", |link| link.up = true);
    status.received("readings", 1);
    assert_eq!(activity(), Activity::Sending);
    status.link("cloud", |link| link.up = false);
    assert_eq!(activity(), Activity::Sending, "the link was not tried yet");
    status.link("cloud", |link| link.error = Some("no answer".into()));
    assert_eq!(activity(), Activity::Buffering);
    status.delivered("readings", 1);
    assert_eq!(activity(), Activity::Sending, "nothing waits for the link");
    status.source("scale", |source| source.state = "waiting");
    assert_eq!(activity(), Activity::Holding);
    status.lock().stopping = true;
    assert_eq!(activity(), Activity::Stopping);
}

#[test]
fn with_several_destinations_the_one_that_is_down_is_shown() {
    let started = Instant::now();
    let status = Status::default();
    assert_eq!(view(started, &status).report(NOW, started + Duration::from_mins(1)).link.since, Timestamp(NOW.0 - 60_000));
    for (name, up) in [("a", true), ("b", false), ("c", true)] {
        status.link(name, |link| {
            link.up = up;
            link.error = (!up).then(|| "no answer".into());
            link.endpoint = format!("https://{name}");
        });
    }
    assert_eq!(view(started, &status).report(NOW, started).link.endpoint, "https://b");
}

#[test]
fn a_backlog_that_stands_has_an_outlook_and_traffic_has_none() {
    let (started, status) = (Instant::now(), Status::default());
    let view = view(started, &status);
    status.received("readings", 10);
    status.lock().buffer.disk_max = 1 << 20;
    let waits = |bytes, since| {
        let mut state = status.lock();
        let stream = state.streams.get_mut("readings").unwrap();
        (stream.backlog_bytes, stream.oldest) = (bytes, Some(Timestamp(NOW.0 - since)));
    };
    waits(100_000, 60_000);
    view.sample(started);
    view.sample(started + Duration::from_secs(10));
    let at = started + Duration::from_secs(20);

    waits(200_000, 60_000);
    let report = view.report(NOW, at);
    assert_eq!(report.backlog.outlook, Outlook { full_in_s: Some(209), drain_in_s: None });
    assert_eq!(report.streams["readings"].backlog.outlook, report.backlog.outlook);

    waits(50_000, 60_000);
    assert_eq!(view.report(NOW, at).backlog.outlook, Outlook { full_in_s: None, drain_in_s: Some(20) });

    waits(200_000, 900);
    assert_eq!(view.report(NOW, at).backlog.outlook, Outlook::default());
}

#[test]
fn readings_that_no_stream_takes_are_in_the_sum_and_are_no_stream() {
    let (started, status) = (Instant::now(), Status::default());
    status.rejected(UNROUTED, Reason::Unrouted, 3);
    status.received("readings", 2);
    let report = view(started, &status).report(NOW, started);
    assert_eq!(report.ledger.received, 5);
    assert!(report.streams.keys().eq(["readings"]));
}

#[test]
#[should_panic(expected = "the ledger of stream readings")]
fn a_ledger_that_does_not_balance_is_a_bug_that_tests_find() {
    let status = Status::default();
    status.received("readings", 1);
    status.lock().streams.get_mut("readings").unwrap().ledger.received += 1;
    view(Instant::now(), &status).report(NOW, Instant::now());
}

#[test]
fn a_link_that_was_not_tried_is_neither_up_nor_down_and_one_that_is_down_says_when_it_is_tried_again() {
    let (started, status) = (Instant::now(), Status::default());
    let view = view(started, &status);
    status.link("cloud", |link| link.endpoint = "https://cloud".into());
    let link = view.report(NOW, started).link;
    assert_eq!((link.up, link.error.as_deref(), link.retry_at), (false, Some(NOT_TRIED), None));
    let text = crate::web::text::render(&view.report(NOW, started));
    assert!(text.contains("not tried yet, nothing was sent, https://cloud\n"), "{text}");

    status.link("cloud", |link| {
        link.since = NOW;
        link.error = Some("no answer".into());
        link.retry_at = Some(NOW.after(Duration::from_secs(42)));
    });
    let text = crate::web::text::render(&view.report(NOW, started));
    assert!(text.contains("down for 0 s, tried again in 42 s, https://cloud: no answer\n"), "{text}");
}
