//! What systemd makes of an agent that hangs, crashes or is wrong, and what becomes of readings when it or the whole board stops.

use crate::{
    board::{Board, Network, Package, settings},
    support::{
        consumer::{ONCE, Repeats},
        free_port,
    },
};

#[tokio::test]
async fn it_is_ready_without_a_broker_and_an_uplink_and_says_how_it_is() {
    let plan = settings().set("sources.broker.url", format!("mqtt://127.0.0.1:{}", free_port()));
    let board = Board::with(Package::Now, plan).await;
    board.gateway.cloud.away();
    board.is_configured();

    board.does("systemctl start headwater").await; // comes back when the agent is ready, and fails when it is not

    assert_eq!((board.unit("ActiveState").await, board.unit("SubState").await), ("active".into(), "running".into()));
    board.shows("StatusText", |line| line.starts_with("sending; nothing waits; ") && line.contains("broker")).await;
    assert!(board.does("headwater status").await.contains("broker"));
}

#[tokio::test]
async fn an_agent_that_hangs_is_killed_by_the_watchdog_and_started_again() {
    let mut board = Board::with(Package::Now, settings()).await;
    board.is_configured();
    board.has_drop_in("[Service]\nWatchdogSec=4s\nRestartSec=100ms\n").await;
    board.does("systemctl start headwater").await;
    board.gateway.field.is_listened_to().await;
    board.gateway.field.publishes(50).await;

    board.does("kill -STOP $(systemctl show --value --property MainPID headwater)").await;
    board.gateway.field.publishes(50).await;

    board.shows("NRestarts", |restarts| restarts != "0").await;
    assert!(board.journal().await.contains("Watchdog timeout"));
    let Repeats { unmarked, .. } = board.everything_arrives().await;
    assert_eq!(unmarked, 0);
}

#[tokio::test]
async fn however_often_it_crashes_systemd_starts_it_again() {
    let mut board = Board::with(Package::Now, settings()).await;
    board.is_configured();
    board.has_drop_in("[Service]\nRestartSec=10ms\n").await;
    board.does("systemctl start headwater").await;

    // Twice as often as systemd would put up with by itself.
    for crash in 1..=10_u32 {
        board.does("kill -KILL $(systemctl show --value --property MainPID headwater)").await;
        board.shows("NRestarts", |restarts| restarts.parse::<u32>().is_ok_and(|restarts| restarts >= crash)).await;
        board.shows("ActiveState", |state| state == "active").await;
    }

    board.gateway.field.is_listened_to().await;
    board.gateway.field.publishes(50).await;
    board.everything_arrives().await;
}

#[tokio::test]
async fn a_panic_is_told_in_a_line_with_the_priority_of_an_error_and_systemd_starts_the_agent_again() {
    let mut board = Board::running(Package::Now, settings()).await;
    board.has_library("usr/lib/clockless.so", "tests/booted/clockless.c");
    board.has_drop_in("[Service]\nRestartSec=100ms\nEnvironment=LD_PRELOAD=/usr/lib/clockless.so\n").await;
    board.does("systemctl restart headwater").await;
    board.gateway.cloud.away();
    board.gateway.field.publishes(50).await;
    board.gateway.holds(50).await;

    board.writes("run/headwater/clockless", ""); // systemd removes it with the folder when the agent has ended
    board.shows("NRestarts", |restarts| restarts != "0").await;
    board.shows("ActiveState", |state| state == "active").await;

    let errors = board.errors("headwater").await;
    // More than one, where several threads ask at once.
    let is_told =
        |line: &str| line.starts_with("a bug at ") && line.contains("Invalid argument") && line.contains("please report it");
    assert!(!errors.is_empty() && errors.lines().all(is_told), "{errors}");
    let journal = board.journal().await;
    assert!(journal.contains("code=killed, status=6/ABRT"), "{journal}");
    board.gateway.cloud.back();
    let Repeats { unmarked, .. } = board.everything_arrives().await;
    assert_eq!(unmarked, 0);
}

