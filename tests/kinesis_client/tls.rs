//! An endpoint behind TLS, as they all are in the field.

use std::time::Duration;

use headwater::kinesis::{Answer, PutError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ACCEPTED, Gateway, PATIENCE, http, read_request, record,
    support::certificates::{Authority, OFFICE},
};

/// What stands behind the TLS of all endpoints here, and does `what` with every connection, one after the other.
pub async fn behind_tls<F: Future<Output = ()> + Send>(what: impl Fn(Secured) -> F + Send + 'static) -> String {
    secured(TlsAcceptor::from(OFFICE.tls.clone()), what).await
}

/// The same with the certificate of another authority, or for another name than `localhost`.
pub async fn secured<F: Future<Output = ()> + Send>(acceptor: TlsAcceptor, what: impl Fn(Secured) -> F + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            if let Ok(connection) = acceptor.accept(connection).await {
                what(Box::new(connection)).await;
            }
        }
    });
    format!("https://localhost:{port}")
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
pub type Secured = Box<dyn Stream>;

pub async fn accept_one(mut connection: Secured) {
    if read_request(&mut connection).await.is_ok() {
        let _ = connection.write_all(http("200 OK", "", ACCEPTED).as_bytes()).await;
        let _ = connection.shutdown().await;
    }
}

#[tokio::test]
async fn the_configured_roots_decide_whom_we_talk_to() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let endpoint = secured(ours.acceptor("localhost", "http/1.1"), accept_one).await;

    let answers = Gateway::facing(&endpoint).trusting(&ours.pem()).puts(1).await.unwrap();
    assert!(matches!(&answers[..], [Answer::Accepted { .. }]), "{answers:?}");

    let error = Gateway::facing(&endpoint).trusting(&foreign.pem()).puts(1).await.unwrap_err();
    assert!(matches!(error, PutError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_before_anything_is_sent() {
    let ours = Authority::new();
    let endpoint = secured(ours.acceptor("kinesis.eu-west-1.amazonaws.com", "http/1.1"), accept_one).await;

    let error = Gateway::facing(&endpoint).trusting(&ours.pem()).puts(1).await.unwrap_err();

    assert!(matches!(error, PutError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_did_not_answer_is_not_used_again() {
    let ours = Authority::new();
    let (opened, mut connections) = mpsc::unbounded_channel();
    // It speaks HTTP/2, whose connections are shared and outlive a request that was given up, and then says nothing.
    let endpoint = secured(ours.acceptor("localhost", "h2"), move |mut connection| {
        opened.send(()).unwrap();
        async move {
            tokio::spawn(async move { tokio::io::copy(&mut connection, &mut tokio::io::sink()).await });
        }
    })
    .await;
    let gateway = Gateway::facing(&endpoint).trusting(&ours.pem());
    let client = gateway.client().await;

    for _ in 0..2 {
        // The first request's handshake has to fit into it; the test passes however long the rest takes.
        let error = client.put("plant", vec![record("k", b"x")], Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
        timeout(PATIENCE, connections.recv()).await.expect("no new connection was opened").unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_nothing_newer_than_tls_1_1_is_refused() {
    // ServerHello: TLS 1.1, no session, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression. Source: RFC 4346, section 7.4.1.3.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap()).replace("127.0.0.1", "localhost");
    let (heard, mut alerts) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        // What it offers comes as one record: five bytes and so many as the last two of them say.
        let mut frame = [0; 5];
        connection.read_exact(&mut frame).await.unwrap();
        let mut offer = vec![0; usize::from(u16::from_be_bytes([frame[3], frame[4]]))];
        connection.read_exact(&mut offer).await.unwrap();
        connection.write_all(&hello).await.unwrap();
        let mut alert = [0; 7];
        connection.read_exact(&mut alert).await.unwrap();
        heard.send(alert).unwrap();
    });

    let error = Gateway::facing(&url).trusting(&Authority::new().pem()).puts(1).await.unwrap_err();

    assert!(matches!(error, PutError::Unreachable { .. }), "{error:?}");
    let alert = alerts.recv().await.unwrap();
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70), "a fatal protocol_version, in {alert:?}");
}
