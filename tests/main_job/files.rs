//! A stream that leads to files on a disk, for a site without a network.

use crate::support::{
    consumer::{ONCE, Reading},
    disk::Disk,
    eventually,
    files::{Files, is_open},
    gateway::Gateway,
};

#[tokio::test]
async fn readings_lie_in_files_once_and_in_order_and_no_file_is_left_unfinished() {
    let plan = Gateway::new().into_files().window(200).set("streams.readings.lanes", 3).set("streams.readings.stream", "");
    let mut gateway = plan.set("streams.readings.encoding", "json").set("destinations.disk.file_size", "20 kB").installs().await;
    let files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(2000).await;

    assert_eq!(files.everything_is_in(&gateway).await, ONCE);
    gateway.agent.stops().await;
    let names = files.names();
    assert!(names.len() > 1, "{names:?}");
    let finished = |name: &String| name.starts_with("gw-1-20") && name.ends_with("Z-readings.jsonl");
    assert!(names.iter().all(finished), "{names:?}");
    assert_eq!(files.records().len(), 2000);
}

#[tokio::test]
async fn finished_files_are_compressed_and_zstd_reads_them() {
    let plan = Gateway::new().into_files().window(200).set("streams.readings.stream", "plant");
    let plan = plan.set("destinations.disk.compress", "zstd").set("destinations.disk.file_size", "10 kB");
    let mut gateway = plan.installs().await;
    let files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(2000).await;

    assert_eq!(files.everything_is_in(&gateway).await, ONCE);
    let (open, finished): (Vec<_>, Vec<_>) = files.names().into_iter().partition(|name| is_open(name));
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(finished.len() > 1 && finished.iter().all(|name| name.ends_with("Z-plant.cborseq.zst")), "{finished:?}");
}

#[tokio::test]
async fn power_cuts_in_full_load_lose_nothing_and_leave_whole_lines() {
    let plan = Gateway::new().into_files().window(200).set("streams.readings.encoding", "json").set("buffer.hold", "50ms");
    let mut gateway = plan.set("destinations.disk.file_size", "30 kB").installs().await;
    let files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    for _ in 0..6 {
        let Gateway { field, agent, .. } = &mut gateway;
        tokio::join!(field.publishes(400), async {
            agent.shows("it writes files", |status| status.count("/ledger/delivered") > 100).await;
            agent.power_off().await;
            agent.start();
        });
    }

    assert_eq!(files.everything_is_in(&gateway).await.unmarked, 0);
}

#[tokio::test]
async fn what_a_power_cut_tore_is_cut_off_and_the_rest_of_the_file_is_finished() {
    let mut gateway = Gateway::new().into_files().set("streams.readings.encoding", "json").installs().await;
    let files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(50).await;
    files.everything_is_in(&gateway).await;
    gateway.agent.power_off().await;
    let part = gateway.agent.dir().join("files").join(&files.names()[0]);
    let mut content = std::fs::read(&part).unwrap();
    content.extend_from_slice(b"{\"v\":1,\"dev\":\"gw-1\",\"ru\0\0\0\0");
    std::fs::write(&part, content).unwrap();

    gateway.agent.start_until("its end was not whole").await;
    gateway.field.publishes(50).await;

    let repeats = files.everything_is_in(&gateway).await;
    assert_eq!((repeats.marked, repeats.unmarked), (0, 0), "what was written and not known to be is there twice, by name");
    let names = files.names();
    assert!(names.len() == 2 && !is_open(&names[0]) && is_open(&names[1]), "{names:?}");
}

#[tokio::test]
async fn while_the_folder_is_not_there_readings_wait_and_the_status_says_what_to_do() {
    let mut gateway = Gateway::new().into_files().starts().await;
    let files = Files::of(&gateway);

    gateway.field.publishes(100).await;
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    let problems = status.problems();
    assert!(problems[0].contains("/files can't be used") && problems[0].contains("mount its disk"), "{problems:?}");
    assert_eq!(status.text("/state"), "buffering");
    gateway.holds(100).await;
    assert!(files.names().is_empty());
    files.appear();

    assert_eq!(files.everything_is_in(&gateway).await, ONCE);
    assert!(gateway.agent.status().await.problems().is_empty());
}

