//! The status in Prometheus' text format 0.0.4, for `GET /metrics`.
//!
//! Written by hand: the `prometheus-client` crate writes `OpenMetrics` only, where `headwater_disk_written_bytes` could not be a
//! counter under that name, and it wants to own numbers that the status has already.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{Display, Write};

use super::View;
use crate::{
    clock::Trust,
    reading::Timestamp,
    status::{DURATION_BOUNDS, Durations, LaneState, Ledger, LinkState, Reasons, SourceState, State, StreamState},
};

/// What the text is, to the one who asked.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels<'a> = &'a [(&'a str, &'a str)];
/// Name, type and help of a metric, and where its value is.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);
/// The same with a value for each reason.
type ByReason = (&'static str, &'static str, &'static str, fn(&Ledger) -> &Reasons);

/// All metrics of an agent in `state`.
pub fn render(view: &View, state: &State, now: Timestamp) -> String {
    let mut text = Text::default();
    info(&mut text, view);
    readings(&mut text, state);
    backlog(&mut text, state, now);
    aggregation(&mut text, state);
    buffer(&mut text, state);
    links(&mut text, state);
    text.single(
        "headwater_clock_right",
        "gauge",
        "Whether the clock is right, as far as is known.",
        u64::from(state.clock.trust == Trust::Right),
    );
    sources(&mut text, state);
    lanes(&mut text, state);
    text.0
}

fn info(text: &mut Text, view: &View) {
    text.family("headwater_info", "gauge", "Always 1; says which gateway this is.");
    let tags: Vec<_> = view.tags.iter().map(|(tag, value)| (label_name(tag), value)).collect();
    let mut labels = vec![("device", view.device.as_str()), ("version", view.version)];
    labels.extend(tags.iter().map(|(tag, value)| (tag.as_str(), value.as_str())));
    text.sample("headwater_info", &labels, 1);
}

fn readings(text: &mut Text, state: &State) {
    let counts: [Metric<Ledger>; 3] = [
        ("headwater_readings_received_total", "counter", "Readings taken from sources, or found in the buffer.", |ledger| {
            ledger.received
        }),
        ("headwater_readings_delivered_total", "counter", "Readings that the destination confirmed.", |ledger| ledger.delivered),
        ("headwater_readings_duplicated_total", "counter", "Readings sent again after an answer was lost.", |ledger| {
            ledger.duplicated
        }),
    ];
    for (name, kind, help, count) in counts {
        text.family(name, kind, help);
        for (stream, shown) in &state.streams {
            text.sample(name, &[("stream", stream)], count(&shown.ledger));
        }
    }
    let reasons: [ByReason; 2] = [
        ("headwater_readings_dropped_total", "counter", "Readings given up, by reason.", |ledger| &ledger.dropped),
        ("headwater_readings_rejected_total", "counter", "Readings that can't be carried, by reason.", |ledger| &ledger.rejected),
    ];
    for (name, kind, help, counts) in reasons {
        text.family(name, kind, help);
        for (stream, shown) in &state.streams {
            for (why, n) in counts(&shown.ledger).iter() {
                text.sample(name, &[("stream", stream), ("reason", why.name())], n);
            }
        }
    }
}

fn aggregation(text: &mut Text, state: &State) {
    text.family("headwater_aggregation", "gauge", "Whether readings travel together; 0 when each is a record of its own.");
    for (stream, shown) in &state.streams {
        if let Some(aggregation) = &shown.aggregation {
            text.sample("headwater_aggregation", &[("stream", stream)], u64::from(aggregation.on));
        }
    }
}

fn backlog(text: &mut Text, state: &State, now: Timestamp) {
    let waits = |stream: &StreamState| stream.oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0).max(0));
    text.family("headwater_backlog_readings", "gauge", "Readings that wait.");
    for (stream, shown) in &state.streams {
        text.sample("headwater_backlog_readings", &[("stream", stream)], shown.ledger.buffered);
    }
    text.family("headwater_backlog_bytes", "gauge", "Bytes of readings that wait.");
    for (stream, shown) in &state.streams {
        text.sample("headwater_backlog_bytes", &[("stream", stream)], shown.backlog_bytes);
    }
    text.family("headwater_backlog_age_seconds", "gauge", "How long the oldest reading has waited; 0 when none waits.");
    for (stream, shown) in &state.streams {
        let millis = waits(shown);
        text.sample("headwater_backlog_age_seconds", &[("stream", stream)], format_args!("{}.{:03}", millis / 1000, millis % 1000));
    }
}

