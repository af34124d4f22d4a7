//! What requests are signed with, once the service no longer takes what they were signed with before.

use std::time::Duration;

use crate::support::{consumer::ONCE, eventually, gateway::Gateway, haste::Haste, site::Site};

/// How much faster the gateway lives.
const SPEED: i64 = 100;
/// Nobody is asked for credentials twice in a minute.
const A_MINUTE: Duration = Duration::from_secs(61);

#[tokio::test]
async fn expired_or_refused_credentials_are_refreshed_at_once_and_requests_are_signed_with_the_new_ones() {
    let site = Site::new().await;
    let mut gateway = site.installs(site.plan()).await;
    let mut haste = Haste::of(&mut gateway.agent);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);

    for (nth, code) in (1..).zip(["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"]) {
        goes_by(A_MINUTE, &mut haste, &gateway).await;
        assert_eq!(site.provider.asked().len(), nth, "before {code}");
        // As the provider calls its keys.
        gateway.cloud.refuses_key(Some((&format!("ASIATEST{nth}"), code)));
        gateway.field.publishes(10).await;

        assert_eq!(gateway.everything_arrives().await, ONCE, "{code}");
        assert_eq!(site.provider.asked().len(), nth + 1, "{code}: asked once more");
    }

    // Whatever has to wait is told.
    assert!(!gateway.agent.log().contains("WARN"), "{}", gateway.agent.log());
    gateway.agent.stops().await;
}

/// So much time goes by in the gateway.
async fn goes_by(span: Duration, haste: &mut Haste, gateway: &Gateway) {
    let until = haste.now() + span;
    haste.is(&gateway.agent, SPEED);
    eventually("it has gone by", async || if haste.now() >= until { Ok(()) } else { Err("not yet") }).await;
    haste.is(&gateway.agent, 1);
}
