//! The body of an answer, whoever sent it: so much of it is read and no more, and its beginning is kept for people.
//!
//! What stands between us and the service may answer with a page, a film or for ever.
//!
//! Invariant: no answer takes more memory than its bound, and what is shown of one holds nothing that could be used as a credential.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::{DateTime, body::SdkBody, date_time::Format as DateTimeFormat};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::Cause;
use crate::reading::Timestamp;

/// As much of a body as a person needs to recognise a page.
const SHOWN_BYTES: usize = 160;
/// A run of letters as long as this may be a token or a signature: some answers repeat the request, its signed headers included.
const SECRET_LEN: usize = 40;

/// What has come back on one request so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Beginning>>);

#[derive(Debug, Default)]
struct Beginning {
    status: Option<u16>,
    date: Option<Timestamp>,
    body: Vec<u8>,
}

impl Seen {
    /// Reads at most `at_most` bytes of the body of `response`, and keeps its beginning.
    pub(super) fn watch(&self, response: &mut HttpResponse, at_most: usize) {
        let date = response.headers().get("date").and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        let date = date.and_then(|date| date.to_millis().ok()).map(Timestamp);
        *self.lock() = Beginning { status: Some(response.status().as_u16()), date, body: Vec::new() };
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() = SdkBody::from_body_1_x(Watched { body, left: at_most, at_most, seen: self.clone() });
    }

    /// The status and the beginning of the body, for people; none when nothing came back.
    pub(super) fn shown(&self) -> Option<String> {
        let beginning = self.lock();
        let status = beginning.status?;
        let body = harmless(&String::from_utf8_lossy(&beginning.body));
        Some(if body.is_empty() { format!("HTTP {status} and nothing else") } else { format!("HTTP {status}: {body}") })
    }

    /// When it was sent, by the clock of who sent it.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.lock().date
    }

    /// The beginning of the body, for people.
    pub(super) fn body(&self) -> String {
        harmless(&String::from_utf8_lossy(&self.lock().body))
    }

    fn lock(&self) -> MutexGuard<'_, Beginning> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `text` on one line, without what may be a secret, and not long; and without "; ", which parts what is wrong from what to do.
pub(super) fn harmless(text: &str) -> String {
    let may_be_secret = |run: &str| run.len() >= SECRET_LEN;
    let in_run = |letter: char| letter.is_ascii_alphanumeric() || "+/=%".contains(letter);
    let mut shown = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty()) {
        if !shown.is_empty() {
            shown.push(' ');
        }
        for piece in word.split_inclusive(|letter| !in_run(letter)) {
            let run = piece.trim_end_matches(|letter| !in_run(letter));
            shown += if may_be_secret(run) { "…" } else { run };
            shown += &piece[run.len()..];
        }
    }
    let shown = shown.replace("; ", ", ");
    match shown.char_indices().nth(2 * SHOWN_BYTES) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

struct Watched {
    body: SdkBody,
    left: usize,
    at_most: usize,
    seen: Seen,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else { return Poll::Ready(None) };
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            {
                let mut seen = self.seen.lock();
                let room = SHOWN_BYTES - seen.body.len();
                seen.body.extend_from_slice(&data[..data.len().min(room)]);
            }
            let Some(left) = self.left.checked_sub(data.len()) else {
                return Poll::Ready(Some(Err(format!("the answer has more than {} bytes", self.at_most).into())));
            };
            self.left = left;
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    // The length that it claims is no reason to make room for it.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_answer_is_one_short_line() {
        assert_eq!(harmless("<html>\r\n  <h1>502\u{7} Bad Gateway</h1>"), "<html> <h1>502 Bad Gateway</h1>");
        assert_eq!(harmless(&"no ".repeat(1000)).chars().count(), 2 * SHOWN_BYTES + 1);
        assert_eq!(harmless(""), "");
        assert_eq!(harmless("it is so; do that"), "it is so, do that");
    }

    #[test]
    fn an_answer_that_repeats_the_signed_request_shows_no_token_and_no_signature() {
        let token = "FwoGZXIvYXdzEBYaDKLx/3k+9Zq=".repeat(8);
        let signature = "0123456789abcdef".repeat(4);
        let text = format!("The canonical string should be 'x-amz-security-token:{token}' Signature={signature}, not that");

        let shown = harmless(&text);

        assert_eq!(shown, "The canonical string should be 'x-amz-security-token:…' …, not that");
        assert_eq!(
            harmless("arn:aws:sts::123456789012:assumed-role/gateway/gw-0042 is not authorized to perform: kinesis:PutRecords"),
            "arn:aws:sts::123456789012:assumed-role/gateway/gw-0042 is not authorized to perform: kinesis:PutRecords"
        );
    }
}
