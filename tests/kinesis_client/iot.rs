//! Credentials for a device certificate, from a provider that behaves as that of AWS IoT: mutual TLS, and its ways to say no.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use headwater::{
    config::{CredentialsConfig, IotConfig, KinesisConfig},
    kinesis::{Class, Client, ClientError, PutError},
    status::what_and_remedy,
};

use super::{
    ACCEPTED, Gateway, PATIENCE, header, http, record,
    scripted::Scripted,
    support::{
        certificates::Authority,
        iot::{HOST, Provider, Reply, SECRET, TOKEN},
    },
};

const HOUR: Duration = Duration::from_hours(1);
/// Longer than credentials are kept whatever is known of them.
const A_WHILE: Duration = Duration::from_mins(2);

/// A gateway with a device certificate, a provider and a stream.
struct Site {
    gateway: Gateway,
    provider: Provider,
    stream: Scripted,
    own: Authority,
}

impl Site {
    async fn new() -> Self {
        Self::with(http("200 OK", "", ACCEPTED)).await
    }

    /// The stream answers with these bytes.
    async fn with(answer: String) -> Self {
        let (own, devices) = (Authority::new(), Authority::new());
        let provider = Provider::start(&own, &devices).await;
        let stream = Scripted::answering(answer).await;
        let mut gateway = Gateway::facing(&stream.url);
        let path = |name| gateway.folder.path().join(name);
        fs::write(path("root.pem"), own.pem()).unwrap();
        gateway.config.credentials = CredentialsConfig::Iot(IotConfig {
            endpoint: provider.url(),
            role_alias: "gateway".into(),
            ca: Some(path("root.pem")),
            cert: path("cert.pem"),
            key: path("key.pem"),
            thing_name: None,
        });
        gateway.config.resolve = [(HOST.to_owned(), vec!["127.0.0.1".parse().unwrap()])].into();
        let site = Self { gateway, provider, stream, own };
        site.has_certificate_of(&devices);
        site
    }

    /// Somebody puts a certificate and its key in their place.
    fn has_certificate_of(&self, devices: &Authority) {
        let (certificate, key) = devices.client("gw-1");
        let path = |name| self.gateway.folder.path().join(name);
        fs::write(path("cert.pem"), certificate).unwrap();
        fs::write(path("key.pem"), key).unwrap();
        fs::set_permissions(path("key.pem"), Permissions::from_mode(0o600)).unwrap();
    }

    fn iot(&mut self) -> &mut IotConfig {
        match &mut self.gateway.config.credentials {
            CredentialsConfig::Iot(iot) => iot,
            other => panic!("{other:?}"),
        }
    }

    fn config(&mut self) -> &mut KinesisConfig {
        &mut self.gateway.config
    }

    async fn client(&self) -> Client {
        self.gateway.client().await
    }

    /// Which key the last request was signed with.
    async fn signed_with(&mut self) -> String {
        let asked = self.stream.asked().await;
        let signature = header(&asked, "authorization").unwrap();
        signature.split(['=', '/']).nth(1).unwrap().to_owned()
    }
}

async fn puts(client: &Client) -> Result<(), PutError> {
    client.put("plant", vec![record("gw/plant/0", b"21.5")], PATIENCE).await.map(drop)
}

/// Time goes by for everything but the wall clock and the network.
async fn time_passes(span: Duration) {
    tokio::time::pause();
    tokio::time::advance(span).await;
    tokio::time::resume();
}

#[tokio::test]
async fn requests_are_signed_with_what_the_device_certificate_gets() {
    let mut site = Site::new().await;

    puts(&site.client().await).await.unwrap();

    let asked = site.provider.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "GET /role-aliases/gateway/credentials");
    assert_eq!(asked[0].host.as_deref(), site.provider.url().strip_prefix("https://"));
    assert_eq!((asked[0].sni.as_deref(), asked[0].thing.as_deref()), (Some(HOST), None));
    let request = site.stream.asked().await;
    assert!(header(&request, "authorization").unwrap().contains("Credential=ASIATEST1/"));
    assert_eq!(header(&request, "x-amz-security-token"), Some(&*format!("{TOKEN}1")));
}

