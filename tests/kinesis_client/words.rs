//! What a person reads when something is wrong on the way: what it is, on which host, what to do, and no programmer's word.

use std::time::Duration;

use headwater::{
    kinesis::{Client, PutError},
    status::what_and_remedy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use super::{
    Gateway, PATIENCE,
    addresses::Zone,
    http, read_request, record,
    support::certificates::Authority,
    tls::{Secured, accept_one, behind_tls, secured},
};

/// Of layers that a person at the gateway has never heard of.
const NOBODY_KNOWS: [&str; 8] =
    ["client error", "SendRequest", "io error", "os error", "close_notify", "UnknownIssuer", "DnsName", "docs.rs"];

/// Checks what is told of `error`: `words` of what is wrong, and `advice`.
fn tells(error: &PutError, words: &[&str], advice: &str) {
    let (what, remedy) = what_and_remedy(error);
    let all = format!("{what}; {remedy}");
    assert!(words.iter().all(|word| what.contains(word)), "{words:?} are not in: {all}");
    assert!(remedy.contains(advice), "{advice:?} is not advised: {all}");
    assert!(!NOBODY_KNOWS.iter().any(|word| all.contains(word)), "{all}");
}

/// What listens there says `greeting` to whoever comes, and closes when it has been spoken to.
async fn greets(greeting: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(greeting).await;
            let _ = connection.read(&mut [0; 4096]).await;
        }
    });
    format!("https://localhost:{port}")
}

/// A gateway that faces an endpoint which reads a request and says these bytes, whatever they are.
async fn answers(bytes: impl Into<Vec<u8>>) -> Gateway {
    let bytes = bytes.into();
    let endpoint = behind_tls(move |mut connection: Secured| {
        let bytes = bytes.clone();
        async move {
            if read_request(&mut connection).await.is_ok() {
                let _ = connection.write_all(&bytes).await;
            }
        }
    });
    Gateway::facing(&endpoint.await)
}

#[tokio::test]
async fn of_a_connection_that_does_not_come_about() {
    let ours = Authority::new();
    let told = async |endpoint: &str| Gateway::facing(endpoint).trusting(&ours.pem()).puts(1).await.unwrap_err();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    tells(&told(&closed).await, &[&closed, "out of reach: the connection is refused"], "check the port");

    let nobody = Gateway::facing("https://kinesis.plant.example").trusting(&ours.pem());
    let client = Client::open_asking(&nobody.config, Zone::with(&[])).await.unwrap();
    let error = client.put("plant", vec![record("k", b"x")], PATIENCE).await.unwrap_err();
    tells(&error, &["no name server knows kinesis.plant.example"], "`resolve`");

    tells(&told(&greets(b"").await).await, &["localhost", "was closed before TLS"], "check host and port");
    tells(&told(&greets(b"SSH-2.0-OpenSSH_9.2\r\n").await).await, &["does not speak TLS"], "check host and port");
    tells(&told(&greets(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await, &["does not speak TLS"], "check host and port");

    let stranger = secured(Authority::new().acceptor("localhost", "http/1.1"), accept_one).await;
    tells(&told(&stranger).await, &["an authority that is not trusted here"], "set `ca`");
    let other = secured(ours.acceptor("kinesis.plant.example", "http/1.1"), accept_one).await;
    tells(&told(&other).await, &["its certificate is not for localhost, but for kinesis.plant.example"], "into `endpoint`");
}

#[tokio::test]
async fn of_an_answer_that_is_none() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"Failed";
    let page = http("200 OK", "", "<html>welcome to our hotel</html>");
    for (answer, words, advice) in [
        ("", &["closed before the answer was complete"][..], "ends connections"),
        ("HTTP/1.1 200 OK\r\ncont", &["closed before the answer was complete"], "ends connections"),
        (half, &["closed before the answer was complete", "HTTP 200: {\"Failed"], "ends connections"),
        ("220 mail.plant.example ESMTP\r\n\r\n", &["is no HTTP"], "another service"),
        (&page, &["is no answer of the service", "welcome to our hotel"], "a log-in page"),
    ] {
        let error = answers(answer).await.puts(1).await.unwrap_err();
        tells(&error, words, advice);
        tells(&error, &["plant", "https://localhost:", "gave no valid answer"], "sent again under the same names");
    }
}

#[tokio::test]
async fn of_an_answer_that_does_not_come() {
    let (asked, mut requests) = mpsc::unbounded_channel();
    let endpoint = behind_tls(move |mut connection: Secured| {
        let asked = asked.clone();
        async move {
            let request = read_request(&mut connection).await;
            asked.send(request.is_ok()).unwrap();
            std::future::pending::<()>().await;
        }
    });
    let gateway = Gateway::facing(&endpoint.await);

    // The handshake has to fit into it.
    let error = gateway.client().await.put("plant", vec![record("k", b"x")], Duration::from_millis(9100)).await.unwrap_err();

    assert!(tokio::time::timeout(PATIENCE, requests.recv()).await.unwrap().unwrap());
    tells(&error, &["no answer within 10 s"], "large packets");
}
