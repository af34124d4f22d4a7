//! One connection to the broker that leaves nothing behind.
//!
//! It has a name of its own and a session that ends with it, so a running agent's session is not taken over and no topic is touched.

use futures_util::{SinkExt, StreamExt};
use rumqttc::{Connect, ConnectReturnCode, Login, Packet};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::{
    link,
    session::{CONNECT_WITHIN, broken, refusal},
    wire::{Incoming, Wire},
};
use crate::{config::MqttConfig, sources::error::SourceError};

/// Connects as `client_id`, waits until the broker accepts or refuses, and takes its leave.
pub async fn try_out(config: &MqttConfig, client_id: &str) -> Result<(), SourceError> {
    let url = || config.url.clone();
    let met = timeout(CONNECT_WITHIN, meet(config, client_id)).await;
    met.unwrap_or_else(|_| Err(SourceError::BrokerSilent { url: url(), waited: CONNECT_WITHIN }))
}

async fn meet(config: &MqttConfig, client_id: &str) -> Result<(), SourceError> {
    let password = match &config.password_file {
        Some(path) => link::password(path)?.into_revealed(),
        None => String::new(),
    };
    let login = config.username.as_ref().map(|username| Login { username: username.clone(), password });
    let connect = Connect { clean_session: true, login, ..Connect::new(client_id) };
    let url = || config.url.clone();
    let mut framed = Framed::new(link::open(config).await?, Wire::default());
    framed.send(Packet::Connect(connect)).await.map_err(|error| broken(&config.url, error))?;
    match framed.next().await {
        Some(Ok(Incoming::Packet(Packet::ConnAck(answer)))) if answer.code == ConnectReturnCode::Success => {}
        Some(Ok(Incoming::Packet(Packet::ConnAck(answer)))) => {
            return Err(SourceError::BrokerRefused { url: url(), why: refusal(answer.code) });
        }
        Some(Ok(_)) => return Err(SourceError::BrokerProtocol { url: url(), source: "its first packet is no CONNACK".into() }),
        Some(Err(error)) => return Err(broken(&config.url, error)),
        None => return Err(SourceError::BrokerGone { url: url(), source: None }),
    }
    framed.send(Packet::Disconnect).await.map_err(|error| broken(&config.url, error))
}
