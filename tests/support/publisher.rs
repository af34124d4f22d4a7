//! A sensor that publishes over MQTT and knows what the broker took.
//!
//! Invariant: when a call returns, the broker has acknowledged every message of it. What was not acknowledged when a connection broke
//! is published again in a new session, so a broker that had it hands it on twice.

use std::{
    collections::VecDeque,
    fmt::Display,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};

use super::{DEADLINE, GLANCE, mosquitto::Mosquitto, within};

/// The longest that a test leaves its sensor alone; keep-alive runs only while something is published.
const QUIET: Duration = Duration::from_mins(10);
/// Messages that wait for the event loop.
const QUEUE: usize = 256;

/// One sensor, with one connection at a time.
pub struct Publisher {
    options: MqttOptions,
    client: AsyncClient,
    events: EventLoop,
    again: u64,
}

impl Publisher {
    /// Connects, without TLS or a password, when it first publishes.
    pub fn to(broker: &Mosquitto, client_id: &str) -> Self {
        Self::to_port(broker.port(), client_id)
    }

    /// The same to any broker on loopback.
    pub fn to_port(port: u16, client_id: &str) -> Self {
        Self::with(MqttOptions::new(client_id, Ipv4Addr::LOCALHOST.to_string(), port))
    }

    /// The same as these options say: with TLS, or with a password.
    pub fn with(mut options: MqttOptions) -> Self {
        options.set_keep_alive(QUIET).set_max_packet_size(16 << 20, 16 << 20);
        let (client, events) = AsyncClient::new(options.clone(), QUEUE);
        Self { options, client, events, again: 0 }
    }

    /// Publishes one message and waits until the broker acknowledged it; at QoS 0, until it is written to the socket.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>, qos: u8) {
        self.publish_all(qos, [(topic, payload)]).await;
    }

    /// Messages that were on the way when a connection broke, and were published again.
    pub fn again(&self) -> u64 {
        self.again
    }

    /// Publishes many, in this order, without waiting for one before the next; returns when all are acknowledged.
    pub async fn publish_all<T: Display, P: Into<Vec<u8>>>(&mut self, qos: u8, messages: impl IntoIterator<Item = (T, P)>) {
        let qos = rumqttc::qos(qos).expect("0, 1 or 2");
        let mut messages = messages.into_iter().map(|(topic, payload)| (topic.to_string(), payload.into()));
        let mut unacknowledged = VecDeque::<(String, Vec<u8>)>::new();
        let mut on_the_way = 0; // the first so many of them; the others wait for room or for a new connection
        let (mut acknowledged, mut progress, mut trouble) = (0_u64, Instant::now(), String::from("no error"));
        loop {
            while on_the_way < unacknowledged.len() || extend(&mut unacknowledged, &mut messages) {
                let (topic, payload) = &unacknowledged[on_the_way];
                if self.client.try_publish(topic, qos, false, payload.clone()).is_err() {
                    break; // the queue is full; the next turn of the event loop makes room
                }
                on_the_way += 1;
            }
            if unacknowledged.is_empty() {
                return;
            }
            let saw = || format!("{acknowledged} acknowledged, {} not; {trouble}", unacknowledged.len());
            assert!(progress.elapsed() < DEADLINE, "the broker acknowledges nothing for {DEADLINE:?}: {}", saw());
            match within("the broker answers", saw, self.events.poll()).await {
                Ok(event) if completes(&event, qos) => {
                    // A broker answers in the order of what it was sent (MQTT 3.1.1, section 4.6).
                    unacknowledged.pop_front();
                    on_the_way -= 1;
                    (acknowledged, progress) = (acknowledged + 1, Instant::now());
                }
                Ok(_) => {}
                Err(error) => {
                    trouble = error.to_string();
                    tokio::time::sleep(GLANCE).await; // a broker that is away refuses at once, and would be asked without a pause
                    (self.client, self.events) = AsyncClient::new(self.options.clone(), QUEUE);
                    self.again += std::mem::take(&mut on_the_way) as u64;
                }
            }
        }
    }
}

fn extend<T>(queue: &mut VecDeque<T>, more: &mut impl Iterator<Item = T>) -> bool {
    let next = more.next();
    let any = next.is_some();
    queue.extend(next);
    any
}

fn completes(event: &Event, qos: QoS) -> bool {
    match event {
        Event::Outgoing(Outgoing::Publish(_)) => qos == QoS::AtMostOnce,
        Event::Incoming(Packet::PubAck(_)) => qos == QoS::AtLeastOnce,
        Event::Incoming(Packet::PubComp(_)) => qos == QoS::ExactlyOnce,
        _ => false,
    }
}