fn buffer(text: &mut Text, state: &State) {
    let buffer = &state.buffer;
    text.single("headwater_disk_used_bytes", "gauge", "Bytes that the buffer's files take.", buffer.disk_used);
    text.single("headwater_disk_written_bytes", "counter", "Bytes written to the buffer's files.", buffer.disk_written);
    text.single("headwater_set_aside_readings", "gauge", "Readings that are set aside in the buffer.", buffer.set_aside);
    text.single("headwater_set_aside_bytes", "gauge", "Bytes of them.", buffer.set_aside_bytes);
    let gone = "Readings that were set aside and have made room for others.";
    text.single("headwater_set_aside_gone_total", "counter", gone, buffer.set_aside_gone);
    text.family("headwater_commit_seconds", "histogram", "Time that a commit to the buffer takes.");
    text.histogram("headwater_commit_seconds", &[], &buffer.commit);
}

fn links(text: &mut Text, state: &State) {
    let numbers: [Metric<LinkState>; 3] = [
        ("headwater_link_up", "gauge", "Whether the last request was answered.", |link| u64::from(link.up)),
        ("headwater_upload_bytes_total", "counter", "Body bytes sent, refused ones included.", |link| link.uploaded),
        ("headwater_upload_refused_bytes_total", "counter", "Record bytes that the service refused.", |link| link.refused),
    ];
    for (name, kind, help, number) in numbers {
        text.family(name, kind, help);
        // Of a link that was not tried nothing is known, and 0 would call someone.
        for (destination, link) in state.links.iter().filter(|(_, link)| link.tried() || name != "headwater_link_up") {
            text.sample(name, &[("destination", destination)], number(link));
        }
    }
    text.family("headwater_upload_month_bytes", "gauge", "Bytes that left in this calendar month, where that has a limit.");
    for (destination, month) in state.links.iter().filter_map(|(destination, link)| Some((destination, link.month?))) {
        text.sample("headwater_upload_month_bytes", &[("destination", destination)], month.used);
    }
    text.family("headwater_credentials_expire_seconds", "gauge", "When the credentials in use expire, in seconds since 1970.");
    for (destination, at) in state.links.iter().filter_map(|(destination, link)| Some((destination, link.credentials.expires?))) {
        text.sample("headwater_credentials_expire_seconds", &[("destination", destination)], at.0.div_euclid(1000));
    }
    certificates(text, state);
    text.family("headwater_put_seconds", "histogram", "Time from sending a request to its answer.");
    for (destination, link) in &state.links {
        text.histogram("headwater_put_seconds", &[("destination", destination)], &link.put);
    }
}

fn certificates(text: &mut Text, state: &State) {
    const NAME: &str = "headwater_certificate_not_after_seconds";
    text.family(NAME, "gauge", "Until when our certificate is valid, in seconds since 1970.");
    let ours = state.links.iter().map(|(name, link)| ("destination", name, link.credentials.certificate_expires));
    let shown = state.sources.iter().map(|(name, source)| ("source", name, source.certificate_expires));
    for (place, name, end) in ours.chain(shown) {
        if let Some(end) = end {
            text.sample(NAME, &[(place, name)], end.0.div_euclid(1000));
        }
    }
}

fn sources(text: &mut Text, state: &State) {
    let numbers: [Metric<SourceState>; 5] = [
        ("headwater_source_up", "gauge", "Whether the source is connected.", |source| {
            u64::from(matches!(source.state, "connected" | "waiting"))
        }),
        ("headwater_source_received_total", "counter", "Readings that the source delivered.", |source| source.received),
        ("headwater_source_repeated_total", "counter", "Publishes that the broker repeated.", |source| source.repeated),
        ("headwater_source_invalid_total", "counter", "Frames or packets that were no reading.", |source| source.invalid),
        ("headwater_source_unreadable_total", "counter", "Readings that are not what `payload` says.", |source| source.unreadable),
    ];
    for (name, kind, help, number) in numbers {
        text.family(name, kind, help);
        for (source, shown) in &state.sources {
            text.sample(name, &[("source", source)], number(shown));
        }
    }
}

