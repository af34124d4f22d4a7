//! What goes back over the wire: the awsJson1.1 form of results and errors.

use std::{io, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;

/// An error of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, or 500 when it is the service's own fault.
    pub status: StatusCode,
    /// `__type` on the wire.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// 400 with a code.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    /// The request's fields break a rule of the API's model.
    pub fn validation(mistakes: &[String]) -> Self {
        let (n, plural) = (mistakes.len(), if mistakes.len() == 1 { "error" } else { "errors" });
        Self::bad("ValidationException", format!("{n} validation {plural} detected: {}", mistakes.join("; ")))
    }

    /// The request has a field that makes no sense.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::bad("InvalidArgumentException", message)
    }

    /// There is no such stream.
    pub fn no_stream(stream: &str) -> Self {
        Self::bad("ResourceNotFoundException", format!("Stream {stream} under account {ACCOUNT} not found."))
    }

    /// 500.
    pub fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, code: "InternalFailure", message: "Internal Service Failure".into() }
    }
}

/// The account that all streams belong to.
pub const ACCOUNT: &str = "000000000000";

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Form<'a> {
            #[serde(rename = "__type")]
            code: &'a str,
            message: &'a str,
        }
        let mut response = json(&Form { code: self.code, message: &self.message });
        *response.status_mut() = self.status;
        response
    }
}

/// 200 with `result`.
pub fn json(result: &impl Serialize) -> Response {
    match serde_json::to_vec(result) {
        Ok(body) => with_type(StatusCode::OK, JSON, Body::from(body)),
        // No result of ours has a map with keys that are not text, which is all that JSON can't write.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// 200 with nothing in it.
pub fn empty() -> Response {
    with_type(StatusCode::OK, JSON, Body::empty())
}

/// 200 with a body that was cut off on its way.
pub fn garbage() -> Response {
    with_type(StatusCode::OK, JSON, Body::from("{\"FailedRecordCount\":0,\"Rec"))
}

/// 200 with an error in it.
pub fn error_inside() -> Response {
    let mut response = Refusal::internal().into_response();
    *response.status_mut() = StatusCode::OK;
    response
}

/// The first half of 200 with `result`; then the connection breaks.
pub fn half(result: &impl Serialize) -> Response {
    let whole = serde_json::to_vec(result).unwrap_or_default();
    let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
    let pieces = stream::iter([Ok(half), Err(io::Error::other("cut off on command"))]);
    with_type(StatusCode::OK, JSON, Body::from_stream(pieces))
}

/// 200 with a body that never ends, as fast as it is read.
pub fn endless() -> Response {
    let piece = Bytes::from(vec![b' '; 1 << 16]);
    with_type(StatusCode::OK, JSON, Body::from_stream(stream::repeat_with(move || Ok::<_, io::Error>(piece.clone()))))
}

/// 200 with a body that comes byte by byte and never ends.
pub fn trickle() -> Response {
    let piece = |()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, io::Error>(Bytes::from_static(b" "))
    };
    with_type(StatusCode::OK, JSON, Body::from_stream(stream::repeat(()).then(piece)))
}

/// 200 that is to be a gigabyte in gzip; it is the head of one.
pub fn gzip() -> Response {
    let mut response = with_type(StatusCode::OK, JSON, Body::from(&b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xec\xc1\x01\x0d"[..]));
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// 200 that begins and then says nothing.
pub fn never() -> Response {
    with_type(StatusCode::OK, JSON, Body::from_stream(stream::pending::<io::Result<Bytes>>()))
}

/// A page with `status`, as something on the way to the service sends it.
pub fn page(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    with_type(status, HTML, Body::from(format!("<html><body><h1>{status}</h1>Welcome to our network</body></html>")))
}

/// The page of a proxy that could not reach the service.
pub fn bad_gateway() -> Response {
    with_type(StatusCode::BAD_GATEWAY, HTML, Body::from("<html><body><h1>502 Bad Gateway</h1></body></html>"))
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    (status, [(CONTENT_TYPE, content_type)], body).into_response()
}
