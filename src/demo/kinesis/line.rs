//! The line between a gateway and the endpoint: it can be cut, and it can swallow everything.
//!
//! The port stays ours while the endpoint is away, so no other process of the machine can take it: connections are accepted and
//! closed at once. Invariant: no connection outlives the change from or to being away.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{
    either::Either,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};
use tracing::debug;

/// Whether the endpoint can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Yes.
    There,
    /// Connections are closed at once.
    Away,
    /// Connections stand, and nothing is ever answered.
    BlackHole,
}

/// The line, as the endpoint's controls see it.
#[derive(Clone, Debug)]
pub struct Uplink(Arc<Mutex<Era>>);

/// The time between two cuts.
#[derive(Debug)]
struct Era {
    reach: Reach,
    end: CancellationToken,
    silent: Arc<AtomicBool>,
}

impl Era {
    fn new(reach: Reach) -> Self {
        Self { reach, end: CancellationToken::new(), silent: Arc::new(AtomicBool::new(reach == Reach::BlackHole)) }
    }
}

impl Uplink {
    /// A line that works.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Era::new(Reach::There))))
    }

    /// From now on it is like this. Open connections are cut, but those that fall into a black hole: they stay, and go silent.
    pub fn set(&self, reach: Reach) {
        let mut era = self.era();
        match (era.reach, reach) {
            (now, then) if now == then => {}
            (Reach::There, Reach::BlackHole) => {
                era.silent.store(true, Ordering::Release);
                era.reach = reach;
            }
            _ => {
                era.end.cancel();
                *era = Era::new(reach);
            }
        }
    }

    /// Cuts every connection, for good.
    pub fn end(&self) {
        let mut era = self.era();
        era.end.cancel();
        era.reach = Reach::Away;
    }

    fn connect(&self, tcp: TcpStream) -> Option<Wire> {
        let era = self.era();
        let cut = era.end.child_token();
        let line = Line(cut.clone());
        (era.reach != Reach::Away).then(|| Wire { tcp, line, cut: Box::pin(cut.cancelled_owned()), silent: era.silent.clone() })
    }

    fn era(&self) -> MutexGuard<'_, Era> {
        // Nothing under this lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, as a request handler sees it.
#[derive(Clone, Debug)]
pub struct Line(CancellationToken);

impl Line {
    /// Closes the connection; what was not yet written is not written.
    pub fn cut(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, Listener>> for Line {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        match stream.io() {
            Either::Left(wire) => wire.line.clone(),
            Either::Right(tls) => tls.get_ref().0.line.clone(),
        }
    }
}

type Connection = Either<Wire, TlsStream<Wire>>;

/// Accepts connections at the end of a [`Line`], with or without TLS.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    uplink: Uplink,
    // Handshakes go on side by side: one client that stops in the middle of its own must not keep the others out.
    handshakes: FuturesUnordered<BoxFuture<'static, (io::Result<TlsStream<Wire>>, SocketAddr)>>,
}

impl Listener {
    /// Accepts on `tcp` while `uplink` lets it.
    pub fn new(tcp: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, uplink: Uplink) -> Self {
        Self { tcp, tls: tls.map(TlsAcceptor::from), uplink, handshakes: FuturesUnordered::new() }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (tcp, peer) = tokio::select! {
                accepted = axum::serve::Listener::accept(&mut self.tcp) => accepted,
                Some((stream, peer)) = self.handshakes.next() => match stream {
                    Ok(stream) => return (Either::Right(stream), peer),
                    Err(error) => {
                        debug!(%peer, %error, "no TLS with this client");
                        continue;
                    }
                },
            };
            if let Err(error) = tcp.set_nodelay(true) {
                debug!(%peer, %error, "answers to this client may wait for its acknowledgements");
            }
            let Some(wire) = self.uplink.connect(tcp) else { continue };
            let Some(tls) = &self.tls else { return (Either::Left(wire), peer) };
            let handshake = tls.accept(wire);
            self.handshakes.push(Box::pin(async move { (handshake.await, peer) }));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A TCP connection that can be cut or go silent.
pub struct Wire {
    tcp: TcpStream,
    line: Line,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    silent: Arc<AtomicBool>,
}

impl Wire {
    /// Pending while the line is silent: the only way out of a black hole is a cut, and that wakes the task.
    fn check(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.silent.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.check(cx))?;
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.check(cx))?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.check(cx))?;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.check(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
