//! What happens to the installation while sensors publish.

use std::fs;

use tokio::time::{Duration, sleep};

use super::{Campaign, KILL, chance::Chance};
use crate::support::{gateway::Gateway, process::Picture};

/// One blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    AgentKilled,
    AgentStopped,
    AgentFrozen,
    BrokerStopped,
    BrokerKilled,
    BrokerFrozen,
    /// Both on the same gateway.
    BothKilled,
    CableCut,
    /// What the agent answered last is lost with the cable.
    CableMutedAndCut,
    SerialUnplugged,
    ClockSet,
    /// The buffer's header, after a power cut.
    BufferDamaged,
}

/// What the first bytes of a database tell.
const HEADER: usize = 100;
/// How wrong a clock is, in hours.
const HOURS: [i64; 6] = [-100, -7, 0, 0, 5, 48];

impl Blow {
    pub(super) fn of(chance: &mut Chance) -> Self {
        match chance.between(0, 32) {
            0..14 => Self::AgentKilled,
            14..16 => Self::AgentStopped,
            16..18 => Self::AgentFrozen,
            18 => Self::BrokerStopped,
            19 => Self::BrokerKilled,
            20 => Self::BrokerFrozen,
            21..23 => Self::BothKilled,
            23 => Self::CableCut,
            24..26 => Self::CableMutedAndCut,
            26..28 => Self::SerialUnplugged,
            28..30 => Self::ClockSet,
            _ => Self::BufferDamaged,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AgentKilled => KILL,
            Self::AgentStopped => "agent: SIGTERM",
            Self::AgentFrozen => "agent: SIGSTOP, SIGCONT",
            Self::BrokerStopped => "broker: SIGTERM",
            Self::BrokerKilled => "broker: kill -9 after it saved",
            Self::BrokerFrozen => "broker: SIGSTOP, SIGCONT",
            Self::BothKilled => "agent and broker: kill -9",
            Self::CableCut => "cable to the broker: cut",
            Self::CableMutedAndCut => "cable to the broker: acknowledgements lost, then cut",
            Self::SerialUnplugged => "serial adapter: unplugged",
            Self::ClockSet => "clock: set by hours",
            Self::BufferDamaged => "agent: kill -9, then the buffer's header damaged",
        }
    }
}

impl Campaign {
    /// `blow` comes after `moment`, while sensors publish so many readings.
    pub(super) async fn suffers(&mut self, blow: Blow, readings: u64, moment: Duration) {
        match blow {
            Blow::AgentKilled => self.agent_is_killed(readings, moment).await,
            Blow::AgentStopped => {
                let Gateway { field, agent, .. } = &mut self.gateway;
                tokio::join!(field.publishes(readings), async {
                    sleep(moment).await;
                    agent.status().await.balances();
                    agent.stops().await;
                    agent.start();
                });
            }
            Blow::AgentFrozen => {
                let Gateway { field, agent, .. } = &mut self.gateway;
                tokio::join!(field.publishes(readings), async {
                    agent.freezes();
                    sleep(moment).await;
                    agent.thaws();
                });
            }
            Blow::BrokerStopped => {
                let stop = self.gateway.field.publishes_while(readings, async |broker| {
                    sleep(moment).await;
                    broker.stop().await;
                    broker.restart().await;
                });
                stop.await;
            }
            Blow::BrokerFrozen => {
                let freeze = self.gateway.field.publishes_while(readings, async |broker| {
                    broker.freezes();
                    sleep(moment).await;
                    broker.thaws();
                });
                freeze.await;
            }
            Blow::BrokerKilled => self.broker_is_killed(readings, moment).await,
            Blow::BothKilled => {
                let Gateway { field, agent, .. } = &mut self.gateway;
                field.publishes(readings).await;
                sleep(moment).await;
                agent.power_off().await;
                field.broker_dies_after_a_save().await;
                field.broker.restart().await;
                agent.start();
                self.cuts += 1;
            }
            Blow::CableCut => self.cable_is_cut(readings, moment, false).await,
            Blow::CableMutedAndCut => self.cable_is_cut(readings, moment, true).await,
            Blow::SerialUnplugged => self.serial_adapter_is_unplugged(readings).await,
            Blow::ClockSet => {
                let hours = self.chance.one_of(&HOURS);
                let Gateway { field, agent, .. } = &mut self.gateway;
                tokio::join!(field.publishes(readings), async {
                    sleep(moment).await;
                    agent.clock().is_off_by(hours * 3600);
                });
            }
            Blow::BufferDamaged => {
                let Gateway { field, agent, .. } = &mut self.gateway;
                field.publishes(readings).await;
                sleep(moment).await;
                agent.power_off().await;
                let database = agent.dir().join("state/buffer.db");
                // It is not there yet where the agent was killed before while it made a new one.
                if let Ok(mut file) = fs::read(&database) {
                    file[..HEADER].fill(0xA7);
                    fs::write(&database, file).expect("it is ours");
                }
                agent.start();
                self.cuts += 1;
            }
        }
    }

    async fn agent_is_killed(&mut self, readings: u64, moment: Duration) {
        let at_work = self.chance.once_in(2);
        let Gateway { field, agent, .. } = &mut self.gateway;
        tokio::join!(field.publishes(readings), async {
            // Every other one hits an agent that is at work, and not its start.
            if at_work {
                agent.status().await.balances();
            }
            sleep(moment).await;
            if let (true, Ok(status)) = (at_work, agent.try_status().await) {
                status.balances();
            }
            agent.power_off().await;
            agent.start();
        });
        self.cuts += 1;
    }

    async fn broker_is_killed(&mut self, readings: u64, moment: Duration) {
        let Gateway { field, agent, .. } = &mut self.gateway;
        field.publishes(readings).await;
        sleep(moment).await;
        let taken = |status: &Picture| status.count("/sources/broker/received") + status.count("/sources/broker/repeated");
        let before = taken(&agent.status().await);
        field.broker_dies_after_a_save().await;
        let missed = agent.shows("the broker is missed", |s| s.text("/sources/broker/state") == "connecting").await;
        self.forgotten += taken(&missed) - before;
        field.broker.restart().await;
    }

    async fn cable_is_cut(&mut self, readings: u64, moment: Duration, muted: bool) {
        let field = &mut self.gateway.field;
        let cable = field.cable.take().expect("the agent reaches the broker through one");
        tokio::join!(field.publishes(readings), async {
            if muted {
                cable.mutes_the_agent();
            }
            sleep(moment).await;
            cable.is_cut();
        });
        field.cable = Some(cable);
    }

    /// What the line has not handed over is lost with the adapter, and what is in memory alone with the next power cut, as nobody sends a
    /// serial reading again. So this waits for the one, and ends with a stop in order.
    async fn serial_adapter_is_unplugged(&mut self, readings: u64) {
        let readings = readings / 4;
        let state = |wanted: &'static str| move |status: &Picture| status.text("/sources/scale/state") == wanted;
        let received = |status: &Picture| status.count("/sources/scale/received");
        let Gateway { field, agent, .. } = &mut self.gateway;
        for _ in 0..2 {
            let before = received(&agent.shows("the port is open", state("connected")).await);
            field.weighs(readings).await;
            agent.shows("what the scale said is in", |status| received(status) == before + readings).await;
            field.line.unplug();
            agent.shows("the port is missed", state("connecting")).await;
            field.line.plug_in();
        }
        agent.stops().await;
        agent.start();
    }
}