#[tokio::test]
async fn a_disk_that_is_read_only_when_the_board_starts_is_waited_for_and_the_board_starts_all_the_same() {
    let mut board = Board::running(Package::Now, settings()).await;
    board.writes("etc/fstab", "tmpfs /var/lib/headwater tmpfs ro,uid=headwater,gid=headwater,mode=750 0 0\n");
    board.shuts_down().await;
    board.gateway.field.publishes(20).await; // which the broker keeps

    board.boots(Network::Shared).await;
    assert_eq!((board.unit("ActiveState").await, board.unit("SubState").await), ("active".into(), "running".into()));
    board.shows("StatusText", |line| line.starts_with("holding; cannot open the buffer /var/lib/headwater/buffer.db")).await;
    board.does("mount -o remount,rw /var/lib/headwater").await;

    // What systemd has shown it of the file systems stays read-only, so it takes a new start, and that is its own affair.
    board.everything_arrives().await;
    assert_eq!(board.unit("NRestarts").await, "1");
    let journal = board.journal().await;
    assert!(journal.contains("/var/lib/headwater can be written now, but stays read-only for this process"), "{journal}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_it_once_and_whatever_ends_it_is_told_with_the_priority_of_an_error() {
    let board = Board::with(Package::Now, settings()).await;
    board.writes("etc/headwater/gateway.toml", "[buffer]\nhold = \"soon\"\n");
    let starts = async || board.tries("systemctl start headwater").await.0;

    assert!(!starts().await);
    assert_eq!((board.unit("ActiveState").await, board.unit("ExecMainStatus").await), ("failed".into(), "2".into()));
    assert_eq!(board.unit("NRestarts").await, "0");
    let errors = board.errors("headwater").await;
    assert!(errors.starts_with("/etc/headwater/gateway.toml:2"), "{errors}");

    board.is_configured();
    board.does("rm /etc/headwater/office.pem").await;
    assert!(!starts().await);
    let errors = board.errors("headwater").await;
    assert!(errors.contains("\nheadwater: /etc/headwater/gateway.toml:") && errors.contains("office.pem"), "{errors}");

    board.is_configured();
    board.does("systemctl restart headwater").await;
    // What this one says at its end comes when its log has begun.
    assert!(!board.tries("systemd-run --quiet --wait --unit=second -p User=headwater headwater run").await.0);
    let errors = board.errors("second").await;
    assert!(errors.starts_with("headwater: the buffer /var/lib/headwater/buffer.db is in use by process"), "{errors}");
}

#[tokio::test]
async fn in_full_load_and_with_an_uplink_that_hangs_it_stops_within_10_s_and_loses_nothing() {
    let mut board = Board::with(Package::Now, settings()).await;
    board.is_configured();
    board.has_drop_in("[Service]\nTimeoutStopSec=10s\n").await; // after which systemd would kill it, and tell
    board.does("systemctl start headwater").await;
    board.gateway.field.is_listened_to().await;
    board.gateway.cloud.black_hole();

    let Board { gateway, .. } = &mut board;
    gateway.field.publishes(200).await;
    gateway.agent.shows("it has taken some", |status| status.count("/ledger/received") > 100).await;
    board.does("systemctl stop headwater").await;

    assert_eq!((board.unit("Result").await, board.unit("ExecMainStatus").await), ("success".into(), "0".into()));
    board.gateway.cloud.back();
    board.does("systemctl start headwater").await;
    let Repeats { marked, unmarked, .. } = board.everything_arrives().await;
    assert_eq!((marked, unmarked), (0, 0));
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_of_the_board() {
    let mut board = Board::running(Package::Now, settings()).await;
    board.gateway.cloud.away();
    board.gateway.field.publishes(500).await;
    board.gateway.holds(500).await;
    let written = |status: &crate::support::process::Picture| status.count("/disk/used") > 0;
    board.gateway.agent.shows("it writes", written).await;

    board.loses_power().await;
    board.gateway.cloud.back();
    board.boots(Network::Shared).await;

    assert_eq!(board.unit("ActiveState").await, "active", "it has started with the board");
    let Repeats { unmarked, .. } = board.everything_arrives().await;
    assert_eq!(unmarked, 0);
}

#[tokio::test]
async fn a_board_without_a_network_collects_and_what_it_has_arrives_when_there_is_one() {
    let plan = settings().set("sources.broker.url", "mqtt://127.0.0.1:1883").set("buffer.hold", "100ms");
    let mut board = Board::with(Package::Now, plan).await;
    board.is_configured();
    board.does("cp /usr/share/doc/headwater/examples/mosquitto/headwater.conf /etc/mosquitto/conf.d/").await;
    board.shuts_down().await;

    board.boots(Network::Nothing).await;
    assert_eq!(board.unit("ActiveState").await, "active", "it has started with the board");
    board.does("systemctl start mosquitto").await;
    board.gateway.agent.shows("it has found the broker", |status| status.text("/sources/broker/state") == "connected").await;
    board.does("seq 20 | mosquitto_pub -h 127.0.0.1 -q 1 -t plant/1/temp -l").await;
    board.gateway.holds(20).await;
    board.shuts_down().await;

    board.boots(Network::Shared).await;
    board.gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == 20).await;
    let consumer = board.gateway.cloud.consumer("plant-readings");
    consumer.lacks_nothing();
    assert_eq!((consumer.distinct(), consumer.repeats), (20, ONCE));
}
