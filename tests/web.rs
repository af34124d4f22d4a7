//! What the agent shows of itself, asked over real HTTP: on a loopback port and on the Unix socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use headwater::{
    cli::status::{self, StatusArgs, StatusError},
    config::{DeviceConfig, HttpConfig},
    reading::Timestamp,
    status::{LaneState, Reason, State, Status, UNROUTED},
    web::{self, View},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Far beyond what anything here takes; who waits longer says what it saw instead.
const DEADLINE: Duration = Duration::from_mins(1);

/// The interfaces as they run in the agent.
struct Agent {
    folder: TempDir,
    status: Status,
    stop: CancellationToken,
    web: JoinHandle<()>,
}

/// A status line's code, the headers, the body.
struct Answer {
    code: u16,
    headers: String,
    body: String,
}

impl Agent {
    fn start() -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), tempfile::tempdir().unwrap())
    }

    fn start_on(listen: SocketAddr, folder: TempDir) -> Self {
        let (status, stop) = (Status::default(), CancellationToken::new());
        let device = DeviceConfig {
            id: "gw-0042".into(),
            tags: [("site".to_owned(), "plant \"7\"".to_owned())].into(),
            ..DeviceConfig::default()
        };
        let view = View::new(&device, "00112233445566ff".into(), Instant::now(), status.clone());
        let (socket, token) = (folder.path().join("run/headwater.sock"), stop.clone());
        let web = tokio::spawn(async move { web::run(&HttpConfig { listen: Some(listen) }, &socket, view, token).await });
        Self { folder, status, stop, web }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/headwater.sock")
    }

    async fn until<T>(&self, what: &str, found: impl Fn(&State) -> Option<T>) -> T {
        let look = || found(&self.status.lock());
        let seen = async {
            loop {
                match look() {
                    Some(found) => return found,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("no {what}; problems: {:?}", self.status.lock().problems))
    }

    async fn page_address(&self) -> SocketAddr {
        self.until("page", |state| state.page).await
    }

    async fn get(&self, path: &str) -> Answer {
        asked("GET", path, TcpStream::connect(self.page_address().await).await.unwrap()).await
    }

    async fn connected_to_socket(&self) -> UnixStream {
        self.until("socket", |_| self.socket().exists().then_some(())).await;
        UnixStream::connect(self.socket()).await.unwrap()
    }

    async fn prints_status(&self, args: StatusArgs) -> String {
        drop(self.connected_to_socket().await);
        let mut out = Vec::new();
        status::run(&args, &self.socket(), &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Some readings in every column, and a part of every kind.
    fn has_seen_everything(&self) {
        self.status.received("readings", 10);
        self.status.delivered("readings", 4);
        self.status.dropped("readings", Reason::DropOldest, 2);
        self.status.rejected("readings", Reason::TooLarge, 1);
        self.status.duplicated("readings", 3);
        self.status.rejected(UNROUTED, Reason::Unrouted, 5);
        self.status.source("broker", |source| {
            source.state = "connected";
            source.received = 15;
            source.last_ts = Some(Timestamp(1_700_000_000_000));
        });
        self.status.link("cloud", |link| {
            link.endpoint = "https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com".into();
            link.error = Some("no answer".into());
            link.put.observe(0.02);
        });
        self.status.problem("link cloud", Timestamp(1_700_000_000_000), "no answer".into(), "check that port 443 is open");
        let mut state = self.status.lock();
        state.buffer.disk_written = 4096;
        let stream = state.streams.get_mut("readings").unwrap();
        (stream.backlog_bytes, stream.oldest) = (400, Some(Timestamp(1_700_000_000_000)));
        stream.lanes.push(LaneState { rate: 1 << 20, in_flight: 1, retries: 2, throttled: 3 });
    }
}

async fn asked(method: &str, path: &str, mut connection: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, connection.read_to_string(&mut answer)).await.expect("an answer that ends").unwrap();
    let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, headers: headers.to_ascii_lowercase(), body: body.to_owned() }
}

const LINK: [&str; 7] = ["address", "credentials", "endpoint", "error", "retry_at", "since", "up"];

fn keys(of: &Value) -> Vec<&str> {
    let names: BTreeSet<_> = of.as_object().unwrap_or_else(|| panic!("{of} is no object")).keys().map(String::as_str).collect();
    names.into_iter().collect()
}

#[tokio::test]
async fn the_status_has_the_names_and_shapes_that_other_programs_rely_on() {
    const LEDGER: [&str; 6] = ["buffered", "delivered", "dropped", "duplicated", "received", "rejected"];
    const CREDENTIALS: [&str; 3] = ["certificate_expires", "expires", "kind"];
    const BACKLOG: [&str; 5] = ["bytes", "drain_in_s", "full_in_s", "oldest_ts", "readings"];
    let agent = Agent::start();
    agent.has_seen_everything();

    let answer = agent.get("/api/status").await;

    assert_eq!(answer.code, 200);
    assert!(answer.headers.contains("content-type: application/json"), "{}", answer.headers);
    let shown: Value = serde_json::from_str(&answer.body).unwrap();
    let top = [
        "backlog",
        "clock",
        "device",
        "disk",
        "ledger",
        "link",
        "memory_bytes",
        "problems",
        "run",
        "sources",
        "state",
        "streams",
        "uptime_s",
        "version",
    ];
    assert_eq!(keys(&shown), top);
    assert_eq!(keys(&shown["link"]), LINK);
    assert_eq!(keys(&shown["link"]["credentials"]), CREDENTIALS);
    assert_eq!(keys(&shown["ledger"]), LEDGER);
    assert_eq!(keys(&shown["backlog"]), BACKLOG);
    assert_eq!(keys(&shown["disk"]), ["free", "max", "used", "written"]);
    let source = ["error", "invalid", "last_ts", "received", "repeated", "state", "unreadable"];
    assert_eq!(keys(&shown["sources"]["broker"]), source);
    assert_eq!(keys(&shown["streams"]), ["readings"]);
    assert_eq!(keys(&shown["streams"]["readings"]), ["backlog", "lanes", "ledger"]);
    assert_eq!(keys(&shown["streams"]["readings"]["ledger"]), LEDGER);
    assert_eq!(keys(&shown["streams"]["readings"]["backlog"]), BACKLOG);
    assert_eq!(keys(&shown["streams"]["readings"]["lanes"][0]), ["in_flight", "rate", "retries", "throttled"]);
    assert_eq!(keys(&shown["problems"][0]), ["do", "since", "what"]);

    assert_eq!(shown["state"], "buffering");
    assert_eq!(shown["device"], "gw-0042");
    assert_eq!(shown["ledger"]["received"], 16);
    assert_eq!(shown["ledger"]["dropped"], serde_json::json!({ "drop_oldest": 2 }));
    assert_eq!(shown["ledger"]["rejected"], serde_json::json!({ "too_large": 1, "unrouted": 5 }));
    assert_eq!(shown["backlog"]["oldest_ts"], 1_700_000_000_000_i64);
    assert!(shown["backlog"]["full_in_s"].is_null() && shown["link"]["address"].is_null());
}

#[tokio::test]
async fn requests_of_any_bytes_keep_nobody_from_an_answer() {
    let agent = Agent::start();
    let every_byte: Vec<u8> = (0..=255).collect();
    let endless = [b"GET /".as_slice(), &vec![b'a'; 1 << 20]].concat();
    let headers = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(10_000)].concat();
    let requests: [&[u8]; 7] = [
        &every_byte,
        &endless,
        &headers,
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST /api/status HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /%ff%00?a=%zz HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET / HTT",
    ];
    let mut open = Vec::new();
    for request in requests {
        let mut page = TcpStream::connect(agent.page_address().await).await.unwrap();
        let mut socket = agent.connected_to_socket().await;
        let _refused = (page.write_all(request).await, socket.write_all(request).await);
        open.push((page, socket));
    }

    assert_eq!(agent.get("/api/status").await.code, 200);
    assert_eq!(asked("GET", "/api/status", agent.connected_to_socket().await).await.code, 200);
}

