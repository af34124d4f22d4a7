//! A credentials provider as AWS IoT runs it: mutual TLS, its own name in SNI and Host, one path, and its ways to say no.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use aws_smithy_types::date_time::{DateTime, Format};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{certificates::Authority, eventually};

/// What it is called; nobody's name server knows it.
pub const HOST: &str = "c1a2b3.credentials.iot.eu-west-1.amazonaws.com";
/// What a session token begins with, so that it can be told from everything else.
pub const TOKEN: &str = "FwoGZXIvYXdzEBYaDSessionTokenOfTheTests";
/// And the secret key.
pub const SECRET: &str = "wJalrXUtnFEMISecretKeyOfTheTests";

/// How it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With credentials that last so long.
    Credentials(Duration),
    /// With credentials that are no longer valid.
    Expired,
    /// With this status and message.
    Refusal(u16, &'static str),
    /// With 200 and these bytes.
    Text(String),
    /// With 200 and a body that does not end.
    Endless,
    /// Not at all.
    Silence,
    /// By closing the connection.
    Close,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// As the client sent it.
    pub host: Option<String>,
    /// In TLS.
    pub sni: Option<String>,
    pub thing: Option<String>,
    /// The client's certificate.
    pub certificate: CertificateDer<'static>,
}

/// The endpoint, running until it is dropped.
pub struct Provider {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Connections that it has seen, TLS or not.
    connections: watch::Sender<usize>,
}

struct State {
    next: VecDeque<Reply>,
    always: Reply,
    asked: Vec<Asked>,
    issued: usize,
    config: Arc<ServerConfig>,
    /// How far its clock is ahead, in seconds.
    ahead: i64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl Provider {
    /// Its certificate comes from `own`; it accepts devices of `devices`.
    pub async fn start(own: &Authority, devices: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State {
            next: VecDeque::new(),
            always: Reply::Credentials(Duration::from_hours(1)),
            asked: Vec::new(),
            issued: 0,
            config: config(own, devices),
            ahead: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), connections: watch::Sender::new(0) });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Some(shared) = weak.upgrade() else { return };
                shared.connections.send_modify(|n| *n += 1);
                tokio::spawn(serve(tcp, shared));
            }
        });
        Self { port, shared }
    }

    /// For `endpoint`.
    pub fn url(&self) -> String {
        format!("https://{HOST}:{}", self.port)
    }

    /// From now on.
    pub fn answers(&self, reply: Reply) {
        self.shared.lock().always = reply;
    }

    /// Before anything else, in this order.
    pub fn answers_next(&self, reply: Reply) {
        self.shared.lock().next.push_back(reply);
    }

    /// From now on it accepts devices of this authority alone.
    pub fn accepts(&self, own: &Authority, devices: &Authority) {
        self.shared.lock().config = config(own, devices);
    }

    /// Its clock is so many seconds ahead of this machine's.
    pub fn is_ahead_by(&self, seconds: i64) {
        self.shared.lock().ahead = seconds;
    }

    /// All that it was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// Connections that it has seen, those without a request included.
    pub fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until it was asked so often.
    pub async fn is_asked(&self, least: usize) {
        eventually(format_args!("{least} questions"), async || {
            let asked = self.asked().len();
            if asked >= least { Ok(()) } else { Err(format!("{asked}, {} connections", self.connections())) }
        })
        .await;
    }
}

fn config(own: &Authority, devices: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(devices.pem().as_bytes()).expect("it is PEM")).expect("it is a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let (certificate, key) = own.server_called(HOST);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_client_cert_verifier(verifier.expect("there is a root"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it is PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is PEM"),
        );
    Arc::new(config.expect("they belong together"))
}

async fn serve(tcp: TcpStream, shared: Arc<Shared>) {
    let acceptor = TlsAcceptor::from(shared.lock().config.clone());
    // Who has no certificate of ours has been told so.
    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
    let Some(request) = request(&mut tls).await else { return };
    let (reply, issued, date) = {
        let mut state = shared.lock();
        let asked = asked(&request, &tls);
        state.asked.push(asked);
        state.issued += 1;
        let date = now(state.ahead);
        (state.next.pop_front().unwrap_or_else(|| state.always.clone()), state.issued, date)
    };
    let (status, body) = match reply {
        Reply::Credentials(lifetime) => (200, credentials(issued, date + lifetime)),
        Reply::Expired => (200, credentials(issued, date - Duration::from_mins(1))),
        Reply::Refusal(status, message) => (status, serde_json::json!({ "message": message }).to_string()),
        Reply::Text(text) => (200, text),
        Reply::Endless => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
            let mut sent = tls.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = tls.write_all(&[b' '; 1000]).await;
            }
            return;
        }
        Reply::Silence => {
            let _ = tls.read(&mut [0]).await;
            return;
        }
        Reply::Close => return,
    };
    let date = DateTime::from(date).fmt(Format::HttpDate).expect("it has a form");
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} Said\r\ndate: {date}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = tls.write_all(answer.as_bytes()).await;
    let _ = tls.shutdown().await;
}

fn now(ahead: i64) -> SystemTime {
    let span = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

fn credentials(nth: usize, end: SystemTime) -> String {
    let expiration = DateTime::from(end).fmt(Format::DateTime).expect("it has a form");
    serde_json::json!({ "credentials": {
        "accessKeyId": format!("ASIATEST{nth}"),
        "secretAccessKey": format!("{SECRET}{nth}"),
        "sessionToken": format!("{TOKEN}{nth}"),
        "expiration": expiration,
    }})
    .to_string()
}

async fn request(tls: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if tls.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

fn asked(request: &str, tls: &TlsStream<TcpStream>) -> Asked {
    let header = |name: &str| {
        let mut headers = request.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let connection = tls.get_ref().1;
    Asked {
        line: request.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned(),
        host: header("host"),
        sni: connection.server_name().map(str::to_owned),
        thing: header("x-amzn-iot-thingname"),
        certificate: connection.peer_certificates().and_then(|chain| chain.first()).expect("mutual TLS").clone().into_owned(),
    }
}