fn lanes(text: &mut Text, state: &State) {
    let numbers: [Metric<LaneState>; 4] = [
        ("headwater_lane_rate_bytes", "gauge", "Bytes a second that the lane may send now.", |lane| lane.rate),
        ("headwater_lane_in_flight_bytes", "gauge", "Bytes that are on their way.", |lane| lane.in_flight),
        ("headwater_lane_retries_total", "counter", "Records that were sent again.", |lane| lane.retries),
        ("headwater_lane_throttled_total", "counter", "Records refused because of the throughput.", |lane| lane.throttled),
    ];
    for (name, kind, help, number) in numbers {
        text.family(name, kind, help);
        for (stream, shown) in &state.streams {
            for (lane, of_lane) in shown.lanes.iter().enumerate() {
                text.sample(name, &[("stream", stream), ("lane", &lane.to_string())], number(of_lane));
            }
        }
    }
}

/// A tag as a label: what may not be in a label's name becomes `_`, and no tag takes the place of our own labels.
fn label_name(tag: &str) -> String {
    let name: String = tag.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    let ours = matches!(name.as_str(), "device" | "version");
    if ours || name.starts_with("__") || !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        return format!("tag_{name}");
    }
    name
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: Labels, value: impl Display) {
        self.write(format_args!("{name}"));
        for (nth, (label, of)) in labels.iter().enumerate() {
            let before = if nth == 0 { '{' } else { ',' };
            let of = of.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            self.write(format_args!("{before}{label}=\"{of}\""));
        }
        self.write(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    fn histogram(&mut self, name: &str, labels: Labels, durations: &Durations) {
        let bounds = DURATION_BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        let mut so_far = 0;
        for (bound, n) in bounds.zip(durations.buckets) {
            so_far += n;
            self.sample(&format!("{name}_bucket"), &[labels, &[("le", bound.as_str())]].concat(), so_far);
        }
        self.sample(&format!("{name}_sum"), labels, durations.sum);
        self.sample(&format!("{name}_count"), labels, durations.count);
    }

    fn write(&mut self, what: std::fmt::Arguments) {
        // Writing into a string cannot fail.
        let _ = self.0.write_fmt(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulated_and_ends_in_infinity() {
        let mut durations = Durations::default();
        for seconds in [0.002, 0.02, 0.02, 99.0] {
            durations.observe(seconds);
        }
        let mut text = Text::default();
        text.histogram("put", &[("destination", "cloud")], &durations);
        for line in [
            "put_bucket{destination=\"cloud\",le=\"0.001\"} 0\n",
            "put_bucket{destination=\"cloud\",le=\"0.0025\"} 1\n",
            "put_bucket{destination=\"cloud\",le=\"30\"} 3\n",
            "put_bucket{destination=\"cloud\",le=\"+Inf\"} 4\n",
            "put_count{destination=\"cloud\"} 4\n",
        ] {
            assert!(text.0.contains(line), "{line} is not in\n{}", text.0);
        }
    }

    #[test]
    fn every_certificate_that_stands_for_us_has_its_end_wherever_it_is_shown() {
        let mut state = State::default();
        state.links.entry("cloud".into()).or_default().credentials.certificate_expires = Some(Timestamp(1_795_219_200_999));
        state.sources.entry("broker".into()).or_default().certificate_expires = Some(Timestamp(1_795_305_600_000));
        state.sources.entry("scale".into()).or_default();
        let mut text = Text::default();

        certificates(&mut text, &state);

        let samples: Vec<_> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
        let name = "headwater_certificate_not_after_seconds";
        assert_eq!(
            samples,
            [format!("{name}{{destination=\"cloud\"}} 1795219200"), format!("{name}{{source=\"broker\"}} 1795305600")]
        );
    }

    #[test]
    fn a_tag_is_a_valid_label_that_hides_none_of_ours() {
        let names = ["site", "Line-4 b", "device", "4th", "__name__", "größe"].map(label_name);
        assert_eq!(names, ["site", "Line_4_b", "tag_device", "tag_4th", "tag___name__", "gr__e"]);
    }
}