#[tokio::test]
async fn an_agent_that_has_just_started_has_the_same_shape() {
    let agent = Agent::start();

    let shown: Value = serde_json::from_str(&agent.get("/api/status").await.body).unwrap();

    assert_eq!(keys(&shown["link"]), LINK);
    assert_eq!(shown["state"], "sending");
    assert_eq!(shown["streams"], serde_json::json!({}));
    assert_eq!(shown["problems"], serde_json::json!([]));
}

#[tokio::test]
async fn metrics_are_valid_prometheus_text_with_the_published_names() {
    let agent = Agent::start();
    agent.has_seen_everything();

    let answer = agent.get("/metrics").await;

    assert!(answer.headers.contains("content-type: text/plain; version=0.0.4"), "{}", answer.headers);
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let family = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end)).unwrap_or(family);
        assert!(answer.body.contains(&format!("# TYPE {family} ")), "{family} has no type");
    }
    for sample in [
        r#"headwater_info{device="gw-0042",version="0.1.0",site="plant \"7\""} 1"#,
        r#"headwater_readings_received_total{stream="readings"} 11"#,
        r#"headwater_readings_delivered_total{stream="readings"} 4"#,
        r#"headwater_readings_duplicated_total{stream="readings"} 3"#,
        r#"headwater_readings_dropped_total{stream="readings",reason="drop_oldest"} 2"#,
        r#"headwater_readings_rejected_total{stream="",reason="unrouted"} 5"#,
        r#"headwater_backlog_readings{stream="readings"} 4"#,
        r#"headwater_backlog_bytes{stream="readings"} 400"#,
        "headwater_disk_used_bytes 0",
        "headwater_disk_written_bytes 4096",
        r#"headwater_put_seconds_count{destination="cloud"} 1"#,
        "headwater_commit_seconds_count 0",
        r#"headwater_upload_bytes_total{destination="cloud"} 0"#,
        r#"headwater_upload_refused_bytes_total{destination="cloud"} 0"#,
        r#"headwater_link_up{destination="cloud"} 0"#,
        r#"headwater_source_received_total{source="broker"} 15"#,
        r#"headwater_lane_retries_total{stream="readings",lane="0"} 2"#,
    ] {
        assert!(answer.body.lines().any(|line| line == sample), "{sample} is not in\n{}", answer.body);
    }
    assert!(answer.body.contains(r#"headwater_backlog_age_seconds{stream="readings"} "#));
}

#[tokio::test]
async fn health_is_lost_with_the_disk_and_not_with_the_uplink() {
    let agent = Agent::start();
    agent.has_seen_everything(); // the link is down
    let well = agent.get("/healthz").await;
    agent.status.problem("buffer", Timestamp(0), "buffer.db can't be written".into(), "check the card");

    let sick = agent.get("/healthz").await;

    assert_eq!((well.code, well.body.as_str()), (200, "ok\n"));
    assert_eq!((sick.code, sick.body.as_str()), (503, "buffer.db can't be written; check the card\n"));
}

#[tokio::test]
async fn the_page_is_the_status_in_plain_text_and_only_get_is_answered() {
    let agent = Agent::start();
    agent.has_seen_everything();

    let page = agent.get("/").await;

    assert!(page.headers.contains("content-type: text/plain"), "{}", page.headers);
    for part in
        ["gw-0042: buffering", "16 received = 4 delivered + 4 buffered + 2 dropped (drop_oldest 2)", "to do: check that port 443"]
    {
        assert!(page.body.contains(part), "{part} is not in\n{}", page.body);
    }
    let address = agent.page_address().await;
    assert_eq!(asked("POST", "/api/status", TcpStream::connect(address).await.unwrap()).await.code, 405);
    assert_eq!(agent.get("/nothing").await.code, 404);
}

#[tokio::test]
async fn the_socket_answers_its_owner_and_group_only_and_goes_with_the_agent() {
    let agent = Agent::start();

    let answer = asked("GET", "/api/status", agent.connected_to_socket().await).await;

    assert_eq!(answer.code, 200);
    let socket = agent.socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    agent.stop.cancel();
    timeout(DEADLINE, agent.web).await.expect("it stops").unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_delay_the_stop() {
    let agent = Agent::start();
    let _silent = TcpStream::connect(agent.page_address().await).await.unwrap();
    agent.get("/healthz").await; // so the silent one was accepted

    agent.stop.cancel();

    timeout(DEADLINE, agent.web).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_socket_that_a_dead_agent_left_is_replaced_and_one_that_answers_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    drop(UnixListener::bind(folder.path().join("run/headwater.sock")).unwrap());
    let dead = Agent::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), folder);
    let replaced = async {
        while UnixStream::connect(dead.socket()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, replaced).await.expect("the left socket is replaced");

    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let alive = UnixListener::bind(folder.path().join("run/headwater.sock")).unwrap();
    let second = Agent::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), folder);
    let problem = second.until("problem", |state| state.problems.get("socket").cloned()).await;
    assert!(problem.what.contains("another program answers") && problem.remedy.contains("[device] socket"), "{problem:?}");
    assert_eq!(second.get("/healthz").await.code, 200);
    drop(alive);
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_never_deleted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    std::fs::write(folder.path().join("run/headwater.sock"), "precious").unwrap();

    let agent = Agent::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), folder);

    let problem = agent.until("problem", |state| state.problems.get("socket").cloned()).await;
    assert!(problem.what.contains("is no socket"), "{problem:?}");
    assert_eq!(std::fs::read_to_string(agent.socket()).unwrap(), "precious");
}

