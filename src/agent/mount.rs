//! Whether a folder can be written by others, and not by this process.
//!
//! systemd gives a service its own view of the file systems, which is made when the service starts. A file system that is read-only then,
//! and is mounted for writing later, stays read-only in that view.

use std::{fs, path::Path};

/// Whether the file system of `folder` can be written, but not through the mount that this process has of it. An answer that can't be had
/// is a no.
pub(super) fn is_read_only_for_us_alone(folder: &Path) -> bool {
    let (Ok(mounts), Ok(folder)) = (fs::read_to_string("/proc/self/mountinfo"), folder.canonicalize()) else { return false };
    mount_of(&mounts, &folder).is_some_and(|mount| mount.is_read_only && !mount.file_system_is_read_only)
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    is_read_only: bool,
    file_system_is_read_only: bool,
}

/// The mount that `folder` is on.
///
/// Shape: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD…] - TYPE SOURCE FILE_SYSTEM_OPTIONS`, one line a mount; of two on one point the
/// later one is on top. A blank in a path is `\040`. Source: `proc_pid_mountinfo(5)`.
fn mount_of(mounts: &str, folder: &Path) -> Option<Mount> {
    let on_the_way = mounts.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (point, options) = (mount.next()?.replace("\\040", " "), mount.next()?);
        let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
        let mount =
            Mount { is_read_only: is_read_only(options), file_system_is_read_only: is_read_only(file_system.split(' ').nth(2)?) };
        folder.starts_with(&point).then_some((point.len(), mount))
    });
    on_the_way.max_by_key(|(depth, _)| *depth).map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    // As a service of systemd's saw it: the file system was mounted for writing after the service had started.
    const MOUNTS: &str = r"326 325 0:39 / / ro,nosuid,relatime shared:60 master:2 - overlay overlay rw,uuid=on
363 326 0:57 / /var/lib/headwater rw,nosuid,relatime shared:92 master:45 - tmpfs tmpfs rw,mode=750
360 363 0:57 / /var/lib/headwater ro,nosuid,relatime shared:93 master:45 - tmpfs tmpfs rw,mode=750
361 326 8:1 / /media/my\040card rw,relatime - ext4 /dev/sda1 ro,errors=remount-ro
";

    fn of(folder: &str) -> Option<(bool, bool)> {
        mount_of(MOUNTS, Path::new(folder)).map(|mount| (mount.is_read_only, mount.file_system_is_read_only))
    }

    #[test]
    fn the_mount_of_a_folder_is_the_nearest_and_topmost_one() {
        assert_eq!(of("/var/lib/headwater"), Some((true, false)));
        assert_eq!(of("/var/lib/headwater/north"), Some((true, false)));
        assert_eq!(of("/media/my card/headwater"), Some((false, true)), "errors=remount-ro is no ro");
        assert_eq!(of("/var/lib/headwater-north"), Some((true, false)), "which is the root's");
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn a_folder_that_we_can_write_to_is_no_such_folder() {
        assert!(!is_read_only_for_us_alone(&std::env::temp_dir()));
        assert!(!is_read_only_for_us_alone(Path::new("/nowhere")));
    }
}
