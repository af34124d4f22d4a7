//! Listening, and answering one request a connection.
//!
//! Invariant: at most [`MAX_OPEN`] connections are open, none of them longer than [`LONGEST_ANSWER`], and none outlives the agent's
//! stop: they are futures of one task, not tasks.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{Router, serve::Listener};
use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    fs,
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::error::WebError;
use crate::{clock, status::Status};

/// Connections that are served at once; more wait in the kernel. A person, a monitoring system and a script are three.
const MAX_OPEN: usize = 32;
/// The longest a connection may take, so that a client that went away without a word is forgotten.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// How long to wait before an address is tried again that could not be listened on.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// The owner and the group may ask; what they may ask for is not for everyone.
const SOCKET_MODE: u32 = 0o660;

/// Serves `routes` on `address`, if there is one, until `stop`.
pub(super) async fn page(address: Option<SocketAddr>, routes: Router, status: &Status, stop: &CancellationToken) {
    let Some(address) = address else { return };
    let Some(listener) = listening("page", status, stop, || bind_address(address)).await else { return };
    let address = listener.local_addr().unwrap_or(address);
    status.lock().page = Some(address);
    info!("the page is at http://{address}/");
    answer_all(listener, routes, stop).await;
    status.lock().page = None;
}

/// Serves `routes` on the Unix socket at `path`, until `stop`; then the file is removed.
pub(super) async fn socket(path: &Path, routes: Router, status: &Status, stop: &CancellationToken) {
    let Some(listener) = listening("socket", status, stop, || bind_socket(path)).await else { return };
    answer_all(listener, routes, stop).await;
    if let Err(error) = fs::remove_file(path).await {
        debug!(path = %path.display(), %error, "the socket's file was gone already");
    }
}

/// Tries until it works; tells in the status why it does not. `None` when stopped meanwhile.
async fn listening<L, B>(part: &str, status: &Status, stop: &CancellationToken, bind: impl Fn() -> B) -> Option<L>
where
    B: Future<Output = Result<L, WebError>>,
{
    loop {
        match stop.run_until_cancelled(bind()).await? {
            Ok(listener) => {
                if status.solved(part) {
                    info!(part, "listening again");
                }
                return Some(listener);
            }
            Err(error) => {
                let (what, remedy) = error.what_and_remedy();
                if status.problem(part, clock::now(), what.clone(), &remedy) {
                    warn!("{what}; {remedy}; readings are not affected");
                }
            }
        }
        stop.run_until_cancelled(tokio::time::sleep(LISTEN_AGAIN)).await?;
    }
}

async fn bind_address(address: SocketAddr) -> Result<TcpListener, WebError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => WebError::AddressInUse { address },
        _ => WebError::Address { address, source },
    })
}

/// Puts a socket at `path`, in place of one that a dead agent left there.
async fn bind_socket(path: &Path) -> Result<UnixListener, WebError> {
    let failed = |source| WebError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path).await {
        Ok(found) if !found.file_type().is_socket() => return Err(WebError::NotASocket { path: path.to_owned() }),
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Ok(_) => return Err(WebError::SocketInUse { path: path.to_owned() }),
            Err(source) => return Err(failed(source)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await.map_err(failed)?;
    }
    // Made under another name and then moved: nobody finds it before it has its mode.
    let fresh = beside(path);
    match fs::remove_file(&fresh).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    fs::set_permissions(&fresh, PermissionsExt::from_mode(SOCKET_MODE)).await.map_err(failed)?;
    fs::rename(&fresh, path).await.map_err(failed)?;
    Ok(listener)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    name.into()
}

async fn answer_all<L: Listener>(mut listener: L, routes: Router, stop: &CancellationToken) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(()) = open.next() => {}
            (client, _) = listener.accept(), if open.len() < MAX_OPEN => open.push(answer(client, routes.clone())),
        }
    }
}

async fn answer(client: impl AsyncRead + AsyncWrite + Unpin, routes: Router) {
    let connection = http1::Builder::new()
        // One request each: a client that keeps its connection would keep its place.
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), TowerToHyperService::new(routes));
    match tokio::time::timeout(LONGEST_ANSWER, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client went away"),
        Err(_) => debug!("a client was too slow"),
    }
}
