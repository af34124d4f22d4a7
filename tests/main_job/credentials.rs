//! Who the gateway is to AWS: a device certificate, or a program; and that nobody sees its secrets.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use headwater::demo::kinesis::Failure;
use rumqttc::MqttOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use toml::{Table, Value};

use crate::support::{
    certificates::Authority,
    consumer::ONCE,
    free_port,
    gateway::Gateway,
    iot::{HOST, Reply, SECRET, TOKEN},
    process::{Picture, headwater},
    publisher::Publisher,
    site::{Site, put_pair, secret_file},
    within,
};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn readings_go_out_with_what_the_device_certificate_gets() {
    let site = Site::new().await;
    let mut gateway = site.installs(site.plan()).await;

    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(100).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let asked = site.provider.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].thing.as_deref(), Some("gw-1"), "the device's name is filled in");
    let shown = gateway.agent.shows("what it signs with", |status| status.holds_a("/link/credentials/expires")).await;
    assert_eq!(shown.text("/link/credentials/kind"), "iot");
    assert!(shown.holds_a("/link/credentials/certificate_expires"));
    assert!(shown.problems().is_empty(), "{:?}", shown.problems());
    gateway.agent.stops().await;
}

#[tokio::test]
async fn while_there_are_no_credentials_readings_wait_and_the_status_says_what_to_do() {
    let site = Site::new().await;
    let mut gateway = site.installs(site.plan()).await;
    site.provider.answers(Reply::Refusal(404, "Role alias does not exist"));
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(10).await;
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;

    let problems = status.problems();
    assert!(problems[0].contains("Role alias does not exist") && problems[0].contains("create-role-alias"), "{problems:?}");
    assert_eq!((status.count("/ledger/buffered"), status.text("/state")), (10, "buffering"));
    gateway.field.publishes(10).await;
    gateway.holds(20).await;
    assert_eq!(site.provider.asked().len(), 1);
    assert_eq!(gateway.cloud.counts().requests, 0);

    site.provider.answers(Reply::Credentials(Duration::from_hours(1)));
    gateway.agent.stops().await;
    gateway.agent.start();
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_certificate_that_ends_in_ten_days_is_a_problem_today() {
    let site = Site::new().await;
    let mut gateway = site.installs(site.plan()).await;
    let pair = site.devices.client_until("gw-1", SystemTime::now() + 10 * DAY + DAY / 2);
    put_pair(&gateway, &pair);

    gateway.agent.start();
    let status = gateway.agent.shows("it says so", |status| !status.problems().is_empty()).await;

    let problems = status.problems();
    assert!(problems[0].contains("device.pem expires in 10 days") && problems[0].contains("renewed one"), "{problems:?}");
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;
    assert_eq!(gateway.everything_arrives().await, ONCE, "it works until then");
}

#[tokio::test]
async fn the_certificate_that_a_broker_is_shown_is_a_problem_thirty_days_before_its_end_whether_the_broker_is_there_or_not() {
    let absent = format!("mqtts://127.0.0.1:{}", free_port());
    let plan = Gateway::new().set("sources.broker.url", absent).set("sources.broker.client_cert", "{dir}/device.pem");
    let mut gateway = plan.set("sources.broker.client_key", "{dir}/device.key").installs().await;
    let office = Authority::new();
    let end = SystemTime::now() + 20 * DAY + DAY / 2;
    put_pair(&gateway, &office.client_until("gw-1", end));

    gateway.agent.start();
    let is_told = |status: &Picture| status.problems().iter().any(|problem| problem.contains("device.pem expires in 20 days"));
    let status = gateway.agent.shows("it says so", is_told).await;

    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() * 1000;
    assert_eq!(status.count("/sources/broker/certificate_expires"), end);
    let text = gateway.agent.does(["status".as_ref()]).out.line_with("certificate that broker shows").await;
    assert!(text.contains("valid for 20 d"), "{text}");

    put_pair(&gateway, &office.client_until("gw-1", SystemTime::now() + 100 * DAY));
    gateway.agent.stops().await;
    gateway.agent.start();
    let renewed = |status: &Picture| status.count("/sources/broker/certificate_expires") > end;
    let status = gateway.agent.shows("the new one", renewed).await;
    assert!(!is_told(&status), "{status:?}");
    gateway.agent.stops().await;
}

#[tokio::test]
async fn readings_go_out_with_what_a_program_prints_and_its_account_changes_no_endpoint() {
    let script = format!(
        r#"echo '{{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"{SECRET}","SessionToken":"{TOKEN}","Expiration":"2100-01-01T00:00:00Z","AccountId":"123456789012"}}'"#
    );
    let command: Vec<Value> = ["/bin/sh", "-c", &script].into_iter().map(Value::from).collect();
    let plan = Gateway::new().set("destinations.cloud.credentials.kind", "process");
    let mut gateway = plan.set("destinations.cloud.credentials.command", command).starts().await;

    gateway.field.publishes(100).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let shown = gateway.agent.shows("what it signs with", |status| status.holds_a("/link/credentials/expires")).await;
    assert_eq!(shown.text("/link/credentials/kind"), "process");
}

#[tokio::test]
async fn a_key_may_be_one_of_the_credentials_that_systemd_gives() {
    let site = Site::new().await;
    let plan = site.plan().set("destinations.cloud.credentials.key", "$CREDENTIALS_DIRECTORY/device-key");
    let mut gateway = site.installs(plan).await;
    let folder = gateway.agent.dir().join("credentials");
    fs::create_dir(&folder).unwrap();
    fs::rename(gateway.agent.dir().join("device.key"), folder.join("device-key")).unwrap();
    gateway.agent.finds("CREDENTIALS_DIRECTORY", folder.to_str());

    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn no_secret_is_in_a_log_a_status_a_page_or_a_configuration_that_is_shown() {
    let site = Site::new().await;
    let plan = site
        .plan()
        .set("http.listen", "127.0.0.1:0")
        .set("sources.broker.username", "gateway")
        .set("sources.broker.password_file", "{dir}/password")
        .broker(|broker| broker.password("gateway", PASSWORD));
    let mut gateway = site.installs(plan).await;
    secret_file(&gateway, "password", PASSWORD);
    gateway.agent.finds("HEADWATER_LOG", Some("trace"));
    let mut options = MqttOptions::new("sensors", "127.0.0.1", gateway.field.broker.port());
    options.set_credentials("gateway", PASSWORD);
    gateway.field.publishes_through(Publisher::with(options));
    for failure in [Failure::Code("InvalidSignatureException"), Failure::Page(403)] {
        gateway.cloud.fail_next(1, failure);
    }

    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;
    gateway.agent.shows("it has tried", |status| status.text("/link/error").contains("HTTP 403")).await;
    let line = gateway.agent.logs("the page is at").await;
    let page = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut seen = String::new();
    for path in ["/", "/api/status", "/metrics", "/healthz"] {
        seen += &get(page, path).await;
    }
    for args in [["show", "--config"], ["check", "--files"]] {
        let output = headwater(args.iter().map(Into::into).chain([gateway.agent.config().into_os_string()])).await;
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
    }
    // Somebody has written the secrets where their files belong.
    let wrong = gateway.agent.dir().join("wrong.toml");
    let device_key = fs::read_to_string(gateway.agent.dir().join("device.key")).unwrap();
    let mut right: Table = toml::from_str(&fs::read_to_string(gateway.agent.config()).unwrap()).unwrap();
    right["sources"]["broker"]["password_file"] = PASSWORD.into();
    right["destinations"]["cloud"]["credentials"]["key"] = device_key.into();
    fs::write(&wrong, right.to_string()).unwrap();
    for args in [["show", "--config"], ["check", "--files"], ["run", "--config"]] {
        let output = headwater(args.iter().map(Into::into).chain([wrong.clone().into_os_string()])).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
    }
    assert_eq!(seen.matches("is not the path of a file").count(), 6, "both, by each command");
    gateway.agent.stops().await;
    seen += &gateway.agent.last_log();
    assert_eq!(site.provider.asked().len(), 1);

    assert!(seen.contains("TRACE") && seen.contains(HOST), "it was looked at everywhere");
    let key = fs::read_to_string(gateway.agent.dir().join("device.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for secret in [SECRET, TOKEN, PASSWORD, key] {
        let line = seen.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

async fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(path, String::new, connection.read_to_string(&mut answer)).await.unwrap();
    answer
}

const PASSWORD: &str = "open-sesame-of-the-tests";
