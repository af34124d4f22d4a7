//! A disk that can't be used, from the start or from some moment on. Mounting one takes root; where that is missing, the tests that need it
//! say that they are left out, and those with a quota remain.

use std::{fs, path::Path};

use super::power::acknowledging;
use crate::support::{
    consumer::{ONCE, Repeats},
    disk::{Disk, Quota},
    gateway::{Gateway, Plan},
    process::Picture,
};

/// Where the buffer is.
fn state(gateway: &Gateway) -> std::path::PathBuf {
    gateway.agent.dir().join("state")
}

/// Waits until the status says that the buffer does not open.
async fn waits_for_the_disk(gateway: &Gateway) {
    let waits = |problem: &String| problem.contains("cannot open the buffer");
    let shown = gateway.agent.shows("it waits for the disk", |status| status.problems().iter().any(waits)).await;
    assert_eq!(shown.text("/state"), "holding");
}

fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

// The row "disk full anyway, I/O error, read-only remount" of the table "what happens when".

/// What is sent before the disk fails, while it fails and the link is good, and while both are away.
const BEFORE: u64 = 15;
const WITH_A_LINK: u64 = 100;
const WITHOUT: u64 = 100;
const ALL: u64 = BEFORE + WITH_A_LINK + WITHOUT;

/// A gateway that keeps what it has, and whose broker logs what is acknowledged.
fn keeping() -> Plan {
    acknowledging().set("buffer.hold", "1s").set("buffer.when_full", "block")
}

/// Lets the disk fail by `fails`: before that, some readings are on it; then the link is good, and then it is not, when the disk fails once
/// more, whatever it still had. Checks that readings go on from memory while the link is good, and that sources are held when it is not.
/// Says how many are acknowledged then.
async fn goes_on_from_memory_and_holds_sources(gateway: &mut Gateway, mut fails: impl FnMut(&Gateway)) -> usize {
    let acknowledged = |gateway: &Gateway| gateway.field.hears("Received PUBACK from headwater-gw-1-broker");
    gateway.cloud.away();
    gateway.field.publishes(BEFORE).await;
    gateway.field.is_acknowledged(usize::try_from(BEFORE).unwrap()).await;

    fails(gateway);
    gateway.cloud.back();
    gateway.field.publishes(WITH_A_LINK).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.field.is_acknowledged(usize::try_from(BEFORE + WITH_A_LINK).unwrap()).await;

    fails(gateway);
    gateway.cloud.away();
    gateway.field.publishes(WITHOUT).await;
    let held = |status: &Picture| status.problems().iter().any(|problem| problem.contains("sources wait"));
    gateway.agent.shows("the sources are held", held).await.balances();
    let acknowledged = acknowledged(gateway);
    assert!((acknowledged as u64) < ALL, "{acknowledged}");
    acknowledged
}