#[tokio::test]
async fn a_port_in_use_costs_the_page_and_nothing_else_until_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = Agent::start_on(other.local_addr().unwrap(), tempfile::tempdir().unwrap());

    let problem = agent.until("problem", |state| state.problems.get("page").cloned()).await;
    assert!(problem.what.contains("in use") && problem.remedy.contains("[http] listen"), "{problem:?}");
    assert_eq!(asked("GET", "/healthz", agent.connected_to_socket().await).await.code, 200);

    drop(other);
    assert_eq!(agent.get("/healthz").await.code, 200);
    assert!(!agent.status.lock().problems.contains_key("page"));
}

#[tokio::test]
async fn the_status_command_prints_what_the_agent_shows() {
    let agent = Agent::start();
    agent.has_seen_everything();

    let text = agent.prints_status(StatusArgs::default()).await;
    let json = agent.prints_status(StatusArgs { json: true, ..StatusArgs::default() }).await;

    assert!(text.starts_with("headwater 0.1.0 on gw-0042: buffering"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["device"], "gw-0042");
    assert_eq!(json.lines().count(), 1);
}

#[tokio::test]
async fn watching_shows_it_again_until_nobody_reads() {
    let agent = Agent::start();
    drop(agent.connected_to_socket().await);
    let (reader, writer) = std::io::pipe().unwrap();
    let socket = agent.socket();
    let watch = async { status::run(&StatusArgs { json: true, watch: true, ..StatusArgs::default() }, &socket, writer).await };
    let read = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        std::io::BufReader::new(reader).lines().take(2).map(Result::unwrap).collect::<Vec<_>>()
    });

    let (ended, lines) = tokio::join!(watch, read);

    assert!(ended.is_ok());
    assert!(lines.unwrap().iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[tokio::test]
async fn the_status_command_says_what_to_do_when_no_agent_answers() {
    let folder = tempfile::tempdir().unwrap();

    let error = status::run(&StatusArgs::default(), &folder.path().join("none.sock"), Vec::new()).await.unwrap_err();

    assert!(matches!(error, StatusError::NoAgent { .. }));
    assert!(error.to_string().contains("systemctl start headwater"), "{error}");
}
