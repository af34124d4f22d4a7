//! A disk that can't be used when the agent starts. Mounting one takes root; elsewhere these tests only say that they did nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use super::power::acknowledging;
use crate::support::{consumer::ONCE, gateway::Gateway};

/// A small file system in the place of a gateway's state, gone with its handle.
struct Disk(PathBuf);

impl Disk {
    fn of(gateway: &Gateway) -> Option<Self> {
        let folder = gateway.agent.dir().join("state");
        fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(&folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("not tried: this user may not mount a file system");
        None
    }

    fn is_mounted(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }

    fn of_others(&self) -> PathBuf {
        self.0.join("of-others")
    }

    /// Others take all that is left.
    fn fills(&self) {
        let mut file = File::create(self.of_others()).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone_with_the_machine_otherwise = Command::new("umount").arg("-l").arg(&self.0).status();
    }
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

#[tokio::test]
async fn a_disk_that_is_read_only_at_the_start_is_waited_for_and_nothing_is_lost() {
    let mut gateway = acknowledging().installs().await;
    let Some(disk) = Disk::of(&gateway) else { return };
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
    let Some(disk) = Disk::of(&gateway) else { return };
    disk.fills();

    gateway.agent.start();
    waits_for_the_disk(&gateway).await;
    // The attempt is made under another name, so nothing of it can be taken for damage.
    assert!(!files(&disk.0).iter().any(|file| file == "buffer.db"), "{:?}", files(&disk.0));
    fs::remove_file(disk.of_others()).unwrap();

    gateway.field.is_listened_to().await;
    gateway.field.publishes(5).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn an_agent_that_waits_for_its_disk_stops_when_it_is_told_to() {
    let mut gateway = Gateway::new().installs().await;
    let Some(disk) = Disk::of(&gateway) else { return };
    disk.is_mounted("ro");
    gateway.agent.start();
    waits_for_the_disk(&gateway).await;

    gateway.agent.stops().await;
}
