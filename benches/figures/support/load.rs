//! The broker's side of MQTT 3.1.1, straight into the agent's session: it accepts, grants, and publishes with QoS 1 as fast as the
//! window or the rate lets it.
//!
//! It keeps what a broker's persistent session keeps: what was not acknowledged is sent again, with DUP and its old packet
//! identifier, before anything new. Invariant: acknowledgements come in the order of the publishes, or the run fails.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write, stdin},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use super::{Outcome, payload, worker::Worker};

/// Publishes in one write.
const IN_ONE_WRITE: u64 = 256;

/// What was published, as the process tells.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// From the first publish to the last acknowledgement.
    pub took: Duration,
    /// Publishes that had to be sent again.
    pub repeated: u64,
}

/// The process, as the others see it.
pub struct Broker {
    worker: Worker,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Broker {
    /// Starts to listen.
    pub fn start() -> Outcome<Self> {
        let mut worker = Worker::start(&["broker"])?;
        let port = worker.hear("listening")?.parse()?;
        Ok(Self { worker, port })
    }

    /// Publishes `count` readings, `rate` a second or as fast as `window` lets it, and waits until all are acknowledged.
    pub fn publish(&mut self, count: u64, rate: Option<u64>, window: usize) -> Outcome<Published> {
        self.begin(count, rate, window, count)?;
        self.reached()?;
        self.done()
    }

    /// Begins to publish; [`Self::reached`] comes back when `at` of them are acknowledged.
    pub fn begin(&mut self, count: u64, rate: Option<u64>, window: usize, at: u64) -> Outcome<()> {
        self.worker.tell(&format!("{count} {} {window} {at}", rate.unwrap_or(0)))
    }

    /// See [`Self::begin`].
    pub fn reached(&mut self) -> Outcome<()> {
        self.worker.hear("reached").map(drop)
    }

    /// Waits until all are acknowledged.
    pub fn done(&mut self) -> Outcome<Published> {
        let answer = self.worker.hear("done")?;
        let (seconds, repeated) = answer.split_once(' ').ok_or("half an answer")?;
        Ok(Published { took: Duration::from_secs_f64(seconds.parse()?), repeated: repeated.parse()? })
    }
}

/// What the process does until its orders end.
pub fn serve() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?.port());
    let (give, orders) = channel();
    thread::spawn(move || stdin().lines().map_while(Result::ok).try_for_each(|line| give.send(line)));
    let mut session = Session::default();
    loop {
        let (connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        match session.connected(connection, &orders) {
            Ok(()) => return Ok(()),
            Err(Ended::Disorder) => return Err("an acknowledgement came out of order".into()),
            Err(Ended::Connection) => {}
        }
    }
}

/// Why a connection is over.
enum Ended {
    Connection,
    Disorder,
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Self::Connection
    }
}

#[derive(Default)]
struct Session {
    known: bool,
    /// Packet identifier and number, in the order of publishing.
    in_flight: VecDeque<(u16, u64)>,
    /// Numbers that were published so far, ever; and the one of the next packet.
    published: u64,
    packets: u64,
    repeated: u64,
    order: Option<Order>,
}

struct Order {
    /// The number after the last one, and the number at which "reached" is said.
    until: u64,
    reached: u64,
    first: u64,
    rate: u64,
    window: usize,
    started: Instant,
}

