//! One connection to the broker, from CONNECT to DISCONNECT.
//!
//! Invariant: packets are taken in runs, as many as have arrived, and acknowledged in runs, as many as are safe: neither costs a
//! system call or a timer of its own. What a connection owes ends with it.

mod packets;
mod pings;

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use rumqttc::{Connect, ConnectReturnCode, Login, Packet, PingReq, PubAck, PubRec, Subscribe, SubscribeFilter, Unsubscribe};
use tokio::time::{MissedTickBehavior, interval, interval_at, timeout};
use tokio_util::codec::Framed;

use self::pings::Pings;
use super::{
    Source,
    acks::{Ack, AckQueue},
    arrivals::Arrivals,
    link::{self, Link},
    subscriptions::Subscriptions,
    wire::{Incoming, Wire},
};
use crate::{clock, ingest::intake::BATCH_READINGS, reading::Ordinal, sources::error::SourceError, status::BEAT};

/// Name, TCP, TLS, CONNACK, together.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// A broker that takes no more bytes must not hold the agent's end.
const GOOD_BYE_WITHIN: Duration = Duration::from_secs(1);
/// What one read may take from the socket: some hundreds of small publishes.
const READ_BUFFER: usize = 64 << 10;
/// Acknowledgements go out in one write up to this many bytes.
const WRITE_BUFFER: usize = 64 << 10;
/// Name our SUBSCRIBE and our UNSUBSCRIBE, of which a connection has at most one each.
const SUBSCRIBE: u16 = 1;
const UNSUBSCRIBE: u16 = 2;

/// A connection that the broker has accepted.
pub struct Session<'a> {
    source: &'a Source,
    framed: Framed<Box<dyn Link>, Wire>,
    keep_alive: Duration,
    acks: AckQueue,
    pings: Pings,
    /// The broker had kept a session for us.
    pub resumed: bool,
    /// The broker has just taken all of our topics.
    subscribed: bool,
    /// The broker has not yet answered our UNSUBSCRIBE.
    unsubscribing: bool,
    /// How often half of the keep-alive time has passed since we asked for them; none when nothing is to be answered.
    asked_for: Option<u32>,
}

impl<'a> Session<'a> {
    /// Connects, and waits until the broker accepts or refuses.
    pub async fn open(source: &'a Source) -> Result<Self, SourceError> {
        let url = &source.config.url;
        let accepted = timeout(CONNECT_WITHIN, Self::shake_hands(source)).await;
        accepted.unwrap_or_else(|_| Err(SourceError::BrokerSilent { url: url.clone(), waited: CONNECT_WITHIN }))
    }

    async fn shake_hands(source: &'a Source) -> Result<Self, SourceError> {
        let config = &source.config;
        let password = match &config.password_file {
            Some(path) => link::password(path)?.into_revealed(),
            None => String::new(),
        };
        let keep_alive = u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1);
        let mut framed = Framed::with_capacity(link::open(config).await?, Wire::default(), READ_BUFFER);
        framed.set_backpressure_boundary(WRITE_BUFFER);
        let mut session = Self {
            source,
            framed,
            keep_alive: Duration::from_secs(keep_alive.into()),
            acks: AckQueue::default(),
            pings: Pings::default(),
            resumed: false,
            subscribed: false,
            unsubscribing: false,
            asked_for: None,
        };

