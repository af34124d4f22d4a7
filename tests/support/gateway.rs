//! A small language for whole installations: a field, a gateway with the real agent on it, and a cloud.
//!
//! Nouns are the places, verbs what happens there. Invariant: each installation is alone: its own broker, line, endpoint and folder.

use std::fs;

use headwater::demo::kinesis::Options;
use toml::{Table, Value};

use super::{
    cable::Cable,
    certificates::OFFICE,
    cloud::{Cloud, DELIVERY, STREAM},
    consumer::{ONCE, Repeats},
    eventually,
    field::{Field, SCALE},
    mosquitto::{self, Mosquitto},
    process::Headwater,
};

/// The name of every gateway here.
pub const DEVICE: &str = "gw-1";

/// An installation.
pub struct Gateway {
    /// South of it.
    pub field: Field,
    /// North of it.
    pub cloud: Cloud,
    /// The process on it.
    pub agent: Headwater,
    settings: Table,
}

/// An installation to be.
pub struct Plan {
    settings: Table,
    broker: mosquitto::Options,
    cloud: Options,
    shards: u32,
    cable: bool,
    scale: bool,
    clock: bool,
}

impl Gateway {
    /// One broker, one stream behind TLS, and defaults but for `linger`, so that tests wait less.
    #[expect(clippy::new_ret_no_self, reason = "reads as a sentence: Gateway::new().set(\"buffer.hold\", \"0s\").starts()")]
    pub fn new() -> Plan {
        let plan = Plan {
            settings: Table::new(),
            broker: Mosquitto::new().setting("log_type", "error").setting("log_type", "subscribe").max_queued(0),
            // Limits have their own tests; here they would only make readings wait.
            cloud: Options { limits: None, ..Options::default() },
            shards: 2,
            cable: false,
            scale: false,
            clock: false,
        };
        plan.set("device.id", DEVICE)
            .set("device.state_dir", "{dir}/state")
            .set("device.socket", "{dir}/headwater.sock")
            .set("http.listen", "off")
            // Whether this machine has a time server is not the question here.
            .set("device.clock_synchronized", "{dir}/timesync/synchronized")
            // Of the machine that tests run on, which may be small.
            .set("buffer.keep_free", "0 B")
            .set("sources.broker.kind", "mqtt")
            .set("sources.broker.topics", vec!["plant/#"])
            .set("destinations.cloud.kind", "kinesis")
            .set("destinations.cloud.region", "eu-west-1")
            .set("destinations.cloud.ca", "{dir}/office.pem")
            .stream("readings", STREAM)
    }

    /// Waits until the application behind [`STREAM`] has everything that was sent; see [`Self::everything_is_in`].
    pub async fn everything_arrives(&mut self) -> Repeats {
        self.everything_is_in(STREAM).await
    }

    /// Waits until the application behind `stream` has everything that was sent and the agent knows it. Checks that each sensor's
    /// readings came in order, that no name is missing, and that the ledger balances. Says what came more than once.
    pub async fn everything_is_in(&mut self, stream: &str) -> Repeats {
        self.the_last_is_in(stream).await;
        let consumer = self.cloud.consumer(stream);
        consumer.lacks_nothing();
        consumer.repeats
    }

    /// Waits until the application behind `stream` has the last reading of each sensor, and nothing waits. Checks that the ledger
    /// balances. Says how many names are missing, and how many of the sensors' numbers.
    pub async fn what_is_left_is_in(&mut self, stream: &str) -> (u64, u64) {
        self.the_last_is_in(stream).await;
        let consumer = self.cloud.consumer(stream);
        assert_eq!(consumer.repeats, ONCE);
        (consumer.missing(), consumer.skipped())
    }

    /// Waits until the application behind `stream` has the last reading of each sensor, and nothing waits. Checks that the ledger
    /// balances.
    pub async fn the_last_is_in(&mut self, stream: &str) {
        let Self { field, cloud, agent, .. } = self;
        eventually("everything is there", async || {
            let consumer = cloud.consumer(stream);
            if consumer.has_all_of(field.sent()) {
                return Ok(());
            }
            let (seen, status) = (format!("{:?} of {:?}", consumer.sensors(), field.sent()), agent.try_status().await);
            Err(format!("{seen}; {status:?}; {:?}", cloud.counts()))
        })
        .await;
        let status = agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await;
        status.balances();
        assert_eq!(self.cloud.counts().broken_rules, 0, "no request was over a limit");
    }

    /// Changes the configuration; the agent reads it at its next start.
    pub fn is_configured(&mut self, change: impl FnOnce(Plan) -> Plan) {
        let settings = std::mem::take(&mut self.settings);
        self.settings = change(Plan { settings, ..Self::new() }).settings;
        self.agent.configure(&self.settings.to_string());
    }

