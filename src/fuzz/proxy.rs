//! What an HTTP proxy answers, when it is asked for a way to an endpoint.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{first, pieces};
use crate::kinesis::tunnel::{LONGEST_ANSWER, open};

/// Of what a proxy says no more is shown, whatever it sends.
const SHOWN: usize = 2000;

/// A proxy that takes whatever it is asked, and gives the next piece of its answer each time somebody reads.
struct Proxy<'a> {
    pieces: Box<dyn Iterator<Item = &'a [u8]> + 'a>,
    left: &'a [u8],
    asked: Vec<u8>,
}

impl AsyncRead for Proxy<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context, into: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            self.left = self.pieces.next().unwrap_or_default();
        }
        let (now, later) = self.left.split_at(self.left.len().min(into.remaining()));
        into.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Proxy<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The first byte says how many of the next ones say where the rest is cut, which is the answer, up to its blank line.
pub fn target(data: &[u8]) {
    let (cuts, data) = first(data);
    let (cuts, data) = data.split_at(usize::from(cuts % 8).min(data.len()));
    let end = data.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(data.len(), |at| at + 4);
    let answer = &data[..end];

    let opened = asks(answer, cuts);

    assert_eq!(opened.is_ok(), is_yes(answer), "{opened:?}");
    assert_eq!(opened, asks(answer, &[]), "cut by {cuts:?}");
    if let Err(why) = opened {
        assert!(why.starts_with("the proxy says ") && why.len() < SHOWN && !why.contains(char::is_control), "{why:?}");
    }
}

fn asks(answer: &[u8], cuts: &[u8]) -> Result<(), String> {
    let proxy = Proxy { pieces: Box::new(pieces(answer, cuts)), left: &[], asked: Vec::new() };
    let opened = open(proxy, "vpce.example", 443).now_or_never().expect("a proxy that always has something to say");
    let opened = opened.map_err(|error| error.to_string())?;
    assert_eq!(opened.asked, b"CONNECT vpce.example:443 HTTP/1.1\r\nHost: vpce.example:443\r\n\r\n");
    Ok(())
}

/// RFC 9110, section 9.3.6: any status of 2xx.
fn is_yes(answer: &[u8]) -> bool {
    let whole = answer.ends_with(b"\r\n\r\n") && answer.len() as u64 <= LONGEST_ANSWER;
    let text = String::from_utf8_lossy(answer);
    let words: Vec<&str> = text.split('\r').next().unwrap_or_default().split(' ').collect();
    let status = words.get(1).filter(|status| status.len() == 3).and_then(|status| status.parse().ok());
    whole && words[0].starts_with("HTTP/1.") && status.is_some_and(|status: u16| (200..300).contains(&status))
}
