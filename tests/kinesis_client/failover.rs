//! Several endpoints, the first of which may be gone, silent or not what it says.

use std::time::{Duration, Instant};

use headwater::{
    config::Endpoints,
    kinesis::{Answer, Client, PutError},
};
use tokio::net::TcpListener;

use super::{Gateway, PATIENCE, record, scripted::Scripted};

async fn facing(urls: &[&str]) -> (Gateway, Client) {
    let endpoints: Endpoints = urls.iter().copied().collect();
    let gateway = Gateway::facing("").set(|config| config.endpoint = endpoints);
    let client = gateway.client().await;
    (gateway, client)
}

async fn puts(client: &Client) -> Result<Vec<Answer>, PutError> {
    client.put("plant", vec![record("gw/plant/0", b"21.5")], PATIENCE).await
}

async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connection_gives_way_to_the_next_one() {
    let (gone, mut zonal) = (closed().await, Scripted::accepting().await);
    let (_gateway, client) = facing(&[&gone, &zonal.url]).await;
    assert_eq!(client.endpoint(), gone);

    let error = puts(&client).await.unwrap_err();
    assert!(matches!(error, PutError::Unreachable { .. }) && error.to_string().contains(&gone), "{error:?}");
    puts(&client).await.unwrap();

    zonal.asked().await;
    assert_eq!(client.endpoint(), zonal.url);
    assert!(matches!(&client.left()[..], [(url, why)] if *url == gone && why.contains("refused")), "{:?}", client.left());
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_or_is_somebody_else_gives_way_to_the_next_one() {
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("https://{}", hole.local_addr().unwrap());
    let portal = Scripted::answering(super::http("200 OK", "content-type: text/html\r\n", "<html>Welcome</html>")).await;
    let proxy = Scripted::answering(super::http("502 Bad Gateway", "", "<html>502</html>")).await;
    let zonal = Scripted::accepting().await;
    let (_gateway, client) = facing(&[&silent, &portal.url, &proxy.url, &zonal.url]).await;

    let error = client.put("plant", vec![record("k", b"x")], Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, PutError::Unreachable { .. }), "{error:?}");
    let error = puts(&client).await.unwrap_err();
    assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
    let error = puts(&client).await.unwrap_err();
    assert!(matches!(error, PutError::Unavailable { .. }), "{error:?}");
    puts(&client).await.unwrap();

    assert_eq!(client.endpoint(), zonal.url);
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_no_reason_to_leave_an_endpoint() {
    let regional = Scripted::answering(super::scripted::refusal("AccessDeniedException")).await;
    let (_gateway, client) = facing(&[&regional.url, &closed().await]).await;

    for _ in 0..2 {
        let error = puts(&client).await.unwrap_err();
        assert!(matches!(error, PutError::Denied { .. }), "{error:?}");
    }
    assert_eq!(client.endpoint(), regional.url);
}

#[tokio::test]
async fn an_endpoint_that_was_left_is_asked_with_a_request_that_stores_nothing_and_used_again_when_it_answers() {
    let (gone, zonal) = (closed().await, Scripted::accepting().await);
    let (_gateway, client) = facing(&[&gone, &zonal.url]).await;
    puts(&client).await.unwrap_err();
    puts(&client).await.unwrap();
    let now = Instant::now();
    assert!(client.look("plant", now).is_none(), "it has only just failed");

    client.look("plant", now + Duration::from_mins(1)).expect("a minute later it is asked").await;
    assert_eq!(client.endpoint(), zonal.url, "it is still gone");
    let mut regional = Scripted::on(&gone, super::scripted::refusal("ValidationException")).await;
    client.look("plant", now + Duration::from_mins(5)).expect("it is asked again").await;

    let asked = regional.asked().await;
    assert!(asked.contains("Kinesis_20131202.PutRecords") && asked.contains(r#""Records":[]"#), "{asked}");
    assert_eq!(client.endpoint(), gone);
    assert!(client.look("plant", now + Duration::from_hours(1)).is_none(), "nobody is left to be asked");
}
