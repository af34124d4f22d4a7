//! A gateway that is upgraded or downgraded keeps its readings, and their names.

use crate::{
    board::{Board, Package, settings},
    support::{
        cloud::STREAM,
        consumer::{ONCE, Repeats},
    },
};

#[tokio::test]
async fn an_upgrade_restarts_the_agent_and_its_backlog_arrives_under_the_names_that_it_had() {
    let mut board = Board::running(Package::Earlier, settings()).await;
    board.writes("etc/headwater/environment", "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=edited\n");
    let before = (board.unit("MainPID").await, board.gateway.agent.status().await.text("/run").to_owned());
    board.gateway.cloud.away();
    board.gateway.field.pads(1000);
    board.gateway.field.publishes(3000).await;
    board.gateway.holds(3000).await;

    board.installs(Package::Now).await;

    assert_eq!(board.unit("ActiveState").await, "active");
    assert_ne!(board.unit("MainPID").await, before.0, "the new program runs");
    assert!(board.reads("etc/headwater/environment").contains("edited"));
    board.gateway.holds(3000).await;
    board.gateway.field.publishes(100).await;
    board.gateway.cloud.back();
    assert_eq!(board.everything_arrives().await, ONCE);
    let readings = board.gateway.cloud.readings(STREAM);
    assert!(readings[..3000].iter().all(|reading| reading.run == before.1), "names are kept");
    assert!(readings[3000..].iter().all(|reading| reading.run != before.1));
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
