//! What the unit keeps from the agent, and what it must not keep from it.

use crate::{
    board::{Board, Package, settings},
    support::cloud::STREAM,
};

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
