//! The cable between agent and broker, which can hold back what the agent answers, and be cut.
//!
//! Invariant: bytes go through in order or not at all; what is held back when the cable is cut is gone.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::within;

/// A port of its own that leads to another one.
pub struct Cable {
    port: u16,
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// What the agent sends does not come through.
    muted: bool,
    /// Acknowledgements that the agent sent meanwhile.
    kept: usize,
    /// How often it was cut; a connection ends with the next cut.
    cuts: u32,
}

impl Cable {
    /// Leads to `port` of loopback.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(watch::Sender::new(State::default()));
        let weak = Arc::downgrade(&state);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Some(state) = weak.upgrade() else { return };
                tokio::spawn(carry(near, port, state));
            }
        });
        Self { port: own, state }
    }

    /// For a source's `url`.
    pub fn url(&self) -> String {
        format!("mqtt://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// From now on nothing that the agent sends reaches the broker; what the broker sends goes on.
    pub fn mutes_the_agent(&self) {
        self.state.send_modify(|state| state.muted = true);
    }

    /// Ends all connections, and what they held back; new ones go through in both directions.
    pub fn is_cut(&self) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts + 1, ..State::default() });
    }

    /// Waits until so many acknowledgements of the agent are kept back.
    pub async fn keeps(&self, least: usize) {
        let mut state = self.state.subscribe();
        let saw = || format!("{} acknowledgements", self.state.borrow().kept);
        let kept = within(format_args!("{least} of them are kept back"), saw, state.wait_for(|state| state.kept >= least)).await;
        kept.map(drop).expect("the cable is here");
    }
}

async fn carry(near: TcpStream, port: u16, state: Arc<watch::Sender<State>>) {
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let ((from_agent, to_agent), (from_broker, to_broker)) = (near.into_split(), far.into_split());
    let mut cut = state.subscribe();
    let now = cut.borrow_and_update().cuts;
    tokio::select! {
        biased; // a cut also opens the gate
        _ = cut.wait_for(|state| state.cuts > now) => {}
        () = carry_up(from_agent, to_broker, &state) => {}
        () = carry_down(from_broker, to_agent) => {}
    }
}

async fn carry_up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &watch::Sender<State>) {
    let mut gate = state.subscribe();
    let mut kept = BytesMut::new();
    loop {
        let has_some = !kept.is_empty();
        tokio::select! {
            read = from.read_buf(&mut kept) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let acknowledgements = acknowledgements(&kept);
                    state.send_if_modified(|state| std::mem::replace(&mut state.kept, acknowledgements) != acknowledgements);
                }
            },
            true = is_open(&mut gate), if has_some => {
                if to.write_all_buf(&mut kept).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn is_open(gate: &mut watch::Receiver<State>) -> bool {
    gate.wait_for(|state| !state.muted).await.is_ok()
}

async fn carry_down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// PUBACKs and PUBRECs among the whole packets, of which a connected client's are all shorter than 128 bytes. Source: MQTT 3.1.1, section 2.2.
fn acknowledgements(mut packets: &[u8]) -> usize {
    let mut count = 0;
    while let [kind, length, rest @ ..] = packets {
        count += usize::from(matches!(kind >> 4, 4 | 5));
        packets = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    count
}
