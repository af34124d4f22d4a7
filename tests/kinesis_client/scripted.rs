//! An endpoint that does as it is told.

use std::{fs, time::SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use headwater::{
    kinesis::{Answer, Class, Client, ClientError, DescribeError, Distribution, HashKey, PutError, Record, StreamSummary},
    units::ByteCount,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ACCEPTED, Gateway, PATIENCE, header, http, read_request, record,
    support::certificates::OFFICE,
    tls::{Secured, behind_tls},
};

/// Answers every request on `url` with the same bytes, then closes; what it was asked is in `requests`, head and body.
pub struct Scripted {
    pub url: String,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Scripted {
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::on("https://127.0.0.1:0", answer).await
    }

    /// One that takes each request for one of a record, and accepts it.
    pub async fn accepting() -> Self {
        Self::answering(http("200 OK", "", ACCEPTED)).await
    }

    /// At `url` of this machine.
    pub async fn on(url: &str, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind(url.trim_start_matches("https://")).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = TlsAcceptor::from(OFFICE.tls.clone());
        let (heard, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let Ok(mut connection) = acceptor.accept(connection).await else { continue };
                let Ok(request) = read_request(&mut connection).await else { continue };
                let _ = heard.send(request);
                let _ = connection.write_all(&answer).await;
                let _ = connection.shutdown().await;
            }
        });
        Self { url, requests }
    }

    pub async fn asked(&mut self) -> String {
        timeout(PATIENCE, self.requests.recv()).await.expect("no request came").unwrap()
    }
}

pub fn refusal(code: &str) -> String {
    refusal_with(code, "so it is")
}

