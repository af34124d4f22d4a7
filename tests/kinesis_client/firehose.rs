//! What becomes of a batch for Firehose, whatever is said to it.

use headwater::kinesis::{Answer, Class, Firehose, PutError};

use super::{
    Gateway, PATIENCE, header, http,
    scripted::{Scripted, refusal_with},
};

async fn puts(endpoint: &Scripted, records: usize) -> Result<Vec<Answer>, PutError> {
    let gateway = Gateway::facing(&endpoint.url);
    let firehose = Firehose::open(&gateway.config).await.unwrap();
    firehose.put("plant", vec![b"21.5\n".to_vec(); records], PATIENCE).await
}

#[tokio::test]
async fn a_batch_is_signed_for_firehose_and_each_record_has_an_answer_of_its_own() {
    let body = r#"{"FailedPutCount":3,"RequestResponses":[{"RecordId":"a"},
        {"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."},
        {"ErrorCode":"InternalFailure","ErrorMessage":"Internal Service Failure"},
        {"ErrorCode":"InvalidArgumentException","ErrorMessage":"no"}]}"#;
    let mut endpoint = Scripted::answering(http("200 OK", "", body)).await;

    let answers = puts(&endpoint, 4).await.unwrap();

    let text = |text: &str| text.to_owned();
    assert_eq!(
        answers,
        [
            Answer::Accepted { shard: String::new(), sequence: text("a") },
            Answer::Throttled { message: text("Slow down.") },
            Answer::Failed { code: text("InternalFailure"), message: text("Internal Service Failure") },
            Answer::Invalid { code: text("InvalidArgumentException"), message: text("no") },
        ]
    );
    let request = endpoint.asked().await;
    assert_eq!(header(&request, "x-amz-target"), Some("Firehose_20150804.PutRecordBatch"));
    let authorization = header(&request, "authorization").unwrap();
    assert!(authorization.contains("/eu-west-1/firehose/aws4_request"), "{authorization}");
    assert!(request.ends_with(r#"{"DeliveryStreamName":"plant","Records":[{"Data":"MjEuNQo="},{"Data":"MjEuNQo="},{"Data":"MjEuNQo="},{"Data":"MjEuNQo="}]}"#), "{request}");
}

#[tokio::test]
async fn an_answer_for_fewer_records_than_were_sent_is_none() {
    let endpoint = Scripted::answering(http("200 OK", "", r#"{"FailedPutCount":0,"RequestResponses":[{"RecordId":"a"}]}"#)).await;
    let error = puts(&endpoint, 2).await.unwrap_err();
    assert!(matches!(error, PutError::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_batch_that_is_refused_has_the_class_of_what_was_said() {
    for (code, message, class) in [
        ("ServiceUnavailableException", "Slow down.", Class::Throttled),
        ("ServiceUnavailableException", "Service is unavailable", Class::Away),
        ("InvalidKMSResourceException", "no key", Class::Held),
        ("InvalidSourceException", "it reads from a Kinesis stream", Class::Held),
        ("ResourceNotFoundException", "not found", Class::Held),
        ("InvalidArgumentException", "Records size exceeds 4 MB limit", Class::Invalid),
    ] {
        let endpoint = Scripted::answering(refusal_with(code, message)).await;
        let error = puts(&endpoint, 1).await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert!(error.to_string().starts_with(&format!("Firehose stream plant at {}", endpoint.url)), "{error}");
    }
}
