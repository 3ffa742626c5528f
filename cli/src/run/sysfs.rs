//! `/sys` of a container: a file system that shows the interfaces of its own network namespace.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

const SYS: &str = "/sys";

/// Mounts a new file system over `/sys`, read-only as Docker's, and what was mounted below it (control
/// groups) below the new one.
///
/// Where `/sys` is partly hidden, as in containers of others, the kernel allows no new one to who is root
/// of a user namespace only: `/sys` stays what it was then.
pub(super) fn mount_anew() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path_only = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let below: Vec<_> = mount_points(&mounts)
        .into_iter()
        .filter_map(|path| Some((open(&path, path_only, Mode::empty()).ok()?, path)))
        .collect();
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount(Some("sysfs"), SYS, Some("sysfs"), flags, None::<&str>).is_err() {
        return;
    }
    for (before, path) in &below {
        let source = format!("/proc/self/fd/{}", before.as_raw_fd());
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        // A directory that only the other one had is no loss: nothing can be mounted there.
        let _ = mount(Some(&*source), path, None::<&str>, bind, None::<&str>);
    }
}

/// The outermost mount points below `/sys`. What lies below them comes along with them.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<_> = points
        .map(Path::new)
        .filter(|point| point.starts_with(SYS) && *point != Path::new(SYS))
        .collect();
    points.sort_unstable();
    points.dedup_by(|later, earlier| later.starts_with(earlier));
    points.into_iter().map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_mount_points_are_found() {
        let mountinfo = "\
            24 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            25 24 0:23 / /sys rw,nosuid - sysfs sysfs rw\n\
            30 25 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n\
            32 25 0:7 / /sys/kernel/debug rw - debugfs debugfs rw\n\
            33 24 0:9 / /system rw - tmpfs tmpfs rw\n";
        let found = mount_points(mountinfo);
        assert_eq!(
            found,
            ["/sys/fs/cgroup", "/sys/kernel/debug"].map(PathBuf::from)
        );
    }
}
