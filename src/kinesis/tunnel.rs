//! Through an HTTP proxy to a host that only the proxy may look up. Source: RFC 9110, section 9.3.6.

use std::io::{Error, ErrorKind};

use http::Uri;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::harmless;

/// A proxy says yes or no in a few lines.
pub(crate) const LONGEST_ANSWER: u64 = 16 << 10;

/// Where the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Proxy {
    /// Reads `http://HOST:PORT`.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let url: Uri = url.parse().map_err(|_| "it is no URL")?;
        match (url.scheme_str(), url.host()) {
            (Some("http"), Some(host)) if !host.is_empty() => {
                Ok(Self { host: host.to_owned(), port: url.port_u16().unwrap_or(80) })
            }
            _ => Err("it does not begin with http:// and a host"),
        }
    }
}

/// Asks the proxy at the other end of `stream` for `host`, and gives the stream back when its bytes go there.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, host: &str, port: u16) -> Result<S, Error> {
    let target = format!("{host}:{port}");
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut said = (&mut stream).take(LONGEST_ANSWER);
    // Beyond its answer nothing comes before we have spoken: TLS begins with the client.
    while !answer.ends_with(b"\r\n\r\n") {
        if said.read_buf(&mut answer).await? == 0 {
            return Err(refused(&answer));
        }
    }
    if is_yes(&answer) { Ok(stream) } else { Err(refused(&answer)) }
}

/// Whether its first line has a status between 200 and 299.
fn is_yes(answer: &[u8]) -> bool {
    let mut words = first_line(answer).split(|byte| *byte == b' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().unwrap_or_default();
    version.starts_with(b"HTTP/1.") && status.len() == 3 && status[0] == b'2' && status.iter().all(u8::is_ascii_digit)
}

fn first_line(answer: &[u8]) -> &[u8] {
    answer.split(|byte| *byte == b'\r').next().unwrap_or_default()
}

fn refused(answer: &[u8]) -> Error {
    let said = match harmless(&String::from_utf8_lossy(first_line(answer))) {
        nothing if nothing.is_empty() => "nothing".to_owned(),
        said => said,
    };
    Error::new(ErrorKind::ConnectionRefused, format!("the proxy says {said}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What becomes of a request to a proxy that gives this answer; and what it was asked.
    async fn asks(answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let opened = open(near, "vpce.example", 443).await.map(drop).map_err(|error| error.to_string());
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        (opened, asked)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_name_and_a_port() {
        let (opened, asked) = asks("HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n").await;
        assert_eq!(opened, Ok(()));
        assert_eq!(asked, "CONNECT vpce.example:443 HTTP/1.1\r\nHost: vpce.example:443\r\n\r\n");
    }

    #[tokio::test]
    async fn what_a_proxy_says_instead_is_told() {
        for (answer, told) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy says HTTP/1.1 403 Forbidden"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "the proxy says SSH-2.0-OpenSSH_9.2"),
            ("", "the proxy says nothing"),
        ] {
            assert_eq!(asks(answer).await.0, Err(told.to_owned()));
        }
    }

    #[test]
    fn a_proxy_has_a_host_and_maybe_a_port() {
        let proxy = |host: &str, port| Ok(Proxy { host: host.into(), port });
        assert_eq!(Proxy::parse("http://proxy.example:3128"), proxy("proxy.example", 3128));
        assert_eq!(Proxy::parse("http://proxy.example"), proxy("proxy.example", 80));
        for wrong in ["proxy.example:3128", "https://proxy.example", "socks5://proxy.example", ""] {
            assert!(Proxy::parse(wrong).is_err(), "{wrong}");
        }
    }
}
