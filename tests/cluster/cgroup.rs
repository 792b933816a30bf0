//! Control groups (cgroups(7)) of the nodes, on machines with version 1, version 2 or both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::wait_until;

/// Makes the group `name`, a path relative to the root of the hierarchy, in every hierarchy that has controllers.
pub(super) fn create(name: &Path) -> Result<()> {
    for root in with_controllers(&mounts()?) {
        let mut group = root.clone();
        for part in name {
            offer_controllers(&group);
            let parent = group.clone();
            group.push(part);
            std::fs::create_dir_all(&group).with_context(|| format!("create the control group {}", group.display()))?;
            copy_cpuset(&parent, &group)?;
        }
        offer_controllers(&group);
        check_controllers(&group)?;
    }
    Ok(())
}

/// Removes the group `name` and those below it from every hierarchy. Their processes must have ended.
pub(super) fn remove(name: &Path) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    for root in hierarchies(&mounts()?) {
        let group = root.join(name);
        // The kernel counts a process out a moment after it has ended.
        wait_until(LIMIT, || {
            remove_tree(&group);
            Ok(!group.exists())
        })
        .with_context(|| format!("the control group {} still has processes", group.display()))?;
    }
    Ok(())
}

fn mounts() -> Result<String> {
    std::fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")
}

/// The hierarchies that limit anything. Version 2 beside version 1 has no controllers and only keeps track of processes.
fn with_controllers(mounts: &str) -> Vec<PathBuf> {
    let all = hierarchies(mounts);
    let root = PathBuf::from("/sys/fs/cgroup");
    if all.contains(&root) { vec![root] } else { all.into_iter().filter(|path| !path.ends_with("unified")).collect() }
}

/// Where hierarchies of either version are mounted, in a table of mounts (proc_mounts(5)).
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        if let [_, path, "cgroup" | "cgroup2", ..] = fields[..]
            && path.starts_with("/sys/fs/cgroup")
        {
            found.push(PathBuf::from(path));
        }
    }
    found
}

/// Version 2: lets the groups below `group` use all its controllers, as far as the kernel agrees.
fn offer_controllers(group: &Path) {
    let controllers = std::fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _refused = std::fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Version 2: the kubelet works only where it can limit these. A container that sees itself as the root of the hierarchy
/// and has processes there cannot.
fn check_controllers(group: &Path) -> Result<()> {
    if let Ok(offered) = std::fs::read_to_string(group.join("cgroup.subtree_control")) {
        let missing = missing_controllers(&offered);
        ensure!(
            missing.is_empty(),
            "the kernel does not let groups below {} use {}: enable them in /sys/fs/cgroup/cgroup.subtree_control; \
             in a container, first move its processes from / into a group of their own",
            group.display(),
            missing.join(", "),
        );
    }
    Ok(())
}

fn missing_controllers(offered: &str) -> Vec<&'static str> {
    let is_missing = |controller: &&str| !offered.split_whitespace().any(|other| other == *controller);
    ["cpu", "cpuset", "memory", "pids"].into_iter().filter(is_missing).collect()
}

/// Version 1: a new group may use no processor and no memory until it is told which.
fn copy_cpuset(parent: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), group.join(file));
        let is_version_1 = from.exists() && !group.join("cgroup.controllers").exists();
        if is_version_1 && std::fs::read_to_string(&to).is_ok_and(|value| value.trim().is_empty()) {
            std::fs::copy(&from, &to).with_context(|| format!("set {}", to.display()))?;
        }
    }
    Ok(())
}

/// Control groups are removed one by one from the innermost; the files in them are not really there.
fn remove_tree(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _still_in_use = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_needs_four_controllers() {
        assert_eq!(missing_controllers("cpuset cpu io memory hugetlb pids\n"), Vec::<&str>::new());
        assert_eq!(missing_controllers("memory pids\n"), ["cpu", "cpuset"]);
    }

    #[test]
    fn version_2_has_controllers_only_as_the_whole_tree() {
        let check = |mounts: &str, limiting: &[&str], all: &[&str]| {
            assert_eq!(with_controllers(mounts), limiting.iter().map(PathBuf::from).collect::<Vec<_>>());
            assert_eq!(hierarchies(mounts), all.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        let whole = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nproc /proc proc rw 0 0\n";
        check(whole, &["/sys/fs/cgroup"], &["/sys/fs/cgroup"]);
        let both = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                    cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        check(both, &["/sys/fs/cgroup/cpu"], &["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
        check("/dev/vda / ext4 rw 0 0\n", &[], &[]);
    }
}