/// Checks that the agent goes on by itself now that the disk is well, although the link is still away, and that what it acknowledged is
/// on the disk.
async fn recovers_by_itself(mut gateway: Gateway) {
    gateway.field.is_acknowledged(usize::try_from(ALL).unwrap()).await;
    // That it was full a moment ago stands there for a minute.
    let fails = |status: &Picture| status.problems().iter().any(|problem| problem.contains("cannot write to the buffer"));
    let well = |status: &Picture| status.text("/state") != "holding" && !fails(status);
    gateway.agent.shows("the disk is well", well).await.balances();

    gateway.agent.power_off().await;
    gateway.field.broker.kill().await; // and with it what it may have kept
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn disk_full_anyway_readings_go_on_from_memory_else_sources_are_held_until_there_is_room() {
    let mut gateway = keeping().installs().await;
    let Some(disk) = Disk::on_a_card(&state(&gateway), 64) else { return };
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.pads(20_000); // what is free inside the file takes few of them

    goes_on_from_memory_and_holds_sources(&mut gateway, |_| disk.fills()).await;
    disk.has_room();

    recovers_by_itself(gateway).await;
}

#[tokio::test]
async fn disk_full_anyway_although_the_file_system_tells_of_room_sources_are_held_until_there_is_some() {
    let mut gateway = keeping().installs().await;
    let quota = Quota::of(&mut gateway.agent);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.pads(20_000);

    goes_on_from_memory_and_holds_sources(&mut gateway, |_| quota.is_used_up()).await;
    quota.is_raised();

    recovers_by_itself(gateway).await;
}

#[tokio::test]
async fn io_error_readings_go_on_from_memory_else_sources_are_held_until_it_has_passed() {
    let mut gateway = keeping().installs().await;
    gateway.agent.lives_on_a_frail_disk();
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    let acknowledged = goes_on_from_memory_and_holds_sources(&mut gateway, |gateway| gateway.agent.cannot_write()).await;
    assert_eq!(acknowledged as u64, BEFORE + WITH_A_LINK, "nothing could be written");
    gateway.agent.can_write();

    recovers_by_itself(gateway).await;
}

#[tokio::test]
async fn read_only_remount_readings_go_on_from_memory_else_sources_are_held_until_the_machine_is_restarted() {
    let mut gateway = keeping().installs().await;
    let Some(disk) = Disk::on_a_card(&state(&gateway), 64) else { return };
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    let mut once = Some(());
    let fails = |_: &Gateway| once.take().into_iter().for_each(|()| disk.becomes_read_only());
    let acknowledged = goes_on_from_memory_and_holds_sources(&mut gateway, fails).await;
    assert_eq!(acknowledged as u64, BEFORE + WITH_A_LINK, "nothing could be written");
    gateway.agent.power_off().await;
    disk.is_repaired();
    gateway.cloud.back();
    gateway.agent.start();

    // What was delivered could not be deleted, so it comes again under its name; what was not acknowledged comes from the broker.
    let Repeats { same_name, marked, unmarked } = gateway.everything_arrives().await;
    assert!(same_name <= BEFORE && (marked, unmarked) == (0, 0), "{same_name}, {marked}, {unmarked}");
    assert_eq!(gateway.agent.status().await.problems(), Vec::<String>::new());
    gateway.agent.stops().await;
}

// A disk that can't be used when the agent starts.

#[tokio::test]
async fn a_disk_that_is_read_only_at_the_start_is_waited_for_and_nothing_is_lost() {
    let mut gateway = acknowledging().installs().await;
    let Some(disk) = Disk::in_memory(&state(&gateway), 32) else { return };
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.cloud.away();
    gateway.field.publishes(15).await;
    gateway.field.is_acknowledged(15).await;
    gateway.agent.power_off().await;
    disk.is_mounted("ro");
    gateway.cloud.back();

    gateway.agent.start();
    waits_for_the_disk(&gateway).await;
    gateway.field.publishes(5).await;
    disk.is_mounted("rw");

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.agent.status().await.problems(), Vec::<String>::new());
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_disk_that_is_full_before_there_is_a_buffer_is_waited_for() {
    let mut gateway = Gateway::new().installs().await;
    let Some(disk) = Disk::in_memory(&state(&gateway), 32) else { return };
    disk.fills();

    gateway.agent.start();
    waits_for_the_disk(&gateway).await;
    // The attempt is made under another name, so nothing of it can be taken for damage.
    assert!(!files(disk.folder()).iter().any(|file| file == "buffer.db"), "{:?}", files(disk.folder()));
    disk.has_room();

    gateway.field.is_listened_to().await;
    gateway.field.publishes(5).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn systemd_is_told_that_it_is_ready_and_waits_for_its_disk_and_that_it_goes_on() {
    let mut gateway = Gateway::new().installs().await;
    let Some(disk) = Disk::in_memory(&state(&gateway), 32) else { return };
    disk.is_mounted("ro");
    gateway.agent.is_started_by_systemd();

    gateway.agent.start();
    let ready = gateway.agent.tells_systemd("READY=1").await;
    assert!(ready.contains("STATUS=holding; cannot open the buffer"), "{ready}");
    gateway.agent.tells_systemd("WATCHDOG=1").await;
    disk.is_mounted("rw");

    gateway.agent.tells_systemd("STATUS=sending; nothing waits").await;
    gateway.agent.stops().await;
}

#[tokio::test]
async fn an_agent_that_waits_for_its_disk_stops_when_it_is_told_to() {
    let mut gateway = Gateway::new().installs().await;
    let Some(disk) = Disk::in_memory(&state(&gateway), 32) else { return };
    disk.is_mounted("ro");
    gateway.agent.start();
    waits_for_the_disk(&gateway).await;

    gateway.agent.stops().await;
}

#[tokio::test]
async fn what_others_take_of_the_disk_is_told_while_nothing_is_written_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(folder.path(), 16) else { return };
    let gateway = Gateway::new().set("device.state_dir", disk.folder().display().to_string()).starts().await;
    let before = gateway.agent.shows("how much is free", |status| status.count("/disk/free") > 0).await.count("/disk/free");

    fs::write(disk.folder().join("of-others"), vec![1; 4 << 20]).unwrap();

    gateway.agent.shows("less is free", |status| status.count("/disk/free") + (3 << 20) < before).await;
}
