//! A broker that does what the test says, packet by packet, for what mosquitto can't be made to do on demand.

use futures_util::{SinkExt, StreamExt};
use headwater::config::MqttConfig;
use rumqttc::{Codec, ConnAck, ConnectReturnCode, Packet, PubRel, Publish, QoS, SubAck, SubscribeReasonCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::codec::Framed;

use crate::support::DEADLINE;

pub struct ScriptedBroker(TcpListener);

impl ScriptedBroker {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn config(&self, qos: u8) -> MqttConfig {
        let url = format!("mqtt://{}", self.0.local_addr().unwrap());
        MqttConfig { url, qos, topics: vec!["plant/#".into()], ..MqttConfig::default() }
    }

    /// Accepts a connection, and answers CONNECT.
    pub async fn accepts(&self, session_present: bool) -> Connection {
        let (stream, _) = timeout(DEADLINE, self.0.accept()).await.expect("nobody connects").unwrap();
        let codec = Codec { max_incoming_size: 1 << 20, max_outgoing_size: 1 << 28 };
        let mut connection = Connection(Framed::new(stream, codec));
        let Packet::Connect(connect) = connection.receives().await else { panic!("no CONNECT") };
        assert_eq!((connect.client_id.as_str(), connect.clean_session), ("headwater-gw-1-broker", false));
        connection.sends([Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, session_present))]).await;
        connection
    }

    /// Accepts a connection of a process that has just started, and grants what it asks for.
    pub async fn accepts_first(&self, session_present: bool) -> Connection {
        let mut connection = self.accepts(session_present).await;
        connection.grants(SubscribeReasonCode::Success(QoS::ExactlyOnce)).await;
        connection
    }
}

pub struct Connection(Framed<TcpStream, Codec>);

impl Connection {
    pub async fn sends(&mut self, packets: impl IntoIterator<Item = Packet>) {
        for packet in packets {
            self.0.feed(packet).await.unwrap();
        }
        SinkExt::<Packet>::flush(&mut self.0).await.unwrap();
    }

    /// Sends bytes as they are; a source that has left need not take them all.
    pub async fn sends_bytes(&mut self, bytes: &[u8]) {
        let _left = self.0.get_mut().write_all(bytes).await;
    }

    /// Whether the other side ends the connection; what it still sends is left out.
    pub async fn ends(&mut self) -> bool {
        let mut rest = [0; 4096];
        timeout(DEADLINE, async { while self.0.get_mut().read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {} }).await.is_ok()
    }

    /// Answers the SUBSCRIBE.
    pub async fn grants(&mut self, answer: SubscribeReasonCode) {
        let Packet::Subscribe(subscribe) = self.receives().await else { panic!("no SUBSCRIBE") };
        self.sends([Packet::SubAck(SubAck::new(subscribe.pkid, vec![answer; subscribe.filters.len()]))]).await;
    }

    /// The next packet, PINGREQs left out and answered.
    pub async fn receives(&mut self) -> Packet {
        loop {
            match self.next().await {
                Some(Packet::PingReq) => self.sends([Packet::PingResp]).await,
                packet => return packet.expect("the connection has ended"),
            }
        }
    }

    /// The next packet, whatever it is; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        timeout(DEADLINE, self.0.next()).await.expect("nothing arrives").map(Result::unwrap)
    }

    /// Makes the agent answer, so that the test sees what it sent before: one packet in, one packet out.
    pub async fn sends_before_the_next_answer(&mut self) -> Vec<Packet> {
        self.sends([Packet::PubRel(PubRel::new(u16::MAX))]).await;
        let mut sent = Vec::new();
        loop {
            match self.receives().await {
                Packet::PubComp(answer) if answer.pkid == u16::MAX => return sent,
                packet => sent.push(packet),
            }
        }
    }
}

pub fn publish(qos: QoS, pkid: u16, payload: &str) -> Packet {
    Packet::Publish(Publish { pkid, ..Publish::new("plant/1/temp", qos, payload) })
}

pub fn again(packet: Packet) -> Packet {
    let Packet::Publish(publish) = packet else { panic!("{packet:?} is not repeated") };
    Packet::Publish(Publish { dup: true, ..publish })
}
