//! The status for a person at a terminal, for `headwater status` and for `GET /`.
//!
//! Invariant: a plain function of the report; times are spans, so a gateway with a wrong clock shows nothing absurd.

#![expect(clippy::format_push_string, reason = "read once a second by one person: it may allocate")]

use std::fmt::Write;

use super::report::{BacklogReport, LinkReport, NOT_TRIED, Report, StreamReport};
use crate::{
    reading::Timestamp,
    status::{AggregationState, CredentialsState, Ledger, MonthState, Pause, Problem, Reasons, SourceState},
};

/// The whole status, some twenty lines.
pub fn render(report: &Report) -> String {
    let now = report.clock.now;
    let Report { version, device, run, memory_bytes, disk, .. } = report;
    let mut text =
        format!("headwater {version} on {device}: {} (run {run}, up {})\n\n", report.state.name(), span(report.uptime_s));
    let mut line = |name: &str, what: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<9}{what}");
    };
    line("link", link(&report.link, now));
    if let Some(what) = credentials(&report.link.credentials, now) {
        line("signed", what);
    }
    line("readings", ledger(&report.ledger));
    line("backlog", backlog(&report.backlog, now));
    line(
        "disk",
        format!(
            "{} of {} used, {} free, {} written; {} in memory",
            bytes(disk.used),
            bytes(disk.max),
            bytes(disk.free),
            bytes(disk.written),
            bytes(*memory_bytes)
        ),
    );
    text += &streams(report);
    text += &aggregation(report);
    text += &lanes(report);
    text += &sources(report);
    text += &problems(&report.problems, now);
    text
}

fn link(link: &LinkReport, now: Timestamp) -> String {
    let LinkReport { up, since, endpoint, address, error, retry_at, paused, month, .. } = link;
    let error = error.as_deref().filter(|error| *error != NOT_TRIED);
    let mut text = match (up, error) {
        (true, _) => format!("up for {}", age(*since, now)),
        (false, Some(_)) => format!("down for {}", age(*since, now)),
        (false, None) => format!("{NOT_TRIED}, nothing was sent"),
    };
    if let Some(at) = retry_at {
        text += &format!(", tried again in {}", age(now, *at));
    }
    if let Some(Pause { why, until }) = paused {
        text += &format!(", nothing is sent for {} ({why})", age(now, *until));
    }
    if let Some(MonthState { used, max }) = month {
        text += &format!(", {} of {} used this month", bytes(*used), bytes(*max));
    }
    if !endpoint.is_empty() {
        text += &format!(", {endpoint}");
    }
    if let Some(address) = address {
        text += &format!(" ({address})");
    }
    if let Some(error) = error {
        text += &format!(": {error}");
    }
    text
}

/// With what requests are signed, where that ends some time.
fn credentials(credentials: &CredentialsState, now: Timestamp) -> Option<String> {
    let CredentialsState { kind, expires, certificate_expires } = credentials;
    let of = expires.map(|end| format!("credentials ({kind}) {}", left(end, now)));
    let certificate = certificate_expires.map(|end| format!("certificate {}", left(end, now)));
    let known: Vec<_> = of.into_iter().chain(certificate).collect();
    (!known.is_empty()).then(|| known.join(", "))
}

/// How long what ends at `end` can still be used.
fn left(end: Timestamp, now: Timestamp) -> String {
    if end > now { format!("valid for {}", age(now, end)) } else { "expired".into() }
}

fn ledger(ledger: &Ledger) -> String {
    let Ledger { received, delivered, buffered, dropped, rejected, duplicated } = ledger;
    let [received, delivered, buffered, duplicated] = [received, delivered, buffered, duplicated].map(|n| count(*n));
    let (dropped, rejected) = (reasons("dropped", dropped), reasons("rejected", rejected));
    format!(
        "{received} received = {delivered} delivered + {buffered} buffered + {dropped} + {rejected}; \
         {duplicated} sent twice"
    )
}

fn reasons(fate: &str, reasons: &Reasons) -> String {
    let each: Vec<_> = reasons.iter().map(|(why, n)| format!("{} {}", why.name(), count(n))).collect();
    let total = count(reasons.total());
    if each.is_empty() { format!("{total} {fate}") } else { format!("{total} {fate} ({})", each.join(", ")) }
}

