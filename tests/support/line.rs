//! The line between agent and endpoint: far, thin, silent, broken, or swallowing what is large.
//!
//! Invariant: bytes go through in order or not at all.

use std::{
    net::{Ipv4Addr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{clock_now, within};

/// What travels as one: about what an Ethernet frame carries.
const PIECE: usize = 1400;
/// Pieces on their way, at most; a line holds no more either.
const ON_THE_WAY: usize = 64;

/// A port of its own that leads to another one.
pub struct Line {
    port: u16,
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    way: Way,
    /// Of loopback: where it leads.
    port: u16,
    one_way: Duration,
    /// Bytes a second, in each direction of each connection.
    rate: Option<u64>,
    /// Of each connection, upwards.
    swallows_beyond: Option<usize>,
    /// When somebody tried to connect, in milliseconds since 1970.
    tries: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Open,
    /// Takes connections, and nothing comes back.
    Silent,
    /// Ends connections at once.
    Broken,
}

impl Line {
    /// Leads to `port` of loopback.
    pub fn to(port: u16) -> Self {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        Self::from(listener, port)
    }

    /// From `listener`, wherever it listens, to `port` of loopback.
    pub fn from(listener: StdListener, port: u16) -> Self {
        listener.set_nonblocking(true).expect("it is a socket");
        let own = listener.local_addr().expect("it is bound").port();
        let listener = TcpListener::from_std(listener).expect("we are in a runtime");
        let state = Arc::new(watch::Sender::new(State { port, ..State::default() }));
        let weak = Arc::downgrade(&state);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Some(state) = weak.upgrade() else { return };
                state.send_modify(|state| state.tries.push(clock_now()));
                tokio::spawn(carry(near, state.subscribe()));
            }
        });
        Self { port: own, state }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections end at once, those that stand too.
    pub fn breaks(&self) {
        self.state.send_modify(|state| state.way = Way::Broken);
    }

    /// Connections are taken, and no byte comes through.
    pub fn falls_silent(&self) {
        self.state.send_modify(|state| state.way = Way::Silent);
    }

    /// Everything goes through again.
    pub fn is_mended(&self) {
        self.state.send_modify(|state| state.way = Way::Open);
    }

    /// From now on connections lead to another port.
    pub fn leads_to(&self, port: u16) {
        self.state.send_modify(|state| state.port = port);
    }

    /// So many bytes a second, and so long each way.
    pub fn is_slow(&self, bytes_per_second: u64, one_way: Duration) {
        self.state.send_modify(|state| (state.rate, state.one_way) = (Some(bytes_per_second), one_way));
    }

    /// What a connection sends upwards beyond so many bytes disappears, as packets do that are larger than a tunnel's MTU.
    pub fn swallows_beyond(&self, bytes: usize) {
        self.state.send_modify(|state| state.swallows_beyond = Some(bytes));
    }

    /// When it was tried to connect, in milliseconds since 1970.
    pub fn tries(&self) -> Vec<u64> {
        self.state.borrow().tries.clone()
    }

    /// Waits until it was tried so often to connect.
    pub async fn is_tried(&self, least: usize) {
        let mut state = self.state.subscribe();
        let saw = || format!("{} tries", self.tries().len());
        let tried = within(format_args!("{least} tries"), saw, state.wait_for(|state| state.tries.len() >= least)).await;
        tried.map(drop).expect("the line is here");
    }
}

async fn carry(near: TcpStream, mut state: watch::Receiver<State>) {
    let (began, port) = {
        let state = state.borrow();
        (state.way, state.port)
    };
    let ended = {
        let mut state = state.clone();
        // A connection that hung in silence does not live again.
        async move { state.wait_for(|state| state.way == Way::Broken || state.way != began).await.map(drop) }
    };
    if began == Way::Silent {
        let _ = ended.await;
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let ((from_agent, to_agent), (from_cloud, to_cloud)) = (near.into_split(), far.into_split());
    let upwards = pump(from_agent, to_cloud, state.clone(), true);
    let downwards = pump(from_cloud, to_agent, state.clone(), false);
    if state.borrow_and_update().way == Way::Broken {
        return;
    }
    tokio::select! {
        // In silence it stands, and nothing comes through: `pump` sees to that.
        _ = state.wait_for(|state| state.way == Way::Broken) => {}
        _ = async { tokio::join!(upwards, downwards) } => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut state: watch::Receiver<State>, upwards: bool) {
    let (put, mut taken) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let mut open = state.clone();
    let reads = async move {
        let mut passed = 0;
        let mut piece = vec![0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let (rate, one_way, limit) = {
                let state = state.borrow_and_update();
                (state.rate, state.one_way, state.swallows_beyond.filter(|_| upwards))
            };
            if let Some(rate) = rate {
                sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
            }
            passed += read;
            if limit.is_none_or(|limit| passed <= limit)
                && put.send((Instant::now() + one_way, piece[..read].to_vec())).await.is_err()
            {
                return;
            }
        }
    };
    let writes = async {
        while let Some((at, piece)) = taken.recv().await {
            sleep_until(at).await;
            if open.wait_for(|state| state.way == Way::Open).await.is_err() || to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reads, writes);
}
