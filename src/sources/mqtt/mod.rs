//! Readings from an MQTT broker, with a session that outlives connections and restarts.
//!
//! The loop is our own, over rumqttc's packet codec: an acknowledgement has to wait until its reading is safe, has to go out on the
//! connection that delivered the publish, and hundreds of them in one write.
//!
//! Topics are subscribed when they have changed, and whenever the broker says that the session is new; what has left the configuration
//! is unsubscribed. A broker answers a subscription with its retained messages, so these arrive again then.
//!
//! Invariant: a publish is acknowledged when its reading is safe, never before; what is not acknowledged stays with the broker.

mod acks;
mod arrivals;
mod link;
mod redelivery;
mod session;
mod subscriptions;
mod trial;
pub(crate) mod wire;

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    time::{Duration, Instant},
};

use rumqttc::{QoS, SubscribeReasonCode};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::trial::try_out;
use self::{arrivals::Arrivals, redelivery::Redelivery, session::Session, subscriptions::Subscriptions};
use super::error::SourceError;
use crate::{
    backoff::{Backoff, random},
    clock,
    config::MqttConfig,
    ingest::intake::{Intake, IntakeClosed},
    reading::Fingerprint,
    status::{BEAT, Reason, Status},
};

/// How long the last batch may wait for room when the agent stops: ingest takes one in milliseconds, if it takes any.
const LAST_HAND_OVER: Duration = Duration::from_secs(1);
/// How long acknowledgements may wait for their readings then. With [`LAST_HAND_OVER`] and the good-bye that is eight of the agent's
/// ten seconds.
const LAST_RECEIPTS: Duration = Duration::from_secs(6);

/// What earlier runs leave to a source.
#[derive(Debug)]
pub struct Legacy {
    /// Publishes that were committed last, the oldest first: when the broker repeats one of them, it is acknowledged and not stored
    /// again.
    pub publishes: Vec<Fingerprint>,
    /// The file that says what the broker's session listens to; there need be none.
    pub subscriptions: PathBuf,
}

