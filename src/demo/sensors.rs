//! Simulated sensors that publish over MQTT.
//!
//! Invariant: every publish is counted, and was acknowledged by the broker when the counts are handed back; so an audit can ask for
//! each of them.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rumqttc::{Codec, Connect, ConnectReturnCode, Packet, Publish, QoS};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{codec::Framed, sync::CancellationToken};

use super::random::Random;
use crate::{clock, reading::Timestamp};

/// How many readings of each topic were sent, numbered from 1 in the order of sending.
pub type Sent = BTreeMap<String, u64>;

/// Publishes that may wait for their acknowledgement.
const WINDOW: u64 = 100;
const TICK: Duration = Duration::from_millis(20);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// None of our packets comes near it.
const MAX_PACKET: usize = 1 << 20;

/// A plant full of thermometers.
#[derive(Clone, Debug, PartialEq)]
pub struct Plant {
    /// Production lines.
    pub lines: u32,
    /// Machines on each line; each has one thermometer with the topic `plant/LINE/MACHINE/temp`.
    pub machines: u32,
    /// Readings a second, all thermometers together.
    pub rate: f64,
    /// The same seed gives the same values.
    pub seed: u64,
}

/// Why sensors could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// The broker can't be reached.
    #[error("the sensors can't reach the broker at {broker}; check that it runs")]
    Connect {
        /// Its address.
        broker: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The broker did not say yes to CONNECT.
    #[error("the broker at {broker} answered the sensors with {answer}; check its access rules")]
    Refused {
        /// Its address.
        broker: SocketAddr,
        /// What it said.
        answer: String,
    },
    /// The connection ended in mid-stream, so how much arrived is not known.
    #[error("the sensors lost the broker at {broker} in mid-stream; see its log")]
    Lost {
        /// Its address.
        broker: SocketAddr,
        /// Why, if the codec knows.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

type Link = Framed<TcpStream, Codec>;

/// Publishes `plant`'s readings at QoS 1 until `stop`, then waits for the last acknowledgements.
pub async fn run(plant: Plant, broker: SocketAddr, stop: CancellationToken) -> Result<Sent, SensorError> {
    let lost = |source: rumqttc::mqttbytes::Error| SensorError::Lost { broker, source: Some(Box::new(source)) };
    let mut link = connect(broker, "demo-sensors").await?;
    let mut sensors = plant.sensors();
    let (mut published, mut unacknowledged) = (0_u64, 0_u64);
    let (mut ticks, mut pings) = (interval(TICK), interval(KEEP_ALIVE / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let started = Instant::now();
    while !(stop.is_cancelled() && unacknowledged == 0) {
        tokio::select! {
            packet = link.next() => match packet {
                Some(Ok(Packet::PubAck(_))) => unacknowledged = unacknowledged.saturating_sub(1),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
                None => return Err(SensorError::Lost { broker, source: None }),
            },
            _ = ticks.tick(), if !stop.is_cancelled() => {
                let due = due(started.elapsed(), plant.rate).saturating_sub(published).min(WINDOW - unacknowledged);
                for _ in 0..due {
                    let publish = next_of(&mut sensors, published, clock::now());
                    link.feed(Packet::Publish(publish)).await.map_err(lost)?;
                    published += 1;
                    unacknowledged += 1;
                }
                link.flush().await.map_err(lost)?;
            }
            _ = pings.tick() => link.send(Packet::PingReq).await.map_err(lost)?,
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
    link.send(Packet::Disconnect).await.map_err(lost)?;
    Ok(sensors.into_iter().map(|sensor| (sensor.topic, sensor.n)).collect())
}

async fn connect(broker: SocketAddr, client_id: &str) -> Result<Link, SensorError> {
    let unreachable = |source| SensorError::Connect { broker, source };
    let tcp = TcpStream::connect(broker).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let mut link = Framed::new(tcp, Codec { max_incoming_size: MAX_PACKET, max_outgoing_size: MAX_PACKET });
    let mut connect = Connect::new(client_id);
    connect.keep_alive = u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX);
    let sent = link.send(Packet::Connect(connect)).await;
    sent.map_err(|source| SensorError::Lost { broker, source: Some(Box::new(source)) })?;
    match link.next().await {
        Some(Ok(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => Ok(link),
        Some(Ok(other)) => Err(SensorError::Refused { broker, answer: format!("{other:?}") }),
        Some(Err(source)) => Err(SensorError::Lost { broker, source: Some(Box::new(source)) }),
        None => Err(SensorError::Lost { broker, source: None }),
    }
}

/// How many readings should have been sent after `elapsed`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate times a time is not negative")]
fn due(elapsed: Duration, rate: f64) -> u64 {
    (elapsed.as_secs_f64() * rate) as u64
}

/// One sensor after the other, over and over.
fn next_of(sensors: &mut [Thermometer], published: u64, now: Timestamp) -> Publish {
    let count = sensors.len() as u64;
    let sensor = usize::try_from(published % count.max(1)).unwrap_or_default();
    let payload = sensors[sensor].reads(now);
    let mut publish = Publish::new(&sensors[sensor].topic, QoS::AtLeastOnce, payload);
    // Never 0, and far apart enough for the window. Source: MQTT 3.1.1, section 2.3.1.
    publish.pkid = u16::try_from(published % u64::from(u16::MAX) + 1).unwrap_or(1);
    publish
}

impl Plant {
    fn sensors(&self) -> Vec<Thermometer> {
        let places = (1..=self.lines).flat_map(|line| (1..=self.machines).map(move |machine| (line, machine)));
        let mut random = Random::new(self.seed);
        let sensor = |(line, machine)| Thermometer {
            topic: format!("plant/{line}/{machine}/temp"),
            n: 0,
            value: 20.0 + 40.0 * random.fraction(),
            random: Random::new(random.bits()),
        };
        places.map(sensor).collect()
    }
}

/// A temperature that wanders.
#[derive(Clone, Debug)]
struct Thermometer {
    topic: String,
    n: u64,
    value: f64,
    random: Random,
}

impl Thermometer {
    fn reads(&mut self, now: Timestamp) -> String {
        self.n += 1;
        self.value = (self.value + self.random.fraction() - 0.5).clamp(-20.0, 120.0);
        format!(r#"{{"ts":{},"value":{:.1},"n":{}}}"#, now.0, self.value, self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::broker::Broker;

    #[test]
    fn each_sensor_counts_its_own_readings_from_one_and_repeats_with_its_seed() {
        let plant = Plant { lines: 2, machines: 2, rate: 1.0, seed: 3 };
        let run = || {
            let mut sensors = plant.sensors();
            (0..8).map(|published| next_of(&mut sensors, published, Timestamp(5))).collect::<Vec<_>>()
        };

        let readings = run();

        assert_eq!(readings, run());
        assert_eq!((&*readings[0].topic, &*readings[5].topic), ("plant/1/1/temp", "plant/1/2/temp"));
        let payload: serde_json::Value = serde_json::from_slice(&readings[5].payload).unwrap();
        assert_eq!((&payload["ts"], &payload["n"]), (&5.into(), &2.into()));
        assert!(payload["value"].is_f64());
    }

    #[test]
    fn packet_identifiers_are_never_zero() {
        let mut sensors = Plant { lines: 1, machines: 1, rate: 1.0, seed: 0 }.sensors();

        for published in [0, 65_533, 65_534, 65_535, 131_070] {
            assert_ne!(next_of(&mut sensors, published, Timestamp(0)).pkid, 0, "{published}");
        }
    }

    #[tokio::test]
    async fn a_subscriber_gets_as_many_readings_as_the_sensors_say_they_sent() {
        let broker = Broker::start(0).await.unwrap();
        let mut subscriber = connect(broker.address(), "subscriber").await.unwrap();
        subscriber.send(Packet::Subscribe(rumqttc::Subscribe::new("plant/+/+/temp", QoS::AtMostOnce))).await.unwrap();
        while !matches!(subscriber.next().await.unwrap().unwrap(), Packet::SubAck(_)) {}
        let stop = CancellationToken::new();

        let listen = async {
            let mut last = BTreeMap::new();
            while last.values().sum::<u64>() < 50 {
                if let Packet::Publish(publish) = subscriber.next().await.unwrap().unwrap() {
                    *last.entry(publish.topic).or_insert(0_u64) += 1;
                }
            }
            stop.cancel();
            (last, subscriber)
        };
        let plant = Plant { lines: 1, machines: 3, rate: 500.0, seed: 1 };
        let (sent, (mut received, mut subscriber)) = tokio::join!(run(plant, broker.address(), stop.clone()), listen);

        let sent = sent.unwrap();
        while received != sent {
            if let Packet::Publish(publish) = subscriber.next().await.unwrap().unwrap() {
                *received.entry(publish.topic).or_insert(0_u64) += 1;
            }
        }
        assert_eq!(sent.len(), 3);
    }
}
