//! A buffer that is too small for its outage: what each rule takes, through power cuts, is what it says it took.
//!
//! Invariant: a reading that is in no stream is in a notice, under the rule that it fell to, or it is lost.

use super::{KILL, Tally};
use crate::support::{
    cloud::STREAM,
    consumer::Repeats,
    gateway::{Gateway, Plan},
};

/// Readings of one flood; three of them are several times what fits.
const FLOOD: u64 = 250;
const PADDING: usize = 20_000;

/// What can be asked for when the buffer is full, and the settings of an installation that asks for it.
const RULES: [(&str, &[(&str, &str)]); 4] = [
    ("drop-oldest", &[("buffer.when_full", "drop-oldest")]),
    ("drop-newest", &[("buffer.when_full", "drop-newest")]),
    ("thin", &[("buffer.when_full", "thin")]),
    ("a stream's own bound", &[("streams.readings.max_size", "1 MiB"), ("streams.readings.when_full", "drop-oldest")]),
];

/// One installation for each rule.
pub async fn overflows() -> Tally {
    let mut tally = Tally::default();
    for (name, settings) in RULES {
        let plan = settings.iter().fold(small(), |plan, (path, value)| plan.set(path, *value));
        tally.add(&overflow(name, plan).await);
    }
    tally
}

/// Floods it while the endpoint is away, cuts its power between the floods, and accounts for every reading when it is back.
async fn overflow(name: &str, plan: Plan) -> Tally {
    let mut tally = Tally::default();
    let mut gateway = plan.starts().await;
    gateway.cloud.away();
    gateway.field.pads(PADDING);
    for _ in 0..3 {
        gateway.field.publishes(FLOOD).await;
        gateway.agent.shows("all were taken", |status| status.count("/sources/broker/received") >= FLOOD).await.balances();
        gateway.agent.power_off().await;
        gateway.agent.start();
        tally.inject(KILL, 1);
        gateway.agent.status().await.balances();
    }
    tally.inject(&format!("overflow: {name}"), 1);
    gateway.cloud.back();
    gateway.agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await;
    gateway.field.pads(0);
    gateway.field.publishes(16).await; // the last ones of each sensor, which nothing drops
    gateway.the_last_is_in(STREAM).await;
    gateway.agent.stops().await;

    let sent = gateway.field.total();
    let consumer = gateway.cloud.consumer(STREAM);
    let Repeats { same_name, marked, unmarked } = consumer.repeats;
    (tally.sent, tally.same_name, tally.marked, tally.not_ours) = (sent, same_name, marked, unmarked);
    tally.delivered = consumer.distinct() - marked - unmarked;
    tally.dropped = consumer.explained_by().into_iter().collect();
    let dropped: u64 = tally.dropped.values().sum();
    tally.lost = consumer.skipped().saturating_sub(dropped);
    let mut must = |good: bool, what: String| tally.unexplained.extend((!good).then(|| format!("{name}: {what}")));
    must(dropped > 0, "nothing had to give way".into());
    let (missing, explained) = (consumer.missing(), consumer.explained());
    must(missing == explained, format!("{missing} names are missing, and notices speak of {explained}"));
    must(consumer.wrong().is_empty(), format!("{:?}", consumer.wrong()));
    tally
}

/// The smallest buffer that there is.
fn small() -> Plan {
    Gateway::new().set("buffer.max_size", "8 MiB").set("buffer.memory", "1 MiB").set("buffer.hold", "0s").window(200)
}