fn backlog(backlog: &BacklogReport, now: Timestamp) -> String {
    let mut text = format!("{} readings, {}", count(backlog.readings), bytes(backlog.bytes));
    if let Some(oldest) = backlog.oldest_ts {
        text += &format!(", oldest {}", age(oldest, now));
    }
    if let Some(seconds) = backlog.outlook.full_in_s {
        text += &format!("; no room left in {}", span(seconds));
    }
    if let Some(seconds) = backlog.outlook.drain_in_s {
        text += &format!("; sent in {}", span(seconds));
    }
    text
}

fn streams(report: &Report) -> String {
    let mut rows =
        vec![["stream", "received", "delivered", "buffered", "dropped", "rejected", "waiting", "oldest"].map(String::from)];
    for (name, StreamReport { ledger, backlog, orphaned, .. }) in &report.streams {
        rows.push([
            if *orphaned { format!("{name} (orphaned)") } else { name.clone() },
            count(ledger.received),
            count(ledger.delivered),
            count(ledger.buffered),
            count(ledger.dropped.total()),
            count(ledger.rejected.total()),
            bytes(backlog.bytes),
            backlog.oldest_ts.map_or("-".into(), |oldest| age(oldest, report.clock.now)),
        ]);
    }
    table(&rows)
}

fn aggregation(report: &Report) -> String {
    let travels = |(name, stream): (&String, &StreamReport)| {
        let AggregationState { on, why } = stream.aggregation.as_ref()?;
        Some(format!("readings of {name} travel {}: {why}\n", if *on { "together" } else { "one by one" }))
    };
    report.streams.iter().filter_map(travels).collect()
}

fn lanes(report: &Report) -> String {
    let mut rows = vec![["lane", "rate", "in flight", "sent again", "throttled"].map(String::from)];
    for (name, stream) in &report.streams {
        for (nth, lane) in stream.lanes.iter().enumerate() {
            rows.push([
                format!("{name}/{nth}"),
                bytes(lane.rate) + "/s",
                bytes(lane.in_flight),
                count(lane.retries),
                count(lane.throttled),
            ]);
        }
    }
    table(&rows)
}

fn sources(report: &Report) -> String {
    let mut rows = vec![["source", "state", "received", "repeated", "invalid", "unreadable", "last"].map(String::from)];
    for (name, SourceState { state, received, repeated, invalid, unreadable, last_ts, .. }) in &report.sources {
        rows.push([
            name.clone(),
            (*state).to_owned(),
            count(*received),
            count(*repeated),
            count(*invalid),
            count(*unreadable),
            last_ts.map_or("-".into(), |last| age(last, report.clock.now) + " ago"),
        ]);
    }
    let certified = |(name, source): (&String, &SourceState)| {
        Some(format!("certificate that {name} shows: {}\n", left(source.certificate_expires?, report.clock.now)))
    };
    table(&rows) + &report.sources.iter().filter_map(certified).collect::<String>()
}

fn problems(problems: &[Problem], now: Timestamp) -> String {
    let mut text = String::new();
    for Problem { since, what, remedy } in problems {
        text += &format!("\nfor {}: {what}\n  to do: {remedy}\n", age(*since, now));
    }
    text
}

/// Rows as aligned columns, numbers to the right; nothing when there is only a heading.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        text.push('\n');
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            text += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
    }
    "\n".to_owned() + text.trim_start() + "\n"
}

fn age(since: Timestamp, now: Timestamp) -> String {
    span(u64::try_from(now.0.saturating_sub(since.0) / 1000).unwrap_or_default())
}

/// The two largest units of `seconds`.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// With a comma after each three digits.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In the largest unit that leaves something before the point.
fn bytes(n: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| n >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", n / unit, n % unit * 10 / unit),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1_023, 1_536, 5 << 20, 3 << 30].map(bytes), ["1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
        assert_eq!([59, 61, 3_700, 90_000].map(span), ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!(age(Timestamp(5_000), Timestamp(0)), "0 s");
    }

    #[test]
    fn columns_are_aligned_and_a_heading_alone_is_nothing() {
        let rows = [["source", "received"], ["a", "1,000"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "\nsource  received\na          1,000\n");
        assert_eq!(table(&rows[..1]), "");
    }
}
