//! What leads to a public address is not sent to, whichever part of the agent would send.

use crate::support::{consumer::ONCE, free_port, gateway::Gateway, process::Picture};

/// 198.51.100.7, which is for documentation, as `inet_aton(3)` reads it and no parser of ours does. Source: RFC 5737.
/// Without TLS, which takes no such name.
const PUBLIC: &str = "http://3325256711";

#[tokio::test]
async fn endpoint_name_resolves_to_a_public_address_nothing_is_sent_and_the_status_names_the_usual_causes() {
    let plan = Gateway::new().set("destinations.cloud.endpoint", PUBLIC).without("destinations.cloud.ca");
    let mut gateway = plan.installs().await;
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;

    let leads = |status: &Picture| {
        let refused = status.text("/link/error").contains("198.51.100.7") && status.holds_a("/link/retry_at");
        refused && status.count("/ledger/buffered") == 10
    };
    let status = gateway.agent.shows("where it leads, and when it looks again", leads).await;

    assert!(status.text("/link/error").contains("private_only") && !status.holds("/link/up"), "{status:?}");
    assert!(status.problems().iter().any(|problem| problem.contains("private DNS") && problem.contains("rebind")), "{status:?}");
    let wait = status.count("/link/retry_at").saturating_sub(status.count("/clock/now"));
    assert!((30_000..=60_000).contains(&wait), "tried again in {wait} ms, which is no minute");
    assert_eq!(status.text("/state"), "buffering");
    assert!(status.holds_a("/streams/readings/lanes/0/rate"), "lanes are told of before anything is sent: {status:?}");
    status.balances();
    assert_eq!(gateway.cloud.counts().requests, 0);

    gateway.agent.stops().await;
    let url = gateway.cloud.url().to_owned();
    gateway.is_configured(|plan| plan.set("destinations.cloud.endpoint", url).set("destinations.cloud.ca", "{dir}/office.pem"));
    gateway.agent.start();
    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn credentials_are_not_asked_for_at_an_address_that_is_not_private() {
    let mut gateway = Gateway::new().installs().await;
    gateway.agent.finds("AWS_ACCESS_KEY_ID", None);
    gateway.agent.finds("AWS_SECRET_ACCESS_KEY", None);
    // A container's endpoint is link-local: 169.254.170.2.
    gateway.agent.finds("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Some("/v2/credentials"));
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;

    let status = gateway.agent.shows("whom it does not ask", |status| status.text("/link/error").contains("169.254.170.2")).await;

    assert!(status.text("/link/error").contains("private_only"), "{status:?}");
    assert_eq!(gateway.cloud.counts().requests, 0);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn readings_go_by_the_next_endpoint_when_the_first_one_is_gone_and_the_status_says_so() {
    let mut gateway = Gateway::new().installs().await;
    let (gone, there) = (format!("https://127.0.0.1:{}", free_port()), gateway.cloud.url().to_owned());
    gateway.is_configured(|plan| plan.set("destinations.cloud.endpoint", vec![gone.clone(), there.clone()]));
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(100).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);

    let status = gateway.agent.shows("the endpoint in use", |status| status.text("/link/endpoint") == there).await;
    assert!(status.holds("/link/up"), "{status:?}");
    let detour = format!("endpoint {gone} can't be used");
    assert!(status.problems().iter().any(|problem| problem.contains(&detour) && problem.contains(&there)), "{status:?}");
    gateway.agent.stops().await;
}