/// Takes readings from the broker until `stop`, through any number of connections.
///
/// Errors: only [`SourceError::Intake`], when ingest has ended before `stop`. A broker that is absent or refuses is told in `status`,
/// and tried again.
pub async fn run(
    name: String,
    device_id: String,
    config: MqttConfig,
    intake: Intake,
    legacy: Legacy,
    status: Status,
    stop: CancellationToken,
) -> Result<(), SourceError> {
    let client_id = config.client_id.replace("{device.id}", &device_id).replace("{source}", &name);
    let mut arrivals = Arrivals::new(Redelivery::new(legacy.publishes));
    let subscriptions = Subscriptions::load(legacy.subscriptions, &config, &client_id);
    let source = Source { name, client_id, config, intake, status, stop };
    let last = source.follow(&mut arrivals, subscriptions).await;
    source.hand_over_last(&mut arrivals).await;
    let ended = match last {
        Ok(Some(session)) => {
            if let Err(error) = session.finish(&mut arrivals, LAST_RECEIPTS).await {
                let (what, _) = error.what_and_remedy();
                warn!(
                    source = source.name,
                    "the last acknowledgements were not sent: {what}; the broker will send those readings again"
                );
            }
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    source.report(&mut arrivals, "stopped");
    source.status.rests(&source.part());
    ended
}

/// Longest wait before the broker is tried again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A connection that stood this long was a good one. A shorter one may be the next refusal: a second client with our id, for
/// example, ends each of our connections just after it stands.
const STOOD: Duration = Duration::from_secs(10);

/// What stays the same through all connections.
struct Source {
    name: String,
    client_id: String,
    config: MqttConfig,
    intake: Intake,
    status: Status,
    stop: CancellationToken,
}

impl Source {
    /// One connection after the other until `stop`; then the one that stands.
    async fn follow(&self, arrivals: &mut Arrivals, mut topics: Subscriptions) -> Result<Option<Session<'_>>, SourceError> {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        self.report(arrivals, "connecting");
        loop {
            let Some(opened) = self.meanwhile(arrivals, Session::open(self)).await? else { return Ok(None) };
            let error = match opened {
                Ok(mut session) => {
                    let since = Instant::now();
                    arrivals.memory.connected(session.resumed);
                    topics.connected(session.resumed);
                    self.connected(arrivals, session.resumed);
                    let ended = self.serve(&mut session, arrivals, &mut topics).await;
                    if since.elapsed() >= STOOD {
                        backoff.reset();
                    }
                    match ended {
                        Ok(()) => return Ok(Some(session)),
                        Err(error @ SourceError::Intake { .. }) => return Err(error),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.lost(arrivals, &error);
            if self.meanwhile(arrivals, tokio::time::sleep(backoff.pause(random()))).await?.is_none() {
                return Ok(None);
            }
        }
    }

    async fn serve(
        &self,
        session: &mut Session<'_>,
        arrivals: &mut Arrivals,
        topics: &mut Subscriptions,
    ) -> Result<(), SourceError> {
        if let Some(removed) = topics.removed() {
            topics.asking().await;
            session.subscribe(removed).await?;
        }
        session.serve(arrivals, topics).await
    }

    /// Waits for `event`, and hands over what an earlier connection left; `None` when told to stop.
    async fn meanwhile<T>(&self, arrivals: &mut Arrivals, event: impl Future<Output = T>) -> Result<Option<T>, SourceError> {
        let mut event = pin!(event);
        loop {
            self.beat();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                slot = self.intake.ready(), if !arrivals.is_empty() => {
                    arrivals.offer(slot.map_err(|closed| self.closed(closed))?);
                    self.report(arrivals, "connecting");
                }
                happened = &mut event => return Ok(Some(happened)),
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    async fn hand_over_last(&self, arrivals: &mut Arrivals) {
        if arrivals.is_empty() {
            return;
        }
        if let Ok(Ok(slot)) = timeout(LAST_HAND_OVER, self.intake.ready()).await {
            arrivals.offer(slot);
            return;
        }
        let lost = arrivals.give_up(&self.intake, Reason::NoRoom);
        if lost > 0 {
            warn!(source = self.name, readings = lost, "stopped without room for the last QoS 0 readings; they are lost");
        }
    }

    fn connected(&self, arrivals: &mut Arrivals, resumed: bool) {
        self.report(arrivals, "connected");
        self.status.source(&self.name, |source| source.error = None);
        self.status.solved(&self.part());
        info!(source = self.name, broker = self.config.url, resumed, "connected to the broker");
    }

    /// Tells what happened, once.
    fn lost(&self, arrivals: &mut Arrivals, error: &SourceError) {
        self.report(arrivals, "connecting");
        let (what, remedy) = error.what_and_remedy();
        self.status.source(&self.name, |source| {
            source.error = Some(what.clone());
            source.invalid += u64::from(matches!(error, SourceError::BrokerProtocol { .. }));
        });
        if self.status.problem(&self.part(), clock::now(), what.clone(), &remedy) {
            warn!(source = self.name, "{what}; {remedy}");
        }
    }

    /// Whether the broker has taken all of our topics, with the QoS that we asked for. Says which it has not.
    fn granted(&self, answers: &[SubscribeReasonCode]) -> bool {
        let topics = || self.config.topics.iter().zip(answers);
        let refused: Vec<_> =
            topics().filter(|(_, answer)| **answer == SubscribeReasonCode::Failure).map(|(topic, _)| topic).collect();
        let lowered = |answer| matches!(answer, SubscribeReasonCode::Success(qos) if qos < self.qos());
        let lowered: Vec<_> = topics().filter(|(_, answer)| lowered(**answer)).map(|(topic, _)| topic).collect();

        let (what, remedy) = match (refused.as_slice(), lowered.as_slice()) {
            ([], []) => {
                self.status.solved(&self.topics_part());
                return true;
            }
            ([], lowered) => (
                format!("broker {} grants less than QoS {} for {lowered:?}", self.config.url, self.config.qos),
                "readings may be lost between broker and agent: raise the broker's maximum QoS, or lower `qos`",
            ),
            (refused, _) => (
                format!("broker {} refuses our subscription to {refused:?}", self.config.url),
                "allow this user to read these topics in the broker's access list, or correct `topics`",
            ),
        };
        if self.status.problem(&self.topics_part(), clock::now(), what.clone(), remedy) {
            warn!(source = self.name, "{what}; {remedy}");
        }
        refused.is_empty()
    }

    /// Shows that this stage moves.
    fn beat(&self) {
        self.status.beat(&self.part(), Instant::now());
    }

    fn report(&self, arrivals: &mut Arrivals, state: &'static str) {
        self.status.source(&self.name, |source| {
            source.state = state;
            arrivals.report(source);
        });
    }

    fn qos(&self) -> QoS {
        match self.config.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Nobody can be held: what finds no room is given up.
    fn drops(&self) -> bool {
        self.config.qos == 0
    }

    fn closed(&self, source: IntakeClosed) -> SourceError {
        SourceError::Intake { name: self.name.clone(), source }
    }

    /// As problems name it.
    fn part(&self) -> String {
        format!("source {}", self.name)
    }

    /// As problems name its subscriptions.
    fn topics_part(&self) -> String {
        format!("source {}, topics", self.name)
    }
}
