//! A gateway that is upgraded or downgraded keeps its readings, and their names.

use crate::{
    board::{Board, Package, settings},
    support::{
        cloud::STREAM,
        consumer::{ONCE, Repeats},
        process::Picture,
    },
};

#[tokio::test]
async fn an_upgrade_restarts_the_agent_and_a_buffer_that_is_full_arrives_under_the_names_that_it_had() {
    // The smallest that there is.
    let plan = settings().set("buffer.max_size", "8 MiB").set("buffer.memory", "1 MiB").set("buffer.when_full", "block");
    let mut board = Board::running(Package::Earlier, plan.window(200)).await;
    board.writes("etc/headwater/environment", "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=edited\n");
    let before = (board.unit("MainPID").await, board.gateway.agent.status().await.text("/run").to_owned());
    board.gateway.cloud.away();
    board.gateway.field.pads(20_000);
    board.gateway.field.publishes(500).await; // nearly twice what fits; the broker keeps the rest
    let is_full = |status: &Picture| status.problems().iter().any(|problem| problem.contains("may not drop"));
    board.gateway.agent.shows("it is full", is_full).await;

    board.installs(Package::Now).await;

    assert_eq!(board.unit("ActiveState").await, "active");
    assert_ne!(board.unit("MainPID").await, before.0, "the new program runs");
    assert!(board.reads("etc/headwater/environment").contains("edited"));
    board.gateway.agent.shows("it is full", is_full).await;
    board.gateway.cloud.back();
    assert_eq!(board.everything_arrives().await, ONCE);
    let readings = board.gateway.cloud.readings(STREAM);
    let of_before = readings.partition_point(|reading| reading.run == before.1);
    assert!((150..400).contains(&of_before), "{of_before}: names are kept");
    assert!(readings[of_before..].iter().all(|reading| reading.run != before.1));
}

#[tokio::test]
async fn a_downgrade_loses_nothing_whether_the_older_program_refuses_the_newer_buffer_or_reads_it() {
    let mut board = Board::running(Package::Now, settings()).await;
    board.gateway.cloud.away();
    board.gateway.field.publishes(200).await;
    board.gateway.holds(200).await;

    board.installs(Package::Earlier).await;
    // Either way the broker keeps what is not acknowledged.
    board.gateway.field.publishes(50).await;
    board.gateway.cloud.back();
    board.installs(Package::Now).await;

    let Repeats { unmarked, .. } = board.everything_arrives().await;
    assert_eq!(unmarked, 0);
}
