//! The field: sensors that publish over MQTT, a scale on a serial line, and the broker between them and the gateway.
//!
//! Invariant: every sensor numbers its readings from 1, so a consumer can tell what is missing, double or out of order.

use std::{collections::BTreeMap, fmt::Write, net::Ipv4Addr};

use rumqttc::MqttOptions;

use super::{cable::Cable, eventually, mosquitto::Mosquitto, publisher::Publisher, serial::SerialLine};

/// Sensors that publish in turn.
const SENSORS: u64 = 8;
/// What the scale's readings are called.
pub const SCALE: &str = "plant/scale";

/// Everything south of the gateway.
pub struct Field {
    /// Keeps what the agent has not acknowledged.
    pub broker: Mosquitto,
    /// What the agent reaches the broker through, where a test asked for it.
    pub cable: Option<Cable>,
    /// The scale's line.
    pub line: SerialLine,
    publisher: Publisher,
    /// By topic, the number of the last reading.
    sent: BTreeMap<String, u64>,
    turn: u64,
    padding: usize,
    qos: u8,
}

impl Field {
    pub fn new(broker: Mosquitto, cable: Option<Cable>) -> Self {
        let publisher = Publisher::to(&broker, "sensors");
        Self { broker, cable, line: SerialLine::new(), publisher, sent: BTreeMap::new(), turn: 0, padding: 0, qos: 1 }
    }

    /// From now on sensors send so many bytes more with every reading.
    pub fn pads(&mut self, bytes: usize) {
        self.padding = bytes;
    }

    /// From now on sensors publish with QoS 0, and no longer with 1.
    pub fn promises_nothing(&mut self) {
        self.qos = 0;
    }

    /// From now on sensors publish with QoS 2, and no longer with 1.
    pub fn promises_exactly_once(&mut self) {
        self.qos = 2;
        let mut options = MqttOptions::new("sensors", Ipv4Addr::LOCALHOST.to_string(), self.broker.port());
        options.set_inflight(20); // mosquitto hangs up on a sensor that has more on the way
        self.publisher = Publisher::with(options);
    }

    /// The sensors publish `n` readings in turn; returns when the broker has all of them.
    pub async fn publishes(&mut self, n: u64) {
        self.publishes_while(n, async |_| ()).await;
    }

    /// The same while something happens to the broker; returns when both are done.
    pub async fn publishes_while<T>(&mut self, n: u64, meanwhile: impl AsyncFnOnce(&mut Mosquitto) -> T) -> T {
        let Self { broker, publisher, sent, turn, padding, qos, .. } = self;
        let readings = (0..n).map(|_| {
            *turn += 1;
            let topic = format!("plant/{}/temp", *turn % SENSORS);
            let number = next(sent, &topic);
            let payload = if *padding == 0 { number.to_string() } else { format!("[{number},\"{}\"]", "x".repeat(*padding)) };
            (topic, payload)
        });
        let ((), done) = tokio::join!(publisher.publish_all(*qos, readings), meanwhile(broker));
        done
    }

    /// One message, which nobody counts.
    pub async fn publishes_message(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publisher.publish(topic, payload, 1).await;
    }

    /// `n` messages of so many bytes, which nobody counts; returns when the broker has all of them.
    pub async fn floods(&mut self, topic: &str, n: u64, bytes: usize) {
        self.publisher.publish_all(1, (0..n).map(|_| (topic, vec![b'x'; bytes]))).await;
    }

    /// Readings that the sensors sent again, because a connection broke before the broker's acknowledgement: it may have had them.
    pub fn sent_again(&self) -> u64 {
        self.publisher.again()
    }

    /// The broker is killed where it is, just after it has saved.
    pub async fn broker_dies_after_a_save(&mut self) {
        self.broker.save().await;
        self.publishes_message("nobody/listens", "").await; // it answers this when it has saved
        self.broker.kill().await;
    }

    /// Another way to the broker, for one that asks who comes.
    pub fn publishes_through(&mut self, publisher: Publisher) {
        self.publisher = publisher;
    }

    /// The scale sends `n` readings; returns when the line has taken them.
    pub async fn weighs(&mut self, n: u64) {
        let mut lines = String::new();
        for _ in 0..n {
            let _infallible = write!(lines, "{}\r\n", next(&mut self.sent, SCALE));
        }
        self.line.sends(lines).await;
    }

    /// By topic, the number of the last reading that was sent.
    pub fn sent(&self) -> &BTreeMap<String, u64> {
        &self.sent
    }

    /// Readings that were sent.
    pub fn total(&self) -> u64 {
        self.sent.values().sum()
    }

    /// Waits until the broker knows what the agent listens to.
    pub async fn is_listened_to(&self) {
        self.is_listened_to_at(1).await;
    }

    /// The same with another QoS.
    pub async fn is_listened_to_at(&self, qos: u8) {
        self.logs(&format!("headwater-gw-1-broker {qos} "), 1).await;
    }

    /// Waits until the broker has had so many acknowledgements of the agent since its start; it must log everything for that.
    pub async fn is_acknowledged(&self, readings: usize) {
        self.logs("Received PUBACK from headwater-gw-1-broker", readings).await;
    }

    /// Waits until the broker logs a line with `text`; it must log everything for that.
    pub async fn says(&self, text: &str) {
        self.logs(text, 1).await;
    }

    /// How many lines with `text` the broker has logged since its start.
    pub fn hears(&self, text: &str) -> usize {
        self.broker.log().matches(text).count()
    }

    /// Publishes that the broker has sent to the agent again since its start; it must log everything for that.
    pub async fn repeated_by_the_broker(&mut self) -> u64 {
        // Its log comes in order, so all that it said before this is there with it.
        self.publishes_message("nobody/asks", "").await;
        self.says("'nobody/asks'").await;
        self.hears("Sending PUBLISH to headwater-gw-1-broker (d1,") as u64
    }

    /// Waits until the broker has given the agent up, because it heard nothing.
    pub async fn misses_the_agent(&self) {
        self.logs("Client headwater-gw-1-broker has exceeded timeout", 1).await;
    }

    async fn logs(&self, text: &str, times: usize) {
        eventually(format_args!("the broker logs {times} times {text:?}"), async || {
            let log = self.broker.log();
            if log.matches(text).count() >= times { Ok(()) } else { Err(log) }
        })
        .await;
    }
}

fn next(sent: &mut BTreeMap<String, u64>, topic: &str) -> u64 {
    let number = sent.entry(topic.to_owned()).or_default();
    *number += 1;
    *number
}
