//! How much memory this process may have: the smallest limit of the control groups it is in, of version 1 or 2, or what the
//! host has if there is none.
//!
//! `/proc/self/cgroup` says which group it is, `/proc/self/mountinfo` where the hierarchy is mounted and which of its groups
//! is at that mount's root. A container usually sees its own group there, and a process of the host a path of several
//! groups below the root; each of them may have a limit, and all of them count.

use std::path::{Path, PathBuf};

/// Version 1 has no word for "no limit" but a number as large as its counter takes, rounded down to a page.
const NO_LIMIT_V1: u64 = 1 << 62;

/// The smallest limit in octets. `root` is `/`; tests have another.
///
/// # Errors
/// `/proc` does not say how much memory the host has.
pub(super) fn memory_limit(root: &Path) -> std::io::Result<u64> {
    let host = host_memory(root)?;
    Ok(group_limit(root).map_or(host, |limit| limit.min(host)))
}

fn host_memory(root: &Path) -> std::io::Result<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo"))?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = kibibytes.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let missing = || std::io::Error::new(std::io::ErrorKind::InvalidData, "there is no MemTotal in /proc/meminfo");
    number.map(|kibibytes| kibibytes.saturating_mul(1_024)).ok_or_else(missing)
}

/// The smallest limit of the groups that can be seen; `None`: none of them limits memory.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    hierarchies(&groups, &mounts).iter().filter_map(|hierarchy| hierarchy.limit(root)).min()
}

/// A hierarchy that may limit memory.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    mounted_at: PathBuf,
    /// The process's group, relative to the mount.
    group: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Hierarchy {
    /// The smallest limit from the process's group up to the mount.
    fn limit(&self, root: &Path) -> Option<u64> {
        let mounted_at = root.join(self.mounted_at.strip_prefix("/").unwrap_or(&self.mounted_at));
        let groups = self.group.ancestors().map(|group| mounted_at.join(group));
        groups.filter_map(|folder| self.limit_of(&folder)).min()
    }

    fn limit_of(&self, folder: &Path) -> Option<u64> {
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        match self.version {
            Version::One => read("memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT_V1),
            // `max`, no limit, is no number. Above `memory.high` the kernel slows the process down, which is no better.
            Version::Two => [read("memory.max"), read("memory.high")].into_iter().flatten().min(),
        }
    }
}

/// The hierarchies of `/proc/self/cgroup` that limit memory, with the place where `/proc/self/mountinfo` has them.
fn hierarchies(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let of_line = |line: &str| {
        // number:controllers:group
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let version = match controllers {
            "" => Version::Two,
            _ if controllers.split(',').any(|controller| controller == "memory") => Version::One,
            _ => return None,
        };
        let mount = mounts.lines().find_map(|line| Mount::read(line).filter(|mount| mount.version == version))?;
        Some(mount.hierarchy(Path::new(group)))
    };
    groups.lines().filter_map(of_line).collect()
}

/// A line of `/proc/self/mountinfo` that mounts a hierarchy with memory.
struct Mount<'m> {
    version: Version,
    /// The group that is at the mount's root.
    root: &'m Path,
    at: &'m Path,
}

impl<'m> Mount<'m> {
    /// Fields of proc_pid_mountinfo(5): id, parent, device, root, mount point, options, any number of others, `-`, type,
    /// source, options of the file system.
    fn read(line: &'m str) -> Option<Self> {
        let (before, behind) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, at) = (Path::new(before.next()?), Path::new(before.next()?));
        let mut behind = behind.split(' ');
        let version = match (behind.next()?, behind.nth(1)?) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", options) if options.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { version, root, at })
    }

    fn hierarchy(&self, group: &Path) -> Hierarchy {
        // A group that is not below the mount's root is that of somebody outside; what is mounted is ours.
        let group = group.strip_prefix(self.root).unwrap_or_else(|_| Path::new(""));
        Hierarchy { version: self.version, mounted_at: self.at.to_path_buf(), group: group.to_path_buf() }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
    const V2: &str = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";

    /// A machine with 1 GiB.
    fn machine(groups: &str, mounts: &[&str], files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("proc/meminfo", "MemTotal:        1048576 kB\nMemFree:          1 kB\n");
        write("proc/self/cgroup", groups);
        write("proc/self/mountinfo", &mounts.join("\n"));
        files.iter().for_each(|(path, text)| write(&format!("sys/fs/cgroup/{path}"), text));
        root
    }

    fn limit(groups: &str, mounts: &[&str], files: &[(&str, &str)]) -> u64 {
        memory_limit(machine(groups, mounts, files).path()).expect("a limit")
    }

    #[test]
    fn without_a_limit_it_is_what_the_host_has() {
        assert_eq!(limit("", &[], &[]), 1 << 30);
        assert_eq!(limit("0::/\n", &[V2], &[]), 1 << 30);
        assert_eq!(limit("0::/a\n", &[V2], &[("a/memory.max", "max\n")]), 1 << 30);
        let none = [("memory/a/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(limit("4:memory:/a\n0::/\n", &[V1], &none), 1 << 30);
        assert_eq!(limit("0::/a\n", &[V2], &[("a/memory.max", "99999999999\n")]), 1 << 30);
    }

    #[test]
    fn of_nested_groups_the_smallest_limit_counts_in_both_versions() {
        let files = [("a/memory.max", "3000\n"), ("a/b/memory.max", "4000\n"), ("a/b/c/memory.max", "max\n")];
        assert_eq!(limit("0::/a/b/c\n", &[V2], &files), 3_000);
        assert_eq!(limit("0::/a/b\n", &[V2], &files[1..]), 4_000);
        let files = [("memory/a/memory.limit_in_bytes", "3000\n"), ("memory/a/b/memory.limit_in_bytes", "4000\n")];
        assert_eq!(limit("9:name=systemd:/\n4:cpu,memory:/a/b\n", &[V1], &files), 3_000);
    }

    #[test]
    fn where_the_kernel_begins_to_slow_the_process_down_counts_too() {
        let files = [("a/memory.max", "4000\n"), ("a/memory.high", "3500\n")];
        assert_eq!(limit("0::/a\n", &[V2], &files), 3_500);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        // With a namespace of its own, and without one: then the path is the host's.
        let mount = "35 31 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let files = [("memory/memory.limit_in_bytes", "5000\n")];
        assert_eq!(limit("4:memory:/\n", &[mount], &files), 5_000);
        let mount = "35 31 0:32 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        assert_eq!(limit("4:memory:/kubepods/pod1/c1\n", &[mount], &files), 5_000);
        assert_eq!(limit("4:memory:/elsewhere\n", &[mount], &files), 5_000);
    }

    #[test]
    fn both_versions_at_once_are_looked_at_where_each_is_mounted() {
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let files = [("memory/a/memory.limit_in_bytes", "7000\n"), ("unified/b/memory.max", "6000\n")];
        assert_eq!(limit("4:memory:/a\n0::/b\n", &[V1, unified], &files), 6_000);
    }

    #[test]
    fn this_machine_has_a_limit() {
        let limit = memory_limit(Path::new("/")).expect("Linux");
        assert!((16 << 20..1 << 50).contains(&limit), "{limit}");
    }
}
