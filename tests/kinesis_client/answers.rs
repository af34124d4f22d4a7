//! Whatever stands in front of the service answers in its place.

use std::{fs, time::Duration};

use headwater::kinesis::{Answer, Class, PutError};
use tokio::io::AsyncWriteExt;

use super::{
    Gateway, PATIENCE, http, read_request, record,
    tls::{Secured, behind_tls},
};

/// Answers one request with `head`, then with `piece` again and again until nobody listens any more.
async fn endless(head: &'static str, piece: Vec<u8>, pause: Duration) -> String {
    behind_tls(move |mut connection: Secured| {
        let piece = piece.clone();
        async move {
            read_request(&mut connection).await.unwrap();
            connection.write_all(head.as_bytes()).await.unwrap();
            while connection.write_all(&piece).await.is_ok() {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    })
    .await
}

async fn answering(answer: String) -> String {
    behind_tls(move |mut connection: Secured| {
        let answer = answer.clone();
        async move {
            read_request(&mut connection).await.unwrap();
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// The error and all that caused it.
fn told(error: &PutError) -> String {
    headwater::status::with_causes(error)
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end_and_takes_no_memory() {
    let a_gigabyte = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 1073741824\r\n\r\n";
    let without_length = "HTTP/1.1 200 OK\r\n\r\n";
    let a_page = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 1073741824\r\n\r\n<html>";
    for (head, shown) in [
        (a_gigabyte, "more than 1048576 bytes"),
        (without_length, "more than 1048576 bytes"),
        (a_page, "HTTP 502, which is not of AWS: <html>"),
    ] {
        let url = endless(head, vec![b' '; 1 << 16], Duration::ZERO).await;
        let before = resident();
        let error = Gateway::facing(&url).puts(1).await.unwrap_err();
        assert_eq!(error.class(), Class::Away, "{head}: {error:?}");
        assert!(told(&error).contains(shown), "{}", told(&error));
        assert!(resident() < before + (32 << 20), "{} before, {} after", before, resident());
    }
}

#[tokio::test]
async fn an_answer_byte_by_byte_ends_with_the_time_that_a_put_has() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{\"Records\":";
    let url = endless(head, vec![b' '], Duration::from_millis(20)).await;
    let gateway = Gateway::facing(&url);

    let error = gateway.client().await.put("plant", vec![record("k", b"x")], Duration::from_secs(1)).await.unwrap_err();

    assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
    assert!(told(&error).contains("HTTP 200: {\"Records\":"), "what came is shown: {}", told(&error));
}

#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let url = endless("HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".to_vec(), Duration::ZERO).await;
    let error = Gateway::facing(&url).puts(1).await.unwrap_err();
    assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn more_answers_than_records_and_an_error_with_200_are_no_answer() {
    let two = r#"{"Records":[{"SequenceNumber":"1","ShardId":"shardId-0"},{"SequenceNumber":"2","ShardId":"shardId-0"}]}"#;
    let error_inside = r#"{"__type":"InternalFailure","message":"Internal Service Failure"}"#;
    for (answer, shown) in [(two, "answers for 2 of 1 records"), (error_inside, "InternalFailure")] {
        let url = answering(http("200 OK", "content-type: application/x-amz-json-1.1\r\n", answer)).await;
        let error = Gateway::facing(&url).puts(1).await.unwrap_err();
        assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
        assert!(told(&error).contains(shown), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_page_is_shown_with_its_status_and_its_beginning_and_a_400_in_html_is_no_invalid_request() {
    for (status, code) in [("400 Bad Request", 400), ("403 Forbidden", 403), ("407 Proxy Authentication Required", 407)] {
        let page = format!("<html>\n<title>Squid: {status}</title>{}", "x ".repeat(10_000));
        let url = answering(http(status, "content-type: text/html\r\n", &page)).await;
        let error = Gateway::facing(&url).puts(1).await.unwrap_err();
        assert_eq!(error.class(), Class::Away, "{error:?}");
        let told = told(&error);
        assert!(told.contains(&format!("HTTP {code}, which is not of AWS: <html> <title>Squid")), "{told}");
        assert!(told.len() < 600, "{told}");
    }
}

#[tokio::test]
async fn what_an_answer_repeats_of_our_credentials_is_not_shown() {
    let token = "IQoJb3JpZ2luX2VjEPT+/zk9".repeat(10);
    let message = format!("The canonical string should have been x-amz-security-token:{token} end");
    let answer = format!(r#"{{"__type":"InvalidSignatureException","message":"{message}"}}"#);
    let url = answering(http("400 Bad Request", "content-type: application/x-amz-json-1.1\r\n", &answer)).await;

    let error = Gateway::facing(&url).puts(1).await.unwrap_err();

    assert_eq!(error.class(), Class::Credentials);
    assert!(told(&error).contains("x-amz-security-token:… end"), "{}", told(&error));
}

#[tokio::test]
async fn a_record_that_is_called_invalid_beside_others_that_are_taken_is_told_from_one_that_failed() {
    let body = r#"{"FailedRecordCount":2,"Records":[
        {"ErrorCode":"InvalidArgumentException","ErrorMessage":"too long"},
        {"SequenceNumber":"7","ShardId":"shardId-000000000001"},
        {"ErrorCode":"BrandNewException"}]}"#;
    let url = answering(http("200 OK", "", body)).await;

    let answers = Gateway::facing(&url).client().await.put("plant", vec![record("k", b"x"); 3], PATIENCE).await.unwrap();

    assert_eq!(answers[0], Answer::Invalid { code: "InvalidArgumentException".into(), message: "too long".into() });
    assert!(matches!(answers[1], Answer::Accepted { .. }));
    assert_eq!(answers[2], Answer::Failed { code: "BrandNewException".into(), message: String::new() });
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().trim_end_matches(" kB").to_owned();
    kib.parse::<u64>().unwrap() << 10
}