#[tokio::test]
async fn a_full_folder_is_waited_out_and_the_files_that_are_taken_away_are_whole() {
    let plan = Gateway::new().into_files().window(200).set("destinations.disk.file_size", "20 kB");
    let mut gateway = plan.set("destinations.disk.max_size", "100 kB").installs().await;
    let mut files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(2000).await;
    let full = |problem: &String| problem.contains("holds 100 kB of our files");
    let status = gateway.agent.shows("it is full", |status| status.problems().iter().any(full)).await;
    assert!(status.count("/ledger/buffered") > 0);

    everything_leaves(&gateway, &mut files).await;
    assert_eq!(files.everything_is_in(&gateway).await, ONCE);
}

/// Takes away what is finished until nothing waits.
async fn everything_leaves(gateway: &Gateway, files: &mut Files) {
    eventually("nothing waits", async || {
        files.take_finished();
        match gateway.agent.status().await.count("/ledger/buffered") {
            0 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_is_full_to_the_last_byte_is_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(folder.path(), 4) else { return };
    let plan = Gateway::new().into_files().window(200).set("destinations.disk.path", disk.folder().display().to_string());
    let mut gateway = plan.set("destinations.disk.file_size", "1 MiB").starts().await;
    let mut files = Files::at(disk.folder(), &gateway);
    gateway.field.pads(1500);

    gateway.field.publishes(4000).await;
    let full = |problem: &String| problem.contains("can't be written") || problem.contains("keep_free");
    gateway.agent.shows("it is full", |status| status.problems().iter().any(full)).await;
    everything_leaves(&gateway, &mut files).await;

    assert_eq!(files.everything_is_in(&gateway).await, ONCE);
}

#[tokio::test]
async fn a_destination_that_is_away_holds_back_nobody_else() {
    let plan = Gateway::new().folder("disk").stream("archive", "archive").set("streams.archive.destination", "disk");
    let mut gateway = plan.installs().await;
    let files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    let waits = |stream: &str, readings: u64| {
        let at = format!("/streams/{stream}/ledger/buffered");
        move |status: &crate::support::process::Picture| status.count(&at) == readings
    };
    let (cloud, archive) = (waits("readings", 300), waits("archive", 0));

    gateway.cloud.away();
    gateway.field.publishes(300).await;
    gateway.agent.shows("the files go on", |status| cloud(status) && archive(status)).await.balances();
    gateway.cloud.back();
    assert_eq!(gateway.everything_arrives().await, ONCE);

    files.vanish();
    let (cloud, archive) = (waits("readings", 0), waits("archive", 300));
    gateway.field.publishes(300).await;
    gateway.agent.shows("the cloud goes on", |status| cloud(status) && archive(status)).await.balances();
    files.appear();
    assert_eq!(gateway.everything_arrives().await, ONCE);
    let later: Vec<_> = files.records().iter().map(|record| Reading::decode(record).seq).collect();
    assert_eq!(later, (300..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn with_a_clock_that_nobody_sets_files_are_written_all_the_same() {
    let mut gateway = Gateway::new().into_files().with_a_clock().installs().await;
    gateway.agent.clock().is_in_1970();
    let files = Files::of(&gateway);
    files.appear();
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(50).await;

    assert_eq!(files.everything_is_in(&gateway).await, ONCE);
}

#[tokio::test]
async fn tail_says_where_the_files_are() {
    let gateway = Gateway::new().into_files().starts().await;

    let mut tail = gateway.agent.tails("readings");

    assert_eq!(tail.ends().await.code(), Some(1));
    let says = tail.err.to_the_end().await;
    assert!(says.contains("[streams.readings] leads to files") && says.contains("/files/*-plant-readings*"), "{says}");
}