impl Session {
    /// Serves one connection; comes back without an error when there are no more orders.
    fn connected(&mut self, mut connection: TcpStream, orders: &Receiver<String>) -> Result<(), Ended> {
        let mut received = Vec::new();
        let mut subscribed = false;
        loop {
            if self.order.is_none() {
                match orders.try_recv() {
                    Ok(order) => self.order = self.understand(&order),
                    Err(TryRecvError::Disconnected) => return Ok(()),
                    Err(TryRecvError::Empty) => {}
                }
            }
            if subscribed {
                self.publish(&mut connection)?;
            }
            let flat_out = subscribed && self.order.as_ref().is_some_and(|order| order.rate == 0);
            let patience = if flat_out || self.order.is_none() { 20 } else { 1 };
            connection.set_read_timeout(Some(Duration::from_millis(patience)))?;
            let mut bytes = [0; 16 << 10];
            match connection.read(&mut bytes) {
                Ok(0) => return Err(Ended::Connection),
                Ok(n) => received.extend_from_slice(&bytes[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            let mut taken = 0;
            while let Some((head, inside, len)) = packet(&received[taken..]) {
                match head >> 4 {
                    1 => {
                        connection.write_all(&[0x20, 2, u8::from(self.known), 0])?;
                        subscribed = self.known;
                        self.known = true;
                        self.repeat(&mut connection, subscribed)?;
                    }
                    4 => self.acknowledged(u16::from_be_bytes([inside[0], inside[1]]))?,
                    8 => {
                        connection.write_all(&[0x90, 3, inside[0], inside[1], 1])?;
                        subscribed = true;
                    }
                    12 => connection.write_all(&[0xD0, 0])?,
                    _ => return Err(Ended::Connection), // DISCONNECT, or what no client should send
                }
                taken += len;
            }
            received.drain(..taken);
        }
    }

    fn understand(&self, order: &str) -> Option<Order> {
        let numbers: Vec<u64> = order.split(' ').filter_map(|number| number.parse().ok()).collect();
        let &[count, rate, window, reached] = numbers.as_slice() else { return None };
        let first = self.published;
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        Some(Order { until: first + count, reached: first + reached, first, rate, window, started: Instant::now() })
    }

    fn publish(&mut self, connection: &mut TcpStream) -> Result<(), Ended> {
        while let Some(order) = &self.order {
            let room = (order.window - self.in_flight.len().min(order.window)) as u64;
            let due = match order.rate {
                0 => order.until,
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of readings")]
                rate => order.until.min(order.first + (order.started.elapsed().as_secs_f64() * rate as f64) as u64 + 1),
            };
            let count = room.min(due - self.published.min(due)).min(IN_ONE_WRITE);
            if count == 0 {
                break;
            }
            let now = payload::now();
            let mut bytes = Vec::with_capacity(256 * usize::try_from(count).unwrap_or_default());
            for number in self.published..self.published + count {
                let packet = u16::try_from(self.packets % 65_535 + 1).unwrap_or(1);
                self.packets += 1;
                self.in_flight.push_back((packet, number));
                put_publish(&mut bytes, packet, number, now, false);
            }
            self.published += count;
            connection.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Sends again what the connection before left unacknowledged.
    fn repeat(&mut self, connection: &mut TcpStream, known: bool) -> Result<(), Ended> {
        if !known {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for (packet, number) in &self.in_flight {
            put_publish(&mut bytes, *packet, *number, payload::now(), true);
        }
        self.repeated += self.in_flight.len() as u64;
        Ok(connection.write_all(&bytes)?)
    }

    fn acknowledged(&mut self, packet: u16) -> Result<(), Ended> {
        let (expected, number) = self.in_flight.pop_front().ok_or(Ended::Disorder)?;
        if expected != packet {
            return Err(Ended::Disorder);
        }
        let Some(order) = &self.order else { return Ok(()) };
        if number + 1 == order.reached {
            println!("reached");
        }
        if number + 1 == order.until {
            println!("done {} {}", order.started.elapsed().as_secs_f64(), self.repeated);
            self.order = None;
        }
        Ok(())
    }
}

/// Source: MQTT 3.1.1, 3.3.
fn put_publish(bytes: &mut Vec<u8>, packet: u16, number: u64, time: u64, dup: bool) {
    let topic = payload::topic(number);
    let remaining = 2 + topic.len() + 2 + payload::BYTES;
    bytes.push(0x32 | u8::from(dup) << 3);
    put_length(bytes, remaining);
    bytes.extend_from_slice(&u16::try_from(topic.len()).unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&packet.to_be_bytes());
    bytes.extend_from_slice(&payload::of(number, time));
}

fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7F).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap_or_default());
}

/// The first packet: its first byte, what follows its length, and how long all of it is. Source: MQTT 3.1.1, 2.2.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (mut length, mut shift) = (0, 0);
    for (place, byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let end = place + 1 + length;
            return Some((bytes[0], bytes.get(place + 1..end)?, end));
        }
    }
    None
}