        let login = config.username.as_ref().map(|username| Login { username: username.clone(), password });
        let connect = Connect { keep_alive, clean_session: false, login, ..Connect::new(&source.client_id) };
        session.send(&Packet::Connect(connect)).await?;
        match session.framed.next().await {
            Some(Ok(Incoming::Packet(Packet::ConnAck(answer)))) if answer.code == ConnectReturnCode::Success => {
                session.resumed = answer.session_present;
                Ok(session)
            }
            Some(Ok(Incoming::Packet(Packet::ConnAck(answer)))) => {
                Err(SourceError::BrokerRefused { url: config.url.clone(), why: refusal(answer.code) })
            }
            Some(Ok(_)) => Err(session.breach("its first packet is no CONNACK")),
            Some(Err(error)) => Err(session.broken(error)),
            None => Err(session.gone()),
        }
    }

    /// Asks for the configured topics, and to hear no more of those that are `removed`: in this order, so that nothing is missed that
    /// both an old and a new filter take.
    pub async fn subscribe(&mut self, removed: Vec<String>) -> Result<(), SourceError> {
        let qos = self.source.qos();
        let filters = self.source.config.topics.iter().map(|topic| SubscribeFilter::new(topic.clone(), qos));
        let packet = Subscribe { pkid: SUBSCRIBE, ..Subscribe::new_many(filters) };
        self.asked_for = Some(0);
        self.write(&Packet::Subscribe(packet))?;
        self.unsubscribing = !removed.is_empty();
        if self.unsubscribing {
            self.write(&Packet::Unsubscribe(Unsubscribe { pkid: UNSUBSCRIBE, topics: removed }))?;
        }
        self.flush().await
    }

    /// Takes, hands over and acknowledges until the source is told to stop.
    ///
    /// While ingest has no room, one batch is taken, and then nothing more is read: the broker's window stops the sender. A source
    /// with QoS 0 has no window, so it goes on reading, and counts what finds no room as given up.
    pub async fn serve(&mut self, arrivals: &mut Arrivals, topics: &mut Subscriptions) -> Result<(), SourceError> {
        let Source { intake, stop, .. } = self.source;
        // Twice within the time after which the broker may hang up, which is one and a half of it (MQTT 3.1.1, 3.1.2.10).
        let period = self.keep_alive / 2;
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);

        loop {
            let reading = self.may_read(arrivals);
            if !reading {
                self.pings.not_listening();
            }
            let waits_for = self.acks.waits_for();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                slot = intake.ready(), if !arrivals.is_empty() => {
                    arrivals.offer(slot.map_err(|closed| self.source.closed(closed))?);
                    self.source.report(arrivals, "connected");
                }
                safe = intake.safe_beyond(waits_for.unwrap_or_default().saturating_sub(1)), if waits_for.is_some() => {
                    self.acknowledge(safe.map_err(|closed| self.source.closed(closed))?, arrivals)?;
                }
                _ = ticks.tick() => self.keep_alive(reading, arrivals)?,
                _ = beats.tick() => self.source.beat(),
                run = poll_fn(|cx| self.poll_run(cx, arrivals)), if reading => {
                    run?;
                    self.acknowledge(intake.safe_up_to(), arrivals)?;
                    if !arrivals.has_room() && intake.ready().now_or_never().is_none() {
                        self.source.report(arrivals, "waiting");
                    } else if arrivals.repeated > 0 {
                        self.source.report(arrivals, "connected");
                    }
                }
            }
            if self.subscribed && !self.unsubscribing {
                self.subscribed = false;
                topics.granted().await;
            }
            tokio::select! {
                flushed = self.flush() => flushed?,
                // A broker that reads nothing does not delay the end; what was not written is written with the last acknowledgements.
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends the acknowledgements of what was handed over, as far as it becomes safe within `grace`, and says good-bye. The session
    /// stays with the broker, so nothing is unsubscribed.
    pub async fn finish(mut self, arrivals: &mut Arrivals, grace: Duration) -> Result<(), SourceError> {
        self.acks.forget_beyond(arrivals.handed_over());
        // Out of time is no error: what is not acknowledged the broker keeps, and sends again.
        if let Ok(settled) = timeout(grace, self.settle(arrivals)).await {
            settled?;
        }
        let url = self.source.config.url.clone();
        let silent = |_| Err(SourceError::BrokerSilent { url, waited: GOOD_BYE_WITHIN });
        timeout(GOOD_BYE_WITHIN, self.say_good_bye()).await.unwrap_or_else(silent)
    }

    /// Ends when the broker has hung up. A connection that is closed with publishes unread is reset, and what the broker had not read
    /// of our acknowledgements is lost with it (RFC 9293, 3.6).
    async fn say_good_bye(&mut self) -> Result<(), SourceError> {
        self.send(&Packet::Disconnect).await?;
        SinkExt::<Packet>::close(&mut self.framed).await.map_err(|error| self.broken(error))?;
        while let Some(Ok(_)) = self.framed.next().await {}
        Ok(())
    }

    async fn settle(&mut self, arrivals: &mut Arrivals) -> Result<(), SourceError> {
        let intake = &self.source.intake;
        while let Some(waits_for) = self.acks.waits_for() {
            let safe = intake.safe_beyond(waits_for.saturating_sub(1)).await;
            self.acknowledge(*safe.as_ref().unwrap_or(&intake.safe_up_to()), arrivals)?;
            self.flush().await?;
            if safe.is_err() {
                break; // Ingest has ended: nothing more becomes safe in this run.
            }
        }
        Ok(())
    }

    /// Takes the packets that have arrived, and waits only for the first.
    fn poll_run(&mut self, cx: &mut Context, arrivals: &mut Arrivals) -> Poll<Result<(), SourceError>> {
        let mut next = ready!(self.framed.poll_next_unpin(cx));
        let now = clock::uptime();
        let mut taken = 0;
        loop {
            match next {
                Some(Ok(Incoming::Packet(Packet::Publish(publish)))) => self.take(publish, now, arrivals)?,
                Some(Ok(Incoming::Packet(other))) => self.answer(&other, arrivals)?,
                Some(Ok(Incoming::Oversized(publish))) => self.take_oversized(&publish, arrivals)?,
                Some(Err(error)) => return Poll::Ready(Err(self.broken(error))),
                None => return Poll::Ready(Err(self.gone())),
            }
            taken += 1;
            if taken == BATCH_READINGS || !self.may_read(arrivals) {
                return Poll::Ready(Ok(()));
            }
            match self.framed.poll_next_unpin(cx) {
                Poll::Ready(packet) => next = packet,
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }

    /// What was published at a higher QoS than we asked for, as before a lower one was configured, is held as anywhere else.
    fn may_read(&self, arrivals: &Arrivals) -> bool {
        arrivals.has_room() || self.source.drops() && self.acks.owed() == 0
    }

    fn acknowledge(&mut self, safe: Ordinal, arrivals: &mut Arrivals) -> Result<(), SourceError> {
        let owed = self.acks.owed();
        while let Some(Ack { ordinal, packet, exactly_once }) = self.acks.next_due(safe) {
            let bytes = self.framed.write_buffer_mut();
            let written = if exactly_once { PubRec::new(packet).write(bytes) } else { PubAck::new(packet).write(bytes) };
            written.map_err(|error| self.broken(error))?;
            arrivals.memory.acknowledged(ordinal);
        }
        if self.acks.owed() < owed && self.pings.may_fence(Instant::now()) {
            self.ping(arrivals)?;
        }
        Ok(())
    }

    fn keep_alive(&mut self, listening: bool, arrivals: &Arrivals) -> Result<(), SourceError> {
        let heard = std::mem::take(&mut self.framed.codec_mut().heard);
        // A broker that answers everything but this one would look well, and send nothing.
        self.asked_for = self.asked_for.map(|ticks| if listening { ticks + 1 } else { 0 });
        if self.asked_for.is_some_and(|ticks| ticks > 2) {
            return Err(SourceError::BrokerDeaf { url: self.source.config.url.clone() });
        }
        if self.pings.tick(heard, listening) {
            return Err(SourceError::BrokerSilent { url: self.source.config.url.clone(), waited: self.keep_alive / 2 });
        }
        self.ping(arrivals)
    }

    fn ping(&mut self, arrivals: &Arrivals) -> Result<(), SourceError> {
        self.pings.asked(Instant::now(), arrivals.memory.fence());
        PingReq.write(self.framed.write_buffer_mut()).map(drop).map_err(|error| self.broken(error))
    }

    /// Puts a packet behind what waits to be flushed.
    fn write(&mut self, packet: &Packet) -> Result<(), SourceError> {
        packet.write(self.framed.write_buffer_mut(), usize::MAX).map(drop).map_err(|error| self.broken(error))
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), SourceError> {
        self.write(packet)?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), SourceError> {
        if self.framed.write_buffer().is_empty() {
            return Ok(());
        }
        match timeout(self.keep_alive, SinkExt::<Packet>::flush(&mut self.framed)).await {
            Ok(flushed) => flushed.map_err(|error| self.broken(error)),
            Err(_) => Err(SourceError::BrokerSilent { url: self.source.config.url.clone(), waited: self.keep_alive }),
        }
    }

    fn broken(&self, error: rumqttc::mqttbytes::Error) -> SourceError {
        broken(&self.source.config.url, error)
    }

    fn breach(&self, what: &str) -> SourceError {
        SourceError::BrokerProtocol { url: self.source.config.url.clone(), source: what.into() }
    }

    fn gone(&self) -> SourceError {
        SourceError::BrokerGone { url: self.source.config.url.clone(), source: None }
    }
}

/// What it means that a packet could not be written or read.
pub(super) fn broken(url: &str, error: rumqttc::mqttbytes::Error) -> SourceError {
    let url = url.to_owned();
    match error {
        rumqttc::mqttbytes::Error::Io(error) => SourceError::BrokerGone { url, source: Some(error) },
        other => SourceError::BrokerProtocol { url, source: other.into() },
    }
}

pub(super) fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "accepted",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "the client id",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::BadUserNamePassword => "user name or password",
        ConnectReturnCode::NotAuthorized => "not authorized",
    }
}
