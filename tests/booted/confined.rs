//! What the unit keeps from the agent, and what it must not keep from it.

use crate::{
    board::{Board, Network, Package, settings},
    support::{cloud::STREAM, gateway::Plan, process::Picture},
};

/// Serial ports of drivers that the unit knows by their number, and the last one by its name. So many of them no machine has, so none has a
/// device.
const PORTS: [(&str, &str); 5] =
    [("ttyUSB200", "188 200"), ("ttyACM200", "166 200"), ("rfcomm200", "216 200"), ("ttyAMA15", "204 79"), ("ttyS31", "4 95")];

#[tokio::test]
async fn serial_ports_are_within_reach_of_the_agent_with_the_group_dialout_and_other_devices_are_not() {
    let all: Vec<&str> = PORTS.iter().map(|(port, _)| *port).chain(["ttyUSB201", "tunnel"]).collect();
    let plan = all.iter().fold(settings(), |plan, port| with_port(plan, port)).set("streams.readings.from", all);
    // Where its own systemd may fence devices off.
    let board = Board::on(Network::Nothing, Package::Now, plan).await;
    board.is_configured();
    for (port, numbers) in PORTS {
        board.does(&format!("mknod --mode=660 /dev/{port} c {numbers} && chgrp dialout /dev/{port}")).await;
    }
    board.does("mknod --mode=660 /dev/ttyUSB201 c 188 201").await;
    // Anyone may open it, but for the fence.
    board.does("mknod --mode=666 /dev/tunnel c 10 200 && setpriv --reuid=daemon --clear-groups sh -c ': <> /dev/tunnel'").await;

    board.does("systemctl start headwater").await;

    for (port, _) in PORTS {
        // Which only its driver says.
        error_of(&board, port, &format!("serial port /dev/{port} can't be set to 9600 baud")).await;
    }
    error_of(&board, "ttyUSB201", "serial port /dev/ttyUSB201 may not be opened").await;
    error_of(&board, "tunnel", "serial port /dev/tunnel is none of the devices that this service may open").await;
}

#[tokio::test]
async fn what_was_stored_before_a_restart_is_corrected_when_a_time_server_answers_after_it() {
    let mut board = Board::with(Package::Now, settings()).await;
    board.is_configured();
    board.does("mkdir -p /run/systemd/timesync && systemctl start headwater").await;
    board.gateway.field.is_listened_to().await;
    board.gateway.cloud.away();
    board.gateway.field.publishes(50).await;
    board.gateway.holds(50).await;

    board.does("systemctl restart headwater").await;
    board.gateway.holds(50).await;
    assert_eq!(board.gateway.agent.status().await.text("/clock/state"), "unsure");
    board.writes("run/systemd/timesync/synchronized", "");
    board.gateway.agent.shows("the clock is right", |status| status.text("/clock/state") == "right").await;
    board.gateway.cloud.back();

    assert_eq!(board.everything_arrives().await.unmarked, 0);
    let marks: Vec<_> = board.gateway.cloud.readings(STREAM).into_iter().map(|reading| reading.clk).collect();
    assert_eq!(marks, vec![Some("corrected".to_owned()); 50]);

    // A unit that prevents it does not go unnoticed.
    let consequence = "readings from before a restart are not corrected";
    assert!(!board.journal().await.contains(consequence));
    board.has_drop_in("[Service]\nProcSubset=pid\n").await;
    board.does("systemctl restart headwater").await;
    board.says(consequence).await;
}

/// Adds a source that reads a device of the board.
fn with_port(plan: Plan, port: &str) -> Plan {
    let at = |key: &str| format!("sources.{port}.{key}");
    plan.set(&at("kind"), "serial").set(&at("port"), format!("/dev/{port}")).set(&at("topic"), format!("plant/{port}"))
}

/// Waits until the status says this of a source.
async fn error_of(board: &Board, source: &str, wanted: &str) {
    let pointer = format!("/sources/{source}/error");
    let says = |status: &Picture| status.text(&pointer).starts_with(wanted);
    board.gateway.agent.shows(&format!("{source} says: {wanted}"), says).await;
}
