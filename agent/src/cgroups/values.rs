//! Which files of a cgroup say what, for both versions.

use gantry_agent_core::resources::{CgroupValues, cpu_weight};

use crate::pods::spec::hugepage_size_name;

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller that it belongs to.
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
}

fn setting(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Setting {
    Setting {
        controller,
        file: file.into(),
        value: value.to_string(),
    }
}

/// The files of version 2.
pub(super) fn v2(values: &CgroupValues) -> Vec<Setting> {
    let mut files = Vec::new();
    files.extend(
        values
            .cpu_shares
            .map(|shares| setting("cpu", "cpu.weight", cpu_weight(shares))),
    );
    if let (Some(quota), Some(period)) = (values.cpu_quota_us, values.cpu_period_us) {
        let quota = if quota > 0 {
            quota.to_string()
        } else {
            "max".to_owned()
        };
        files.push(setting("cpu", "cpu.max", format!("{quota} {period}")));
    }
    files.extend(positive(values.memory_limit).map(|bytes| setting("memory", "memory.max", bytes)));
    files.extend(positive(values.pids_limit).map(|limit| setting("pids", "pids.max", limit)));
    for (size, limit) in &values.hugepage_limits {
        let name = hugepage_size_name(*size);
        files.extend(name.map(|name| setting("hugetlb", format!("hugetlb.{name}.max"), limit)));
    }
    files
}

/// The files of version 1.
pub(super) fn v1(values: &CgroupValues) -> Vec<Setting> {
    let mut files = Vec::new();
    files.extend(
        values
            .cpu_shares
            .map(|shares| setting("cpu", "cpu.shares", shares)),
    );
    if let (Some(quota), Some(period)) = (values.cpu_quota_us, values.cpu_period_us) {
        files.push(setting("cpu", "cpu.cfs_period_us", period));
        files.push(setting(
            "cpu",
            "cpu.cfs_quota_us",
            if quota > 0 { quota } else { -1 },
        ));
    }
    files
        .extend(positive(values.memory_limit).map(|bytes| setting("memory", "memory.limit_in_bytes", bytes)));
    files.extend(positive(values.pids_limit).map(|limit| setting("pids", "pids.max", limit)));
    for (size, limit) in &values.hugepage_limits {
        let name = hugepage_size_name(*size);
        files.extend(name.map(|name| setting("hugetlb", format!("hugetlb.{name}.limit_in_bytes"), limit)));
    }
    files
}

fn positive(limit: Option<i64>) -> Option<i64> {
    limit.filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(settings: Vec<Setting>) -> Vec<String> {
        settings
            .into_iter()
            .map(|s| format!("{} {}={}", s.controller, s.file, s.value))
            .collect()
    }

    #[test]
    fn files_of_both_versions() {
        let values = CgroupValues {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_limit: Some(1 << 30),
            pids_limit: Some(100),
            hugepage_limits: [(2 << 20, 4 << 20)].into(),
        };
        assert_eq!(
            texts(v2(&values)),
            [
                "cpu cpu.weight=20",
                "cpu cpu.max=50000 100000",
                "memory memory.max=1073741824",
                "pids pids.max=100",
                "hugetlb hugetlb.2MB.max=4194304",
            ]
        );
        assert_eq!(
            texts(v1(&values)),
            [
                "cpu cpu.shares=512",
                "cpu cpu.cfs_period_us=100000",
                "cpu cpu.cfs_quota_us=50000",
                "memory memory.limit_in_bytes=1073741824",
                "pids pids.max=100",
                "hugetlb hugetlb.2MB.limit_in_bytes=4194304",
            ]
        );
    }

    #[test]
    fn no_limit_is_not_zero() {
        let values = CgroupValues {
            cpu_quota_us: Some(-1),
            cpu_period_us: Some(100_000),
            memory_limit: Some(0),
            ..CgroupValues::default()
        };
        assert_eq!(texts(v2(&values)), ["cpu cpu.max=max 100000"]);
        assert_eq!(
            texts(v1(&values)),
            ["cpu cpu.cfs_period_us=100000", "cpu cpu.cfs_quota_us=-1"]
        );
    }
}
