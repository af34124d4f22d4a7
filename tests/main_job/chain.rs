//! Who the gateway is to AWS where no credentials are configured: whatever every AWS tool would find there.

use std::fs;

use crate::support::{
    consumer::ONCE,
    gateway::Gateway,
    haste::Haste,
    issuer::{CONTAINER_TOKEN, Issuer, ROLE, WEB_IDENTITY_TOKEN},
};

/// A gateway whose environment has no key in it, but these variables; `{dir}` stands for its folder.
async fn finding(variables: &[(&str, &str)]) -> Gateway {
    let mut gateway = Gateway::new().set("buffer.hold", "50ms").installs().await;
    gateway.agent.finds("AWS_ACCESS_KEY_ID", None);
    gateway.agent.finds("AWS_SECRET_ACCESS_KEY", None);
    let dir = gateway.agent.dir().display().to_string();
    for (name, value) in variables {
        gateway.agent.finds(name, Some(&value.replace("{dir}", &dir)));
    }
    gateway
}

fn put(gateway: &Gateway, name: &str, content: &str) {
    fs::write(gateway.agent.dir().join(name), content).unwrap();
}

/// Readings arrive, and are signed with `key`, of which the status knows the end.
async fn sends_with(gateway: &mut Gateway, key: &str) {
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.cloud.look(|store| store.last_key().to_owned()), key);
    let shown = gateway.agent.shows("their end", |status| status.holds_a("/link/credentials/expires")).await;
    assert_eq!((shown.text("/link/credentials/kind"), shown.problems()), ("default", vec![]));
    gateway.agent.stops().await;
}

#[tokio::test]
async fn the_endpoint_of_a_container_gives_credentials_for_the_token_in_its_file() {
    let endpoint = Issuer::near().await;
    let mut gateway = finding(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint.container_url()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{dir}/token"),
    ])
    .await;
    put(&gateway, "token", CONTAINER_TOKEN);

    sends_with(&mut gateway, "ASIACONTAINER").await;

    assert_eq!(endpoint.asked().len(), 1, "{:?}", endpoint.asked());
}

#[tokio::test]
async fn sts_gives_credentials_for_a_web_identity() {
    let sts = Issuer::far().await;
    let mut gateway =
        finding(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", ROLE), ("AWS_ENDPOINT_URL_STS", sts.url())])
            .await;
    put(&gateway, "identity", WEB_IDENTITY_TOKEN);

    sends_with(&mut gateway, "ASIAWEBIDENTITY").await;

    assert_eq!(sts.asked(), ["AssumeRoleWithWebIdentity"]);
}

#[tokio::test]
async fn a_program_that_a_profile_names_gives_credentials() {
    let mut gateway = finding(&[("AWS_CONFIG_FILE", "{dir}/aws"), ("AWS_PROFILE", "plant")]).await;
    let json =
        r#"{"Version":1,"AccessKeyId":"ASIAPROGRAM","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;
    put(&gateway, "answer", json);
    put(&gateway, "aws", &format!("[profile plant]\ncredential_process = cat {}\n", gateway.agent.dir().join("answer").display()));

    sends_with(&mut gateway, "ASIAPROGRAM").await;
}

#[tokio::test]
async fn a_role_of_a_profile_is_taken_with_the_credentials_of_the_instance_that_it_names() {
    let (instance, sts) = (Issuer::near().await, Issuer::far().await);
    let mut gateway = finding(&[
        ("AWS_CONFIG_FILE", "{dir}/aws"),
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.url()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ])
    .await;
    put(&gateway, "aws", &format!("[default]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n"));

    sends_with(&mut gateway, "ASIAASSUMED").await;

    assert_eq!(sts.asked(), ["AssumeRole"]);
}

#[tokio::test]
async fn sts_is_not_asked_at_an_address_that_is_not_private() {
    // As in the tests of the uplink: 198.51.100.7, which is for documentation, as `inet_aton(3)` reads it. Source: RFC 5737.
    let mut gateway = finding(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_ENDPOINT_URL_STS", "http://3325256711"),
    ])
    .await;
    put(&gateway, "identity", WEB_IDENTITY_TOKEN);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;

    let status = gateway.agent.shows("whom it does not ask", |status| status.text("/link/error").contains("198.51.100.7")).await;

    assert!(status.text("/link/error").contains("private_only"), "{status:?}");
    assert_eq!(gateway.cloud.counts().requests, 0);
}

#[tokio::test]
async fn a_profile_that_is_written_while_readings_wait_is_found_without_a_restart() {
    let mut gateway = finding(&[("AWS_CONFIG_FILE", "{dir}/aws"), ("AWS_PROFILE", "plant")]).await;
    put(&gateway, "aws", "[default]\nregion = eu-west-1\n");
    let mut haste = Haste::of(&mut gateway.agent);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    let problems = status.problems();
    assert!(problems[0].contains("no credentials where AWS tools look") && problems[0].contains("plant"), "{problems:?}");

    put(&gateway, "aws", "[profile plant]\naws_access_key_id = AKIAPLANT\naws_secret_access_key = secret\n");
    haste.is(&gateway.agent, 100);

    gateway.cloud.takes_records("plant-readings", 1).await;
    haste.is(&gateway.agent, 1);
    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.cloud.look(|store| store.last_key().to_owned()), "AKIAPLANT");
}

#[tokio::test]
async fn sts_that_says_nothing_is_given_up_and_asked_again() {
    let sts = Issuer::far().await;
    sts.is_silent(true);
    let mut gateway =
        finding(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", ROLE), ("AWS_ENDPOINT_URL_STS", sts.url())])
            .await;
    put(&gateway, "identity", WEB_IDENTITY_TOKEN);
    let mut haste = Haste::of(&mut gateway.agent);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;

    haste.is(&gateway.agent, 20);
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    assert!(status.problems()[0].contains("source of credentials"), "{:?}", status.problems());
    assert_eq!(status.count("/ledger/buffered"), 10);
    sts.is_silent(false);

    gateway.cloud.takes_records("plant-readings", 1).await;
    haste.is(&gateway.agent, 1);
    assert_eq!(gateway.everything_arrives().await, ONCE);
}