    /// Waits until so many readings wait in the agent.
    pub async fn holds(&self, readings: u64) {
        self.agent.shows("they wait", |status| status.count("/ledger/buffered") == readings).await.balances();
    }
}

impl Plan {
    /// Sets one setting, by its path in the configuration, such as `buffer.hold`. `{dir}` stands for the gateway's folder.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let (tables, key) = path.rsplit_once('.').expect("settings are in tables");
        let table = tables.split('.').fold(&mut self.settings, |table, name| {
            let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            inner.as_table_mut().expect("a table is not a value")
        });
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Takes a setting or a table out of the configuration, by its path.
    pub fn without(mut self, path: &str) -> Self {
        let (tables, key) = path.rsplit_once('.').expect("settings are in tables");
        let inner = |table, name| Table::get_mut(table, name).and_then(Value::as_table_mut);
        let table = tables.split('.').try_fold(&mut self.settings, inner);
        table.and_then(|table| table.remove(key)).expect("it is there");
        self
    }

    /// Adds a stream that takes everything from the broker.
    pub fn stream(self, name: &str, stream: &str) -> Self {
        let at = |key: &str| format!("streams.{name}.{key}");
        self.set(&at("destination"), "cloud").set(&at("stream"), stream).set(&at("from"), vec!["broker"]).set(&at("linger"), "20ms")
    }

    /// The one stream leads to Firehose.
    pub fn into_firehose(self) -> Self {
        self.set("destinations.cloud.kind", "firehose").set("streams.readings.stream", DELIVERY)
    }

    /// The one stream leads to files in `{dir}/files` instead, a folder that has to be made.
    pub fn into_files(self) -> Self {
        self.folder("disk").set("streams.readings.destination", "disk")
    }

    /// Adds the destination `name`: files in `{dir}/files`.
    pub fn folder(self, name: &str) -> Self {
        let at = |key: &str| format!("destinations.{name}.{key}");
        self.set(&at("kind"), "file").set(&at("path"), "{dir}/files").set(&at("keep_free"), "0 B")
    }

    /// Adds a scale on a serial line, whose readings go where the broker's go.
    pub fn with_scale(mut self) -> Self {
        self.scale = true;
        self.set("sources.scale.kind", "serial")
            .set("sources.scale.topic", SCALE)
            .set("streams.readings.from", vec!["broker", "scale"])
    }

    /// Settings of mosquitto.
    pub fn broker(mut self, change: impl FnOnce(mosquitto::Options) -> mosquitto::Options) -> Self {
        self.broker = change(self.broker);
        self
    }

    /// Allows the agent so many unacknowledged readings, at the broker too.
    pub fn window(self, readings: u16) -> Self {
        self.broker(|broker| broker.max_inflight(readings.into())).set("sources.broker.window", i64::from(readings))
    }

    /// The agent reaches the broker through a [`Cable`].
    pub fn through_a_cable(mut self) -> Self {
        self.cable = true;
        self
    }

    /// The agent lives by a clock that the test sets.
    pub fn with_a_clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// The endpoint's own settings.
    pub fn cloud(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.cloud);
        self
    }

    /// Shards of [`STREAM`].
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// Everything stands, but for the agent, which does not run yet.
    pub async fn installs(self) -> Gateway {
        let Self { settings, broker, cloud, shards, cable, scale, clock } = self;
        let cloud = Cloud::start(cloud, shards).await;
        let broker = broker.start().await;
        let cable = if cable { Some(Cable::to(broker.port()).await) } else { None };
        let url = cable.as_ref().map_or_else(|| broker.url(), Cable::url);
        let field = Field::new(broker, cable);

        let mut defaults = Plan { settings, ..Gateway::new() };
        defaults = defaults.or("sources.broker.url", url).or("destinations.cloud.endpoint", cloud.url());
        if scale {
            defaults = defaults.or("sources.scale.port", field.line.path().display().to_string());
        }
        let mut agent = Headwater::configured(&defaults.settings.to_string());
        fs::write(agent.dir().join("office.pem"), OFFICE.authority.pem()).expect("the temp dir can be written");
        if clock {
            agent.gets_a_clock();
        }
        Gateway { field, cloud, agent, settings: defaults.settings }
    }

    /// Everything runs, and the broker keeps what the agent listens to.
    pub async fn starts(self) -> Gateway {
        let mut gateway = self.installs().await;
        gateway.agent.start();
        gateway.field.is_listened_to().await;
        gateway
    }

    fn or(self, path: &str, value: impl Into<Value>) -> Self {
        let known = path.rsplit_once('.').is_some_and(|(tables, key)| {
            let table = tables.split('.').try_fold(&self.settings, |table, name| table.get(name)?.as_table());
            table.is_some_and(|table| table.contains_key(key))
        });
        if known { self } else { self.set(path, value) }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.agent.last_log());
        }
    }
}