pub(crate) fn refusal_with(code: &str, message: &str) -> String {
    http(
        "400 Bad Request",
        "content-type: application/x-amz-json-1.1\r\n",
        &format!(r#"{{"__type":"{code}","message":"{message}"}}"#),
    )
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);

    let error = Gateway::facing(&url).puts(1).await.unwrap_err();

    assert!(matches!(error, PutError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Away);
    assert!(error.to_string().contains("plant") && error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn an_endpoint_whose_name_nobody_knows_was_sent_nothing() {
    // A label has at most 63 characters, so no name server needs to be asked.
    let error = Gateway::facing(&format!("https://{}.invalid", "a".repeat(64))).puts(1).await.unwrap_err();
    assert!(matches!(error, PutError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_whose_connection_broke_in_the_middle_may_be_stored() {
    let endpoint = behind_tls(|mut connection: Secured| async move {
        connection.read_exact(&mut [0; 100]).await.unwrap();
    });

    let error = Gateway::facing(&endpoint.await).puts(1).await.unwrap_err();

    assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Away);
}

#[tokio::test]
async fn a_request_without_a_valid_answer_may_be_stored() {
    for (what, answer) in [
        ("no answer at all", String::new()),
        ("no HTTP", "\u{7}garbage\r\n\r\n".into()),
        ("half an answer", ACCEPTED[..20].into()),
        ("no list of answers", http("200 OK", "", "{}")),
        ("fewer answers than records", http("200 OK", "", ACCEPTED)),
        ("no JSON", http("200 OK", "", "<html>welcome to our hotel</html>")),
        ("an answer that says nothing", http("200 OK", "", r#"{"Records":[{},{}]}"#)),
    ] {
        let endpoint = Scripted::answering(answer).await;
        let error = Gateway::facing(&endpoint.url).puts(2).await.unwrap_err();
        assert!(matches!(error, PutError::Unknown { .. }), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_refusal_has_the_class_of_its_name() {
    for (code, class) in [
        ("ProvisionedThroughputExceededException", Class::Throttled),
        ("com.amazonaws.kinesis#LimitExceededException", Class::Throttled),
        ("KMSThrottlingException", Class::Throttled),
        ("ExpiredTokenException", Class::Credentials),
        ("UnrecognizedClientException", Class::Credentials),
        ("InvalidSignatureException", Class::Credentials),
        ("AccessDeniedException", Class::Held),
        ("KMSDisabledException", Class::Held),
        ("ResourceNotFoundException", Class::Held),
        ("ResourceInUseException", Class::Held),
        ("ValidationException", Class::Invalid),
        ("InvalidArgumentException", Class::Invalid),
        ("SerializationException", Class::Invalid),
        ("InternalFailure", Class::Away),
    ] {
        let endpoint = Scripted::answering(refusal(code)).await;
        let error = Gateway::facing(&endpoint.url).puts(1).await.unwrap_err();
        assert_eq!(error.class(), class, "{code}: {error:?}");
        assert!(!matches!(error, PutError::Unreachable { .. } | PutError::Unknown { .. }), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn a_stream_says_how_it_distributes_records_and_one_that_says_nothing_of_it_goes_by_keys() {
    for (strategy, distribution) in [
        (r#","RecordDistributionStrategy":"AUTO""#, Distribution::ByService),
        (r#","RecordDistributionStrategy":"USER_PARTITION_KEY""#, Distribution::ByKey),
        (r#","RecordDistributionStrategy":"BY_THE_MOON""#, Distribution::ByService),
        ("", Distribution::ByKey),
    ] {
        let body = format!(
            r#"{{"StreamDescriptionSummary":{{"StreamName":"plant","StreamARN":"a","StreamStatus":"ACTIVE","RetentionPeriodHours":24,
            "StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":3,"MaxRecordSizeInKiB":2048{strategy}}}}}"#
        );
        let endpoint = Scripted::answering(http("200 OK", "content-type: application/x-amz-json-1.1\r\n", &body)).await;
        let summary = Gateway::facing(&endpoint.url).client().await.describe("plant").await.unwrap();
        assert_eq!(summary, StreamSummary { distribution, open_shards: 3, max_record: ByteCount::mib(2) });
    }
}

#[tokio::test]
async fn a_stream_that_is_not_described_says_why_and_what_a_put_would_meet() {
    let described = async |answer: String| {
        let endpoint = Scripted::answering(answer).await;
        Gateway::facing(&endpoint.url).client().await.describe("plant").await.unwrap_err()
    };
    let denied = described(refusal("AccessDeniedException")).await;
    assert!(
        matches!(denied, DescribeError::Denied { .. }) && denied.to_string().contains("kinesis:DescribeStreamSummary"),
        "{denied}"
    );
    for answer in [refusal("LimitExceededException"), refusal("InternalFailure"), http("502 Bad Gateway", "", "<html>")] {
        let silent = described(answer.clone()).await;
        assert!(matches!(silent, DescribeError::Unknown { .. }), "{answer}: {silent:?}");
    }
    for (answer, class) in [
        (refusal("ResourceNotFoundException"), Class::Held),
        (refusal("ExpiredTokenException"), Class::Credentials),
        (String::new(), Class::Away),
    ] {
        let failed = described(answer.clone()).await;
        assert!(matches!(&failed, DescribeError::Failed(error) if error.class() == class), "{answer}: {failed:?}");
    }
}

#[tokio::test]
async fn what_stands_in_front_of_the_service_is_believed_only_by_its_status() {
    for (answer, class) in [
        (http("502 Bad Gateway", "content-type: text/html\r\n", "<html>bad gateway</html>"), Class::Away),
        (http("503 Service Unavailable", "", ""), Class::Away),
        (http("403 Forbidden", "content-type: text/html\r\n", "<html>log in first</html>"), Class::Away),
        (http("413 Content Too Large", "", ""), Class::TooLarge),
    ] {
        let endpoint = Scripted::answering(answer.clone()).await;
        let error = Gateway::facing(&endpoint.url).puts(1).await.unwrap_err();
        assert_eq!(error.class(), class, "{answer}: {error:?}");
        assert!(!matches!(error, PutError::Unreachable { .. } | PutError::Unknown { .. }), "{answer}: {error:?}");
    }
}

#[tokio::test]
async fn a_request_goes_out_once_whatever_the_answer() {
    let mut endpoint = Scripted::answering(http("500 Internal Server Error", "", "")).await;
    let gateway = Gateway::facing(&endpoint.url);

    gateway.puts(1).await.unwrap_err();

    endpoint.asked().await;
    assert!(endpoint.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_request_names_stream_region_and_lane_and_carries_the_bytes() {
    let mut endpoint = Scripted::answering(http("200 OK", "", ACCEPTED)).await;
    let gateway = Gateway::facing(&endpoint.url);
    let client = gateway.client().await;
    let record = Record { explicit_hash_key: Some(HashKey::MAX), ..record("gw/plant/0", b"21.5") };

    let answers = client.put("plant", vec![record], PATIENCE).await.unwrap();

    assert_eq!(answers, [Answer::Accepted { shard: "shardId-000000000000".into(), sequence: "1".into() }]);
    let asked = endpoint.asked().await;
    assert_eq!(header(&asked, "x-amz-target"), Some("Kinesis_20131202.PutRecords"));
    let signature = header(&asked, "authorization").unwrap();
    assert!(signature.contains("AKIDEXAMPLE/") && signature.contains("/eu-west-1/kinesis/"), "{signature}");
    let body = asked.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap(),
        serde_json::json!({
            "StreamName": "plant",
            "Records": [{ "Data": "MjEuNQ==", "PartitionKey": "gw/plant/0", "ExplicitHashKey": u128::MAX.to_string() }]
        })
    );
    assert_eq!(client.endpoint(), endpoint.url);
    assert_eq!(client.address().map(|address| format!("https://{address}")), Some(endpoint.url));
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_records() {
    let body = r#"{"FailedRecordCount":2,"Records":[
        {"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"shard 0"},
        {"SequenceNumber":"7","ShardId":"shardId-000000000001"},
        {"ErrorCode":"InternalFailure","ErrorMessage":"Internal Service Failure."}]}"#;
    let endpoint = Scripted::answering(http("200 OK", "", body)).await;

    let answers = Gateway::facing(&endpoint.url).puts(3).await.unwrap();

    assert_eq!(
        answers,
        [
            Answer::Throttled { message: "shard 0".into() },
            Answer::Accepted { shard: "shardId-000000000001".into(), sequence: "7".into() },
            Answer::Failed { code: "InternalFailure".into(), message: "Internal Service Failure.".into() },
        ]
    );
}

#[tokio::test]
async fn a_wrong_clock_is_learned_from_the_refusal() {
    let date = "date: Sun, 21 Nov 2100 05:30:00 GMT\r\ncontent-type: application/x-amz-json-1.1\r\n";
    let answer = http("400 Bad Request", date, r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#);
    let mut endpoint = Scripted::answering(answer).await;
    let gateway = Gateway::facing(&endpoint.url);
    let client = gateway.client().await;

    for _ in 0..2 {
        let error = client.put("plant", vec![record("k", b"x")], PATIENCE).await.unwrap_err();
        assert_eq!(error.class(), Class::Credentials);
    }

    endpoint.asked().await;
    let signed = endpoint.asked().await;
    assert!(header(&signed, "x-amz-date").unwrap().starts_with("21001121T05"), "{signed}");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_found_before_anything_is_sent() {
    let gateway = Gateway::facing("https://127.0.0.1:1");
    fs::remove_file(gateway.folder.path().join("secret")).unwrap();

    let error = Client::open(&gateway.config).await.unwrap_err();

    assert!(matches!(error, ClientError::Credentials(_)), "{error:?}");
}

/// Source: AWS IAM user guide, "Create a signed AWS API request".
#[tokio::test]
async fn a_put_is_signed_for_the_bytes_that_are_sent() {
    let mut endpoint = Scripted::accepting().await;
    let large = record("gw/plant/0", &b"21.5".repeat(75_000));

    Gateway::facing(&endpoint.url).client().await.put("plant", vec![large], PATIENCE).await.unwrap();

    let request = endpoint.asked().await;
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let authorization = header(head, "authorization").unwrap();
    let field = |name: &str| authorization.split([' ', ',']).find_map(|field| field.strip_prefix(name)).unwrap();
    let (signed, scope) = (field("SignedHeaders="), field("Credential=").split_once('/').unwrap().1);
    let headers = signed.split(';').fold(String::new(), |all, name| all + name + ":" + header(head, name).unwrap() + "\n");
    let hash = |text: &str| Sha256::digest(text).iter().fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
    let canonical = format!("POST\n/\n\n{headers}\n{signed}\n{}", hash(body));
    let date = header(head, "x-amz-date").unwrap();
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(&canonical));
    // The key depends on the day alone.
    let key = generate_signing_key("wJalrXUtnFEMI", SystemTime::now(), "eu-west-1", "kinesis");
    assert_eq!(field("Signature="), calculate_signature(key, to_sign.as_bytes()));
}
