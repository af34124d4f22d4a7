//! Who gives credentials where AWS tools look for them: a container's endpoint, an instance's metadata service, and STS. Each is told from
//! the others by what it is asked, and each refuses as the real one does who does not ask as it wants.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use aws_smithy_types::date_time::{DateTime, Format};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::certificates::OFFICE;

/// The role that it lets everyone take.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/gateway";
/// What a container has to show.
pub const CONTAINER_TOKEN: &str = "token-of-this-container";
/// What a web identity has to show.
pub const WEB_IDENTITY_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.signature-of-the-plant";
/// Where a container's credentials are.
const CONTAINER_PATH: &str = "/v1/credentials";
/// What a session with an instance's metadata service is known by.
const INSTANCE_TOKEN: &str = "session-of-this-instance";
const INSTANCE_PATH: &str = "/latest/meta-data/iam/security-credentials/";

/// One of them, running until it is dropped.
pub struct Issuer {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What it was asked: method and path, or the action of STS.
    asked: Vec<String>,
    silent: bool,
}

struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Of a form.
    fn field(&self, name: &str) -> &str {
        let mut fields = self.body.split('&').filter_map(|field| field.split_once('='));
        fields.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

impl Issuer {
    /// One on this machine or its cable, where there is no TLS.
    pub async fn near() -> Self {
        Self::start(None).await
    }

    /// One that is elsewhere, behind the TLS of [`OFFICE`].
    pub async fn far() -> Self {
        Self::start(Some(TlsAcceptor::from(OFFICE.tls.clone()))).await
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::<Mutex<State>>::default();
        let weak = Arc::downgrade(&state);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (Some(state), tls) = (weak.upgrade(), tls.clone()) else { return };
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(tcp, &state).await };
                    // Who does not believe us has been told so.
                    if let Ok(stream) = tls.accept(tcp).await {
                        serve(stream, &state).await;
                    }
                });
            }
        });
        Self { url, state }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where a container's credentials are.
    pub fn container_url(&self) -> String {
        format!("{}{CONTAINER_PATH}", self.url)
    }

    /// From now on it takes requests and says nothing, or answers again.
    pub fn is_silent(&self, silent: bool) {
        lock(&self.state).silent = silent;
    }

    /// What it was asked.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with it")
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) {
    let Some(request) = request(&mut stream).await else { return };
    let (what, (status, body)) = answer(&request);
    let silent = {
        let mut state = lock(state);
        state.asked.push(what);
        state.silent
    };
    if silent {
        let _gone = stream.read(&mut [0]).await;
        return;
    }
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    let head = head + "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n";
    let _sent = stream.write_all((head + &body).as_bytes()).await;
    let _closed = stream.shutdown().await;
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
            let mut request = Request { head, body: String::new() };
            let length = request.header("content-length").parse().unwrap_or_default();
            if bytes.len() - end - 4 >= length {
                request.body = String::from_utf8(bytes.split_off(end + 4)).ok()?;
                return Some(request);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(request: &Request) -> (String, (u16, String)) {
    let line = request.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let answer = match line.split_once(' ').unwrap_or_default() {
        ("GET", CONTAINER_PATH) if request.header("authorization") != CONTAINER_TOKEN => (401, "whose container is that?".into()),
        ("GET", CONTAINER_PATH) => (200, json("ASIACONTAINER")),
        ("PUT", "/latest/api/token") if request.header("x-aws-ec2-metadata-token-ttl-seconds").is_empty() => (400, String::new()),
        ("PUT", "/latest/api/token") => (200, INSTANCE_TOKEN.into()),
        ("GET", path) if path.starts_with(INSTANCE_PATH) => match (request.header("x-aws-ec2-metadata-token"), path) {
            (INSTANCE_TOKEN, INSTANCE_PATH) => (200, "instance-role".into()),
            (INSTANCE_TOKEN, _) => (200, json("ASIAINSTANCE")),
            _ => (401, String::new()),
        },
        ("POST", "/") => return (request.field("Action").to_owned(), sts(request)),
        _ => (404, String::new()),
    };
    (line, answer)
}

/// Source: STS API reference, `AssumeRole` and `AssumeRoleWithWebIdentity`.
fn sts(request: &Request) -> (u16, String) {
    let refusal = |code: &str| {
        let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>");
        (400, format!("<ErrorResponse>{error}</ErrorResponse>"))
    };
    let (action, role) = (request.field("Action"), request.field("RoleArn"));
    let signer = request.header("authorization").split(['=', '/']).nth(1).unwrap_or_default();
    let key = match action {
        "AssumeRoleWithWebIdentity" if request.field("WebIdentityToken") != WEB_IDENTITY_TOKEN => {
            return refusal("InvalidIdentityToken");
        }
        "AssumeRoleWithWebIdentity" => "ASIAWEBIDENTITY",
        "AssumeRole" if signer != "ASIAINSTANCE" => return refusal("AccessDenied"),
        "AssumeRole" => "ASIAASSUMED",
        _ => return refusal("InvalidAction"),
    };
    if request.field("Version") != "2011-06-15" || request.field("RoleSessionName").is_empty() {
        return refusal("ValidationError");
    }
    if role.replace("%3A", ":").replace("%2F", "/") != ROLE {
        return refusal("AccessDenied");
    }
    let credentials = format!(
        "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
         <Expiration>{}</Expiration></Credentials>",
        in_an_hour()
    );
    let user = format!("<AssumedRoleUser><AssumedRoleId>AROA:gw-1</AssumedRoleId><Arn>{ROLE}/gw-1</Arn></AssumedRoleUser>");
    let result = format!("<{action}Result>{credentials}{user}</{action}Result>");
    (200, format!(r#"<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</{action}Response>"#))
}

fn json(key: &str) -> String {
    serde_json::json!({
        "Code": "Success",
        "Type": "AWS-HMAC",
        "LastUpdated": "2026-01-01T00:00:00Z",
        "AccessKeyId": key,
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": in_an_hour(),
    })
    .to_string()
}

fn in_an_hour() -> String {
    let end = SystemTime::now() + Duration::from_hours(1);
    DateTime::from(end).fmt(Format::DateTime).expect("it has a form")
}
