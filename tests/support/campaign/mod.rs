//! A random campaign of faults against one installation: what happens, and when, follows from one seed.
//!
//! Sensors publish at QoS 1 through a real broker, and a scale speaks on a serial line; the endpoint misbehaves; agent and broker are
//! killed, stopped, frozen and started again; what connects them is cut, the clock is set, and the buffer is damaged. A moment is a time
//! here and not an event, because the point is to hit what no event announces; so a seed gives the same faults in the same order, and only
//! nearly the same moments. When all is over, every reading is accounted for.
//!
//! Invariant: a broker that is killed has saved before, with no sensor waiting for it, so that whatever is missing is ours.

mod blow;
mod chance;
pub mod damage;
pub mod disk;
pub mod overflow;
mod tally;
mod weather;

use std::time::Duration;

pub use self::tally::Tally;
use self::{blow::Blow, chance::Chance, weather::Weather};
use super::{
    cloud::STREAM,
    consumer::Repeats,
    eventually_within,
    gateway::{Gateway, Plan},
};

/// The second stream, in another order, with another encoding, and of some sensors only.
const COPIES: &str = "plant-copies";
/// The sensors of [`COPIES`].
const COPIED: [&str; 3] = ["plant/1/temp", "plant/2/temp", "plant/5/temp"];
/// Longest that the last drain may take: the agent waits at most a minute between two attempts.
const LAST_DRAIN: Duration = Duration::from_secs(100);

const KILL: &str = "agent: kill -9";

/// One installation and its fate.
pub struct Campaign {
    seed: u64,
    chance: Chance,
    gateway: Gateway,
    window: u64,
    weather: Weather,
    tally: Tally,
    /// Cuts of the agent's power.
    cuts: u64,
    /// Most readings that brokers can have handed out after their last save.
    forgotten: u64,
    /// What a failure needs to be understood.
    story: Vec<String>,
}

/// Runs the campaign of `seed` until the agent was killed `kills` times, drains, and accounts for every reading.
pub async fn run(seed: u64, kills: u64) -> Tally {
    let mut campaign = Campaign::starts(seed).await;
    while campaign.cuts < kills {
        campaign.goes_on().await;
    }
    campaign.ends().await
}

impl Campaign {
    async fn starts(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let window = chance.one_of(&[20, 20, 200]);
        let plan = plan(&mut chance, window);
        let story = vec![format!("seed {seed}, window {window}")];
        let mut gateway = plan.starts().await;
        gateway.cloud.create_stream(COPIES, 2);
        gateway.cloud.is_sorted_behind(COPIES);
        let weather = Weather::Fair;
        Self { seed, chance, gateway, window: window.into(), weather, tally: Tally::default(), cuts: 0, forgotten: 0, story }
    }

    /// Some weather, some readings, and a blow.
    async fn goes_on(&mut self) {
        let weather = Weather::of(&mut self.chance);
        self.changes_to(weather);
        let chance = &mut self.chance;
        let (readings, blow, moment) = (chance.between(50, 400), Blow::of(chance), chance.moment());
        self.story.push(format!("{weather:?}; {readings} readings; {blow:?} after {moment:?}"));
        self.tally.inject(blow.name(), 1);
        self.suffers(blow, readings, moment).await;
    }

    fn changes_to(&mut self, weather: Weather) {
        let Self { gateway, tally, seed, .. } = self;
        std::mem::replace(&mut self.weather, weather).goes(&gateway.cloud, *seed, tally);
        weather.comes(&gateway.cloud, *seed);
    }

    /// Fair weather, the last readings, and the audit.
    async fn ends(mut self) -> Tally {
        self.changes_to(Weather::Fair);
        self.gateway.agent.clock().is_off_by(0);
        // A fresh start waits for nothing; and each sensor's last reading is one that nothing follows.
        self.gateway.agent.power_off().await;
        self.gateway.agent.start();
        self.cuts += 1;
        self.tally.inject(KILL, 1);
        self.gateway.field.publishes(16).await;

        for stream in [STREAM, COPIES] {
            self.drains(stream).await;
            self.audits(stream);
        }
        let Self { mut gateway, mut tally, story, seed, .. } = self;
        gateway.agent.status().await.balances();
        gateway.agent.stops().await;
        if !tally.is_clean() {
            tally.unexplained.push(format!("seed {seed}: {}", story.join("\n      ")));
        }
        tally
    }

    async fn drains(&mut self, stream: &str) {
        let Gateway { field, cloud, agent, .. } = &mut self.gateway;
        let sent =
            field.sent().iter().filter(|(topic, _)| takes(stream, topic)).map(|(topic, last)| (topic.clone(), *last)).collect();
        let (seed, story) = (self.seed, &self.story);
        eventually_within(LAST_DRAIN, format_args!("everything is in {stream} (seed {seed})"), async || {
            let status = agent.try_status().await?;
            let consumer = cloud.consumer(stream);
            if consumer.has_all_of(&sent) && status.count("/ledger/buffered") == 0 {
                return Ok(());
            }
            Err(format!("{:?} of {sent:?}; {status:?}; {}", consumer.sensors(), story.join("\n")))
        })
        .await;
        self.tally.sent += sent.values().sum::<u64>();
    }

    fn audits(&mut self, stream: &str) {
        let Self { gateway, tally, window, cuts, forgotten, .. } = self;
        let not_ours = gateway.field.sent_again() + *forgotten;
        let consumer = gateway.cloud.consumer(stream);
        let Repeats { same_name, marked, unmarked } = consumer.repeats;
        tally.lost += consumer.skipped();
        tally.delivered += consumer.distinct() - marked - unmarked;
        tally.same_name += same_name;
        tally.marked += marked;
        tally.not_ours += unmarked;
        let missing = consumer.missing();
        let mut must = |good: bool, what: String| tally.unexplained.extend((!good).then(|| format!("{stream}: {what}")));
        must(missing == 0, format!("{missing} names are missing"));
        must(marked <= *window * *cuts, format!("{marked} marked, of {cuts} kills in a window of {window}"));
        let at_once = consumer.most_marked();
        must(at_once <= *window, format!("{at_once} marked after one kill, in a window of {window}"));
        must(unmarked <= not_ours, format!("{unmarked} came twice without a mark, at most {not_ours} were sent twice"));
        must(consumer.wrong().is_empty(), format!("{:?}", consumer.wrong()));
    }
}

fn takes(stream: &str, topic: &str) -> bool {
    stream == STREAM || COPIED.contains(&topic)
}

fn plan(chance: &mut Chance, window: u16) -> Plan {
    Gateway::new()
        // It says under "information" that it has saved.
        .broker(|broker| broker.persistence().setting("log_type", "information"))
        .window(window)
        .with_a_clock()
        .with_scale()
        .through_a_cable()
        .set("buffer.hold", chance.one_of(&["0s", "20ms", "1s"]))
        .set("buffer.memory", chance.one_of(&["1 MiB", "4 MiB"]))
        .set("streams.readings.lanes", chance.one_of(&[1, 4]))
        .stream("copies", COPIES)
        .set("streams.copies.from", COPIED.map(|topic| format!("broker:{topic}")).to_vec())
        .set("streams.copies.encoding", "json")
        .set("streams.copies.drain_order", "live-first")
        .set("streams.copies.linger", chance.one_of(&["5ms", "250ms"]))
}
