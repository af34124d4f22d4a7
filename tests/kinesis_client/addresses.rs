//! Where a name leads decides whether anything is sent, however it came to lead there.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns};
use headwater::kinesis::{Answer, Class, Client, ClientError, PutError};

use super::{
    Gateway, PATIENCE, record,
    support::certificates::Authority,
    tls::{accept_one, secured},
};

const VPCE: &str = "vpce-0123-abcd.kinesis.eu-west-1.vpce.amazonaws.com";
/// For documentation, so nobody is there. Source: RFC 5737.
const PUBLIC: &str = "198.51.100.7";

/// A name server whose answer changes.
#[derive(Clone, Debug)]
pub struct Zone(Arc<Mutex<Vec<IpAddr>>>);

impl Zone {
    pub fn with(addresses: &[&str]) -> Self {
        let zone = Self(Arc::default());
        zone.changes_to(addresses);
        zone
    }

    fn changes_to(&self, addresses: &[&str]) {
        *self.0.lock().unwrap() = addresses.iter().map(|text| text.parse().unwrap()).collect();
    }
}

impl ResolveDns for Zone {
    fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(Ok(self.0.lock().unwrap().clone()))
    }
}

/// A gateway that faces [`VPCE`], where a TLS endpoint of this machine answers.
async fn facing_vpce() -> Gateway {
    let ours = Authority::new();
    let url = secured(ours.acceptor(VPCE, "http/1.1"), accept_one).await;
    Gateway::facing(&url.replace("localhost", VPCE)).trusting(&ours.pem())
}

async fn puts(client: &Client) -> Result<Vec<Answer>, PutError> {
    client.put("plant", vec![record("gw/plant/0", b"21.5")], PATIENCE).await
}

#[tokio::test]
async fn a_name_that_comes_to_lead_to_a_public_address_is_not_sent_to_until_it_leads_back() {
    let zone = Zone::with(&["127.0.0.1"]);
    let gateway = facing_vpce().await;
    let client = Client::open_asking(&gateway.config, zone.clone()).await.unwrap();
    puts(&client).await.unwrap();

    zone.changes_to(&[PUBLIC]);
    let error = puts(&client).await.unwrap_err();

    assert!(matches!(error, PutError::Public { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Barred);
    let told = headwater::status::with_causes(&error);
    assert!(told.contains(&format!("{VPCE} is at {PUBLIC}")) && told.contains("private DNS"), "{told}");

    zone.changes_to(&[PUBLIC, "127.0.0.1"]);
    puts(&client).await.unwrap();
}

#[tokio::test]
async fn a_pinned_name_is_reached_at_its_address_and_tls_asks_for_the_name() {
    let pin = |config: &mut headwater::config::KinesisConfig| {
        config.resolve.insert(VPCE.to_owned(), vec!["127.0.0.1".parse().unwrap()]);
    };
    let gateway = facing_vpce().await.set(pin);
    // Nobody else is asked: this zone would lead astray.
    let client = Client::open_asking(&gateway.config, Zone::with(&[PUBLIC])).await.unwrap();

    let answers = puts(&client).await.unwrap();

    assert!(matches!(&answers[..], [Answer::Accepted { .. }]), "{answers:?}");
    assert_eq!(client.address().unwrap().ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn an_endpoint_that_is_a_public_address_is_refused_before_anything_is_tried() {
    for url in [format!("https://{PUBLIC}"), "https://[::ffff:198.51.100.7]:443".to_owned(), "https://100.64.0.1".to_owned()] {
        let error = Client::open(&Gateway::facing(&url).config).await.unwrap_err();
        assert!(matches!(error, ClientError::Public { .. }), "{error:?}");
        assert!(error.to_string().contains("allow_addresses"), "{error}");
    }

    let carrier =
        Gateway::facing("https://100.64.0.1").set(|config| config.allow_addresses = vec!["100.64.0.0/10".parse().unwrap()]);
    Client::open(&carrier.config).await.unwrap();
    Client::open(&Gateway::facing(&format!("https://{PUBLIC}")).set(|config| config.private_only = false).config).await.unwrap();
}
