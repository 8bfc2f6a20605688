//! How much memory the system can still give to this process.
//!
//! Linux lends more than it has and ends a process when it is too late, so what is free is read
//! where it says so: in `/proc/meminfo` for the machine, and in the files of the control groups
//! that the process is in, which a container or a service may limit further. Pages that only repeat
//! what is in a file, those of mapped weights among them, are given up by the system when it needs
//! room: they count as free, in both. Other systems do not tell.

use std::path::{Path, PathBuf};

/// Where control groups are found.
const GROUPS: &str = "/sys/fs/cgroup";

/// Names of one version of control groups.
struct Version {
    /// Where the paths of its groups begin.
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// Of the pages of files in `memory.stat`, the two lists that they are kept in; of a group with
    /// all below it, like `used`.
    files: [&'static str; 2],
}

const SECOND: Version = Version {
    root: "",
    limit: "memory.max",
    used: "memory.current",
    files: ["active_file", "inactive_file"],
};

const FIRST: Version = Version {
    root: "memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: ["total_active_file", "total_inactive_file"],
};

/// Bytes that this process can still get; `None` where the system does not tell.
pub(super) fn memory() -> Option<u64> {
    available(&|path| std::fs::read_to_string(path).ok())
}

/// The same, from what `read` says is in a file.
fn available(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let kilobytes = field(&text, "MemAvailable:")?;
        kilobytes.checked_mul(1024)
    });
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    // A line is `number:controllers:path`; the second version has no controllers.
    let group = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let version = match controllers {
            "" => &SECOND,
            _ if controllers.split(',').any(|name| name == "memory") => &FIRST,
            _ => return None,
        };
        in_group(read, version, path)
    });
    machine.into_iter().chain(group).min()
}

/// What the group at `path` and those it is in leave: the least of it.
fn in_group(read: &dyn Fn(&Path) -> Option<String>, version: &Version, path: &str) -> Option<u64> {
    let root = Path::new(GROUPS).join(version.root);
    let own = path.trim_start_matches('/');
    // In a container the path may be that outside of it: what exists of it counts.
    let folders = Path::new(own).ancestors().map(|folder| root.join(folder));
    let left = |folder: PathBuf| {
        let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
        // `max`, no number, is no limit.
        let (limit, used) = (number(version.limit)?, number(version.used)?);
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let files = version.files.iter().filter_map(|name| field(&stat, name)).sum();
        Some(limit.saturating_sub(used.saturating_sub(files)))
    };
    folders.filter_map(left).min()
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace);
    words.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Option<u64> {
        available(&|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    const MACHINE: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:       24684084 kB\nMemFree:        1000 kB\nMemAvailable:   2000 kB\n",
    );

    #[test]
    fn a_machine_without_groups_says_what_is_available() {
        assert_eq!(of(&[MACHINE]), Some(2000 << 10));
        let unlimited = [
            MACHINE,
            ("/proc/self/cgroup", "0::/user.slice\n"),
            ("/sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("/sys/fs/cgroup/user.slice/memory.current", "5000\n"),
        ];
        assert_eq!(of(&unlimited), Some(2000 << 10));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("/proc/meminfo", "MemFree: 12 kB\nMemAvailable: many\n")]), None);
    }

    #[test]
    fn the_tightest_of_the_groups_counts_and_pages_of_files_are_free() {
        let service = [
            MACHINE,
            ("/proc/self/cgroup", "0::/system.slice/a.service\n"),
            ("/sys/fs/cgroup/system.slice/a.service/memory.max", "900000\n"),
            ("/sys/fs/cgroup/system.slice/a.service/memory.current", "700000\n"),
            (
                "/sys/fs/cgroup/system.slice/a.service/memory.stat",
                "anon 100\nfile 9\nactive_file 20000\ninactive_file 480000\n",
            ),
            ("/sys/fs/cgroup/system.slice/memory.max", "800000\n"),
            ("/sys/fs/cgroup/system.slice/memory.current", "750000\n"),
        ];
        assert_eq!(of(&service), Some(50_000), "the slice has less left than its service");
        assert_eq!(of(&service[..5]), Some(700_000));
        // More is used than may be: nothing is left.
        let full = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "10\n"),
            ("/sys/fs/cgroup/memory.current", "12\n"),
        ];
        assert_eq!(of(&full), Some(0));
    }

    #[test]
    fn groups_of_the_first_version_count_too() {
        let container = [
            MACHINE,
            ("/proc/self/cgroup", "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "active_file 1\ntotal_active_file 70000\n"),
        ];
        assert_eq!(of(&container), Some(170_000));
        let unlimited = [
            MACHINE,
            ("/proc/self/cgroup", "4:memory:/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n"),
        ];
        assert_eq!(of(&unlimited), Some(2000 << 10));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_system_tells() {
        assert!(memory().unwrap() > 0);
    }
}
