//! Through a proxy, which sees names and ciphertext.

use headwater::kinesis::Answer;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{
    Gateway,
    support::certificates::Authority,
    tls::{accept_one, secured},
};

/// Leads every CONNECT to `port` of this machine, and tells whereto it was asked.
async fn proxy_to(port: u16) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heard, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let mut near = BufReader::new(connection);
            let mut line = String::new();
            near.read_line(&mut line).await.unwrap();
            let mut rest = String::new();
            while near.read_line(&mut rest).await.unwrap() > 2 {
                rest.clear();
            }
            heard.send(line).unwrap();
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (url, asked)
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_name_and_tls_goes_through_it() {
    let ours = Authority::new();
    let direct = secured(ours.acceptor("vpce.example", "http/1.1"), accept_one).await;
    let port: u16 = direct.rsplit(':').next().unwrap().parse().unwrap();
    let (proxy, mut asked) = proxy_to(port).await;
    let gateway = Gateway::facing("https://vpce.example").trusting(&ours.pem()).set(|config| {
        config.proxy = Some(proxy);
        config.private_only = false;
    });

    let answers = gateway.puts(1).await.unwrap();
    assert!(matches!(&answers[..], [Answer::Accepted { .. }]), "{answers:?}");
    // And what is connected without the SDK.
    let (_, tls) = gateway.client().await.trial().handshake(0).await.unwrap();
    assert_eq!(tls, Some("TLS 1.3"));

    for _ in 0..2 {
        assert_eq!(asked.recv().await.unwrap(), "CONNECT vpce.example:443 HTTP/1.1\r\n");
    }
}
