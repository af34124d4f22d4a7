//! A real broker and a sensor.

use headwater::config::MqttConfig;

use crate::support::{
    eventually,
    mosquitto::{Mosquitto, Options},
    publisher::Publisher,
};

pub struct Field {
    broker: Mosquitto,
    sensor: Publisher,
}

impl Field {
    pub async fn start() -> Self {
        Self::start_with(Mosquitto::new().persistence()).await
    }

    pub async fn start_with(options: Options) -> Self {
        let broker = options.setting("log_type", "all").start().await;
        let sensor = Publisher::to(&broker, "sensor");
        Self { broker, sensor }
    }

    pub fn config(&self, qos: u8) -> MqttConfig {
        MqttConfig { url: self.broker.url(), qos, topics: vec!["plant/#".into()], ..MqttConfig::default() }
    }

    /// The broker has them, in this order, when this returns.
    pub async fn publishes(&mut self, payloads: &[&str]) {
        self.sensor.publish_all(2, payloads.iter().map(|payload| ("plant/7/temp", *payload))).await;
    }

    /// The broker has it when this returns.
    pub async fn publishes_bytes(&mut self, topic: &str, payload: Vec<u8>) {
        self.sensor.publish(topic, payload, 2).await;
    }

    pub async fn broker_stops(&mut self) {
        self.broker.stop().await;
    }

    pub async fn broker_saves(&mut self) {
        self.broker.save().await;
        self.publishes_bytes("elsewhere", Vec::new()).await;
    }

    pub async fn broker_is_killed(&mut self) {
        self.broker.kill().await;
    }

    pub async fn broker_starts(&mut self) {
        self.broker.restart().await;
    }

    /// Waits until the broker has seen this packet from or to the source, since it was started.
    pub async fn broker_sees(&self, packet: &str, id: Option<u16>) {
        let client = "headwater-gw-1-broker";
        let id = id.map(|id| format!("(Mid: {id}")).unwrap_or_default();
        let sees = |line: &str| line.contains(packet) && line.contains(client) && line.contains(&id);
        eventually(format!("the broker logs {packet} {id}"), async || {
            let log = self.broker.log();
            if log.lines().any(sees) { Ok(()) } else { Err(log) }
        })
        .await;
    }
}
