//! An MQTT broker inside this process, so that the demo needs nothing installed.
//!
//! It is rumqttd with bounds fit for a demo. Three of its ways are not those of a broker to test against: it keeps everything in
//! memory, at most 100 messages are in flight to a client whatever is configured, and what it sends again has neither the DUP flag
//! nor its old packet identifier.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings, protocol::v4::V4};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Unacknowledged messages in flight to one client; fixed in rumqttd.
pub const WINDOW: u16 = 100;

/// Messages that wait for subscribers, in segments of which the oldest goes when there are too many.
const SEGMENT_BYTES: usize = 1 << 20;
const SEGMENTS: usize = 16;
/// Longest that the listener may take to stand; it takes a few milliseconds.
const START_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No free port, or the one asked for is taken.
    #[error("no broker can listen on 127.0.0.1:{port}; choose another port, or 0 for a free one")]
    Port {
        /// The one asked for.
        port: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No thread for it.
    #[error("the broker's thread did not start")]
    Thread(#[source] io::Error),
    /// It ended, or did nothing, before it listened.
    #[error("the broker on {address} did not start{because}")]
    Start {
        /// Where it should have listened.
        address: SocketAddr,
        /// What rumqttd said, if anything.
        because: String,
    },
}

/// A running broker. It stops listening, and closes all connections, when this is dropped.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Broker {
    /// Starts on a port of 127.0.0.1; 0 for any free one.
    pub async fn start(port: u16) -> Result<Self, BrokerError> {
        // rumqttd takes an address and nothing else, and does not say which port it got: so one is found for it.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|source| BrokerError::Port { port, source })?;
        let stop = CancellationToken::new();
        let (ended, end) = oneshot::channel();
        let serve = serve(address, stop.clone());
        let thread = std::thread::Builder::new().name("demo broker".into());
        thread
            .spawn(move || {
                // Nobody may be listening any more: then nobody needs the reason.
                drop(ended.send(serve()));
            })
            .map_err(BrokerError::Thread)?;
        let not_started = |because: String| BrokerError::Start { address, because };
        tokio::select! {
            () = until_it_accepts(address) => Ok(Self { address, _stop: stop.drop_guard() }),
            why = end => Err(not_started(why.map_or_else(|_| String::new(), |why| format!(": {why}")))),
            () = tokio::time::sleep(START_WITHIN) => Err(not_started(format!(" within {START_WITHIN:?}"))),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn until_it_accepts(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the broker's thread does; it ends with the reason. With its runtime all its connections end. The router's own thread can't
/// be stopped and sleeps on, without connections, until the process ends.
fn serve(address: SocketAddr, stop: CancellationToken) -> impl FnOnce() -> String + Send {
    move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return error.to_string(),
        };
        let router = Router::new(0, router_config()).spawn();
        let mut server = Server::new(server_settings(address), router, V4);
        runtime.block_on(async {
            tokio::select! {
                ended = server.start(LinkType::Remote) => ended.err().map_or_else(|| "it ended".into(), |error| error.to_string()),
                () = stop.cancelled() => "it was stopped".into(),
            }
        })
    }
}

fn router_config() -> RouterConfig {
    RouterConfig {
        max_connections: 16,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        custom_segment: None::<HashMap<_, _>>,
        initialized_filters: None,
        ..RouterConfig::default()
    }
}

fn server_settings(address: SocketAddr) -> ServerSettings {
    ServerSettings {
        name: "demo".into(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 10_000,
            max_payload_size: 1 << 20,
            max_inflight_count: usize::from(WINDOW),
            auth: None,
            external_auth: None,
            // Without it a publisher whose topic nobody has subscribed to is thrown out.
            dynamic_filters: true,
        },
    }
}
