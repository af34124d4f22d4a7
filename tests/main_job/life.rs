//! How the agent starts, stops, and refuses to start.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::support::{
    consumer::{ONCE, Repeats},
    free_port,
    gateway::Gateway,
    process::{Headwater, command, headwater},
};

#[tokio::test]
async fn systemd_is_told_that_it_is_ready_without_broker_port_or_uplink_how_it_is_and_that_it_stops() {
    let plan = Gateway::new().with_scale().set("sources.broker.url", format!("mqtt://127.0.0.1:{}", free_port()));
    let mut gateway = plan.installs().await;
    gateway.field.line.unplug();
    gateway.cloud.away();
    gateway.agent.is_started_by_systemd();

    gateway.agent.start();
    let ready = gateway.agent.tells_systemd("READY=1").await;
    let status = "STATUS=sending; nothing waits; "; // and what is wrong
    if !ready.contains(status) {
        gateway.agent.tells_systemd(status).await;
    }
    gateway.agent.tells_systemd("WATCHDOG=1").await;

    gateway.agent.terminates();
    gateway.agent.tells_systemd("STOPPING=1").await;
    assert_eq!(gateway.agent.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn what_a_stream_has_buffered_is_still_sent_when_it_is_switched_off() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.away();
    gateway.field.publishes(50).await;
    gateway.holds(50).await;
    gateway.agent.stops().await;

    gateway.is_configured(|plan| plan.set("streams.readings.enabled", false));
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn when_it_is_told_to_stop_everything_that_was_taken_is_on_the_disk_and_acknowledged() {
    let mut gateway = Gateway::new().set("buffer.hold", "1h").starts().await;
    gateway.cloud.black_hole();
    gateway.field.publishes(5).await; // less than half a window, so nothing asks for a write
    gateway.holds(5).await;

    gateway.agent.stops().await;
    gateway.field.broker.kill().await; // and with it what it may have kept
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn when_it_is_told_to_stop_in_full_load_nothing_is_lost_and_nothing_gets_a_second_name() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 2).starts().await;

    for _ in 0..3 {
        let Gateway { field, agent, .. } = &mut gateway;
        tokio::join!(field.publishes(1000), async {
            agent.shows("it takes readings", |status| status.count("/sources/broker/received") > 200).await;
            agent.stops().await;
            agent.start();
        });
    }

    // A chunk of which a part was delivered is sent again as a whole.
    let Repeats { marked, unmarked, .. } = gateway.everything_arrives().await;
    assert_eq!((marked, unmarked), (0, 0));
}

#[tokio::test]
async fn a_hangup_is_answered_in_the_log_and_stops_nothing() {
    let mut gateway = Gateway::new().starts().await;

    gateway.agent.hang_up();
    gateway.agent.logs("SIGHUP").await;
    gateway.field.publishes(10).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn an_absent_broker_port_name_or_endpoint_delays_nothing() {
    let nobody = free_port();
    let plan = Gateway::new()
        .set("sources.ghost.kind", "mqtt")
        .set("sources.ghost.url", format!("mqtt://127.0.0.1:{nobody}"))
        .set("sources.ghost.topics", vec!["#"])
        .set("sources.nowhere.kind", "mqtt")
        .set("sources.nowhere.url", "mqtt://broker.invalid")
        .set("sources.nowhere.topics", vec!["#"])
        .set("sources.unplugged.kind", "serial")
        .set("sources.unplugged.port", "{dir}/usb-nothing")
        .set("sources.unplugged.topic", "nothing")
        .set("destinations.closed.kind", "kinesis")
        .set("destinations.closed.region", "eu-west-1")
        .set("destinations.closed.endpoint", format!("https://127.0.0.1:{nobody}"))
        .set("destinations.unknown.kind", "kinesis")
        .set("destinations.unknown.region", "eu-west-1")
        .set("destinations.unknown.endpoint", "https://kinesis.invalid");
    let plan = plan.stream("stuck", "stuck").set("streams.stuck.destination", "closed");
    let plan = plan.stream("lost", "lost").set("streams.lost.destination", "unknown");
    let mut gateway = plan.starts().await;

    gateway.field.publishes(100).await;

    let delivered = |name: &str| format!("/streams/{name}/ledger/delivered");
    let status = gateway.agent.shows("they arrive", |status| status.count(&delivered("readings")) == 100).await;
    status.balances();
    assert_eq!((status.count(&delivered("stuck")), status.count(&delivered("lost"))), (0, 0));
    gateway.cloud.consumer("plant-readings").lacks_nothing();
    for absent in ["broker.invalid", "usb-nothing", &nobody.to_string()] {
        let named = |problems: Vec<String>| problems.iter().any(|problem| problem.contains(absent));
        gateway.agent.shows(absent, |status| named(status.problems())).await;
    }
    gateway.agent.stops().await;
}

#[tokio::test]
async fn second_process_on_the_same_buffer_is_refused_with_exit_code_3_and_the_name_of_the_first() {
    let mut gateway = Gateway::new().starts().await;
    gateway.agent.status().await;

    let second = headwater(["run".as_ref(), "--config".as_ref(), gateway.agent.config().as_os_str()]).await;

    assert_eq!(second.status.code(), Some(3));
    let says = String::from_utf8_lossy(&second.stderr);
    let owner = format!("process {} (`", gateway.agent.id());
    assert!(says.contains("buffer.db") && says.contains(&owner) && says.contains(" run --config "), "{says}");
    gateway.field.publishes(10).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);

    // Before the first has the file it has the folder: it may be about to rename what is in it, or to make it.
    gateway.agent.stops().await;
    let state = File::open(gateway.agent.dir().join("state")).unwrap();
    flock(&state, FlockOperation::NonBlockingLockExclusive).unwrap();
    gateway.agent.start();
    let (status, log) = gateway.agent.ends().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("buffer.db"), "{log}");
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_exit_code_2_and_every_mistake_by_file_and_line() {
    let mut agent = Headwater::configured("[device]\nid = \"gw-1\"\nidd = 1\n[buffer]\nhold = \"soon\"\nmax_size = \"1 MiB\"\n");

    agent.start();
    let (status, log) = agent.ends().await;

    assert_eq!(status.code(), Some(2));
    let file = agent.config();
    for line in [3, 5] {
        let place = format!("{}:{line}", file.display());
        assert!(log.contains(&place), "{place} is not in {log}");
    }
    assert!(!fs::exists(agent.dir().join("state")).unwrap(), "nothing was started");
}

#[tokio::test]
async fn a_file_that_is_missing_is_looked_for_again_at_the_next_start() {
    let mut agent = Headwater::configured(
        "[device]\nid = \"gw-1\"\n[sources.broker]\nkind = \"mqtt\"\nurl = \"mqtts://127.0.0.1\"\ntopics = [\"#\"]\nca = \"/nowhere/ca.pem\"\n",
    );

    agent.start();
    let (status, log) = agent.ends().await;

    assert_eq!(status.code(), Some(1), "systemd starts it again, as it does not with 2");
    assert!(log.contains("/nowhere/ca.pem"), "{log}");
}

#[tokio::test]
async fn in_the_journal_every_line_that_says_why_it_ended_has_the_priority_of_an_error_and_elsewhere_it_is_plain() {
    let wrong = "[device]\nidd = 1\n[buffer]\nhold = \"soon\"\n";
    let lacks_a_file =
        "[device]\nid = \"gw-1\"\n[destinations.cloud]\nkind = \"kinesis\"\nregion = \"eu-west-1\"\nca = \"/nowhere/ca.pem\"\n";
    for (config, option, code, lines) in [(wrong, "--config", 2, 2), (lacks_a_file, "--config", 1, 1), ("", "--confg", 2, 3)] {
        let agent = Headwater::configured(config);
        let (path, stderr) = (agent.config(), agent.dir().join("stderr"));
        // As systemd tells it: `this` is what stderr is, or was where it leads elsewhere now.
        let said = async |this: &Path| {
            let file = File::create(&stderr).unwrap();
            let this = fs::metadata(this).unwrap();
            let mut command = command();
            command.args(["run", option]).arg(&path).env("JOURNAL_STREAM", format!("{}:{}", this.dev(), this.ino())).stderr(file);
            assert_eq!(command.status().await.unwrap().code(), Some(code));
            fs::read_to_string(&stderr).unwrap()
        };

        let (plain, in_the_journal) = (said(agent.dir()).await, said(&stderr).await);

        assert!(plain.lines().count() >= lines && !plain.contains("<3>"), "{plain}");
        assert_eq!(in_the_journal, format!("<3>{}\n", plain.trim_end().replace('\n', "\n<3>")));
    }
}