#[tokio::test]
async fn the_things_name_is_sent_when_it_is_set() {
    let mut site = Site::new().await;
    site.iot().thing_name = Some("gw-1".into());

    puts(&site.client().await).await.unwrap();

    assert_eq!(site.provider.asked()[0].thing.as_deref(), Some("gw-1"));
}

#[tokio::test]
async fn however_many_requests_want_credentials_one_question_is_asked() {
    let site = Site::new().await;
    let client = site.client().await;

    let outcomes = futures_util::future::join_all((0..20).map(|_| puts(&client))).await;

    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(site.provider.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_is_not_asked_for_again_at_once() {
    for (status, message, remedy) in [
        (403, "Invalid thing name passed", "thing_name"),
        (403, "Access Denied", "iot:AssumeRoleWithCertificate"),
        (403, "Certificate is invalid on this endpoint", "describe-endpoint"),
        (404, "Role alias does not exist", "role_alias"),
        (400, "Unable to assume the role, or the role to assume does not exist", "trust policy"),
        (400, "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role", "MaxSessionDuration"),
        (404, "Not Found", ".credentials.iot."),
        (500, "Internal error", "asked again"),
    ] {
        let site = Site::new().await;
        site.provider.answers(Reply::Refusal(status, message));
        let client = site.client().await;

        for _ in 0..5 {
            let error = puts(&client).await.unwrap_err();
            let (what, to_do) = what_and_remedy(&error);
            assert!(what.contains("plant") && what.contains(HOST) && what.contains(message), "{what}");
            assert!(to_do.contains(remedy), "{to_do}");
            assert_eq!(error.class(), Class::Held);
        }

        assert_eq!(site.provider.asked().len(), 1, "{message}");
        site.provider.answers(Reply::Credentials(HOUR));
        time_passes(3 * A_WHILE).await;
        puts(&client).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_no_credentials_is_shown_and_bounded() {
    let half = format!(r#"{{"credentials":{{"accessKeyId":"A","secretAccessKey":"{SECRET}"#);
    for (reply, shown) in [
        (Reply::Text("<html>welcome to our hotel</html>".into()), "<html>welcome to our hotel</html>"),
        (Reply::Text(String::new()), "nothing"),
        (Reply::Text(half), "may hold a secret"),
        (Reply::Text(r#"{"credentials":{}}"#.into()), "accessKeyId"),
        (Reply::Endless, "more than 65536 bytes"),
        (Reply::Close, "out of reach"),
    ] {
        let site = Site::new().await;
        site.provider.answers(reply);

        let error = puts(&site.client().await).await.unwrap_err();

        let text = format!("{error} {error:?}");
        assert!(text.contains(shown) && !text.contains(SECRET), "{text}");
        assert!(error.was_not_sent());
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_registered_is_named() {
    let site = Site::new().await;
    site.has_certificate_of(&Authority::new());

    let error = puts(&site.client().await).await.unwrap_err();

    let (what, to_do) = what_and_remedy(&error);
    assert!(what.contains("does not accept the certificate") && what.contains("cert.pem"), "{what}");
    assert!(to_do.contains("activate it"), "{to_do}");
}

#[tokio::test]
async fn an_endpoint_with_another_root_or_another_name_is_not_talked_to() {
    let site = Site::new().await;
    fs::write(site.gateway.folder.path().join("root.pem"), Authority::new().pem()).unwrap();
    let error = puts(&site.client().await).await.unwrap_err();
    assert!(what_and_remedy(&error).0.contains("can't be trusted"), "{error}");
    assert_eq!(site.provider.asked(), []);

    let mut site = Site::new().await;
    let other = "other.credentials.iot.eu-west-1.amazonaws.com";
    site.iot().endpoint = site.provider.url().replace(HOST, other);
    site.config().resolve = [(other.to_owned(), vec!["127.0.0.1".parse().unwrap()])].into();
    let error = puts(&site.client().await).await.unwrap_err();
    assert!(what_and_remedy(&error).0.contains(&format!("{other} can't be trusted")), "{error}");
    assert_eq!(site.provider.asked(), []);
}

#[tokio::test]
async fn an_endpoint_at_a_public_address_is_not_connected_to() {
    let mut site = Site::new().await;
    site.config().resolve = [(HOST.to_owned(), vec!["52.94.1.2".parse().unwrap()])].into();

    let error = puts(&site.client().await).await.unwrap_err();

    assert!(matches!(error, PutError::Public { .. }), "{error:?}");
    assert_eq!(site.provider.connections(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_away_is_tried_after_growing_waits_and_the_link_is_down() {
    let mut site = Site::new().await;
    let port = super::support::free_port();
    site.iot().endpoint = format!("https://{HOST}:{port}");
    let client = site.client().await;

    let error = puts(&client).await.unwrap_err();

    assert_eq!(error.class(), Class::Away);
    assert!(what_and_remedy(&error).0.contains(&format!("{HOST} is out of reach")), "{error}");
    assert!(error.pause().is_some());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let site = Site::new().await;
    site.provider.answers(Reply::Expired);
    let client = site.client().await;
    puts(&client).await.unwrap();
    let renewed = Authority::new();
    site.has_certificate_of(&renewed);
    site.provider.accepts(&site.own, &renewed);

    time_passes(A_WHILE).await;
    puts(&client).await.unwrap();

    let asked = site.provider.asked();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].certificate, asked[1].certificate);
}

#[tokio::test]
async fn a_pair_that_does_not_belong_together_is_found_before_anything_is_sent() {
    let site = Site::new().await;
    fs::write(site.gateway.folder.path().join("key.pem"), Authority::new().client("gw-2").1).unwrap();

    let error = Client::open(&site.gateway.config).await.unwrap_err();

    assert!(matches!(error, ClientError::Credentials(_)), "{error:?}");
    assert!(error.to_string().contains("is not the key of the certificate"), "{error}");
}

#[tokio::test]
async fn credentials_are_renewed_in_the_background_and_the_old_ones_serve_meanwhile() {
    // By the stream's answers 50 minutes have passed, so that the hour is all but over.
    let date = aws_smithy_types::DateTime::from(std::time::SystemTime::now() + 57 * Duration::from_mins(1));
    let date = date.fmt(aws_smithy_types::date_time::Format::HttpDate).unwrap();
    let mut site = Site::with(http("200 OK", &format!("date: {date}\r\n"), ACCEPTED)).await;
    let client = site.client().await;
    puts(&client).await.unwrap();
    assert_eq!(site.signed_with().await, "ASIATEST1");
    site.provider.answers(Reply::Refusal(500, "Internal error"));
    let (held, _) = client.signing();
    tokio::spawn(async move { held.renewals().await });

    time_passes(A_WHILE).await;
    puts(&client).await.unwrap();
    assert_eq!(site.signed_with().await, "ASIATEST1");
    site.provider.is_asked(2).await;
    let mut news = client.signing().0.news();
    news.wait_for(|news| news.failure.is_some() && news.expiry.is_some()).await.unwrap();
    puts(&client).await.unwrap();
    assert_eq!(site.provider.asked().len(), 2, "it has said that it fails");

    site.provider.answers(Reply::Credentials(2 * HOUR));
    time_passes(A_WHILE).await;
    puts(&client).await.unwrap();
    news.wait_for(|news| news.failure.is_none()).await.unwrap();
    puts(&client).await.unwrap();
    let signed: Vec<_> = [site.signed_with().await, site.signed_with().await, site.signed_with().await].into();
    assert_eq!(signed, ["ASIATEST1", "ASIATEST1", "ASIATEST3"]);
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_learned_from_the_provider_before_anything_is_signed() {
    let mut site = Site::new().await;
    site.provider.is_ahead_by(3600);

    puts(&site.client().await).await.unwrap();

    let request = site.stream.asked().await;
    let signed = header(&request, "x-amz-date").unwrap();
    let part = |at: std::ops::Range<usize>| &signed[at];
    let text = format!("{}-{}-{}T{}:{}:{}Z", part(0..4), part(4..6), part(6..8), part(9..11), part(11..13), part(13..15));
    let signed = headwater::kinesis::parse_time(&text).unwrap().0;
    let off = signed - headwater::clock::now().0;
    assert!((3_000_000..=3_700_000).contains(&off), "{off} ms");
}
