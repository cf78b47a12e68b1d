//! Rules that span several fields, or that the field table cannot say.
//! Source: `pkg/kubelet/apis/config/validation/validation.go`.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::{Map, Value};

use super::{document::get, duration, error::ConfigError, gates, threshold::Threshold};

/// All broken rules at once.
pub(super) fn check(values: &Map<String, Value>) -> Result<(), ConfigError> {
    let view = View { values };
    let mut broken = Vec::new();
    feature_gates(&view, &mut broken);
    images(&view, &mut broken);
    node_allocatable(&view, &mut broken);
    timing(&view, &mut broken);
    logs(&view, &mut broken);
    node(&view, &mut broken);
    eviction(&view, &mut broken);
    if broken.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Invalid(broken))
    }
}

/// Typed looks at completed values; the field table has checked their types.
struct View<'a> {
    values: &'a Map<String, Value>,
}

impl View<'_> {
    fn int(&self, path: &str) -> i64 {
        get(self.values, path).and_then(Value::as_i64).unwrap_or(0)
    }

    fn on(&self, path: &str) -> bool {
        get(self.values, path).and_then(Value::as_bool).unwrap_or(false)
    }

    fn text(&self, path: &str) -> &str {
        get(self.values, path).and_then(Value::as_str).unwrap_or("")
    }

    fn is_set(&self, path: &str) -> bool {
        !self.text(path).is_empty()
    }

    fn nanos(&self, path: &str) -> i64 {
        duration::parse_nanos(self.text(path)).unwrap_or(0)
    }

    fn list(&self, path: &str) -> Vec<&str> {
        get(self.values, path)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    fn map(&self, path: &str) -> impl Iterator<Item = (&String, &Value)> {
        get(self.values, path)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    fn gate(&self, name: &str) -> bool {
        let user: BTreeMap<String, bool> = self
            .map("featureGates")
            .map(|(name, on)| (name.clone(), on.as_bool().unwrap_or(false)))
            .collect();
        gates::enabled(&user, name)
    }
}

fn feature_gates(view: &View<'_>, broken: &mut Vec<String>) {
    for (name, value) in view.map("featureGates") {
        broken.extend(gates::refuse(name, value.as_bool().unwrap_or(false)));
    }
}

fn images(view: &View<'_>, broken: &mut Vec<String>) {
    let (low, high) = (
        view.int("imageGCLowThresholdPercent"),
        view.int("imageGCHighThresholdPercent"),
    );
    if low >= high {
        broken.push(format!(
            "imageGCLowThresholdPercent {low} must be less than imageGCHighThresholdPercent {high}"
        ));
    }
    let (minimum, maximum) = (view.nanos("imageMinimumGCAge"), view.nanos("imageMaximumGCAge"));
    for (name, nanos) in [("imageMinimumGCAge", minimum), ("imageMaximumGCAge", maximum)] {
        if nanos < 0 {
            broken.push(format!("{name} {} must not be negative", view.text(name)));
        }
    }
    if maximum > 0 && maximum <= minimum {
        broken.push(format!(
            "imageMaximumGCAge {} must be greater than imageMinimumGCAge {}",
            view.text("imageMaximumGCAge"),
            view.text("imageMinimumGCAge")
        ));
    }
    let parallel = view.int("maxParallelImagePulls");
    if view.on("serializeImagePulls") && parallel > 1 {
        broken.push(format!(
            "maxParallelImagePulls {parallel} cannot be larger than 1 unless serializeImagePulls is false"
        ));
    }
    if !view.list("preloadedImagesVerificationAllowlist").is_empty()
        && view.text("imagePullCredentialsVerificationPolicy") != "NeverVerifyAllowlistedImages"
    {
        broken.push(
            "preloadedImagesVerificationAllowlist needs imagePullCredentialsVerificationPolicy NeverVerifyAllowlistedImages"
                .into(),
        );
    }
}

fn node_allocatable(view: &View<'_>, broken: &mut Vec<String>) {
    const ALLOWED: [&str; 6] = [
        "pods",
        "system-reserved",
        "system-reserved-compressible",
        "kube-reserved",
        "kube-reserved-compressible",
        "none",
    ];
    let levels = view.list("enforceNodeAllocatable");
    for (index, level) in levels.iter().enumerate() {
        if levels[..index].contains(level) {
            broken.push(format!("enforceNodeAllocatable has {level:?} twice"));
        } else if !ALLOWED.contains(level) {
            broken.push(format!(
                "enforceNodeAllocatable {level:?} must be one of {ALLOWED:?}"
            ));
        } else if *level == "none" {
            if levels.len() > 1 {
                broken.push("enforceNodeAllocatable may hold nothing else beside \"none\"".into());
            }
        } else if !view.on("cgroupsPerQOS") {
            broken.push(format!(
                "cgroupsPerQOS must be true when enforceNodeAllocatable holds {level:?}"
            ));
        }
        for (kind, cgroup) in [("system", "systemReservedCgroup"), ("kube", "kubeReservedCgroup")] {
            if level.starts_with(&format!("{kind}-reserved")) && !view.is_set(cgroup) {
                broken.push(format!(
                    "{cgroup} must be set when enforceNodeAllocatable holds {level:?}"
                ));
            }
        }
    }
    for kind in ["system-reserved", "kube-reserved"] {
        let compressible = format!("{kind}-compressible");
        if levels.contains(&kind) && levels.contains(&compressible.as_str()) {
            broken.push(format!(
                "enforceNodeAllocatable cannot hold both {kind:?} and {compressible:?}"
            ));
        }
    }
    if view.is_set("systemCgroups") && !view.is_set("cgroupRoot") {
        broken.push("systemCgroups is set and cgroupRoot is not".into());
    }
    if view.is_set("reservedSystemCPUs")
        && (view.is_set("systemReservedCgroup") || view.is_set("kubeReservedCgroup"))
    {
        broken
            .push("reservedSystemCPUs cannot be used with systemReservedCgroup or kubeReservedCgroup".into());
    }
    if !is_cpu_list(view.text("reservedSystemCPUs")) {
        let cpus = view.text("reservedSystemCPUs");
        broken.push(format!(
            "reservedSystemCPUs {cpus:?} must be a list of CPUs such as \"0-3,8\""
        ));
    }
}

fn timing(view: &View<'_>, broken: &mut Vec<String>) {
    let mut within = |path: &str, low: Duration, high: Duration| {
        let nanos = i128::from(view.nanos(path));
        if nanos < nanos_of(low) || nanos > nanos_of(high) {
            broken.push(format!(
                "{path} {} must be between {low:?} and {high:?}",
                view.text(path)
            ));
        }
    };
    within(
        "cpuCFSQuotaPeriod",
        Duration::from_millis(1),
        Duration::from_secs(1),
    );
    within(
        "containerLogMonitorInterval",
        Duration::from_secs(3),
        Duration::from_secs(u64::from(u32::MAX)),
    );
    if view.gate("KubeletCrashLoopBackOffMax") {
        within(
            "crashLoopBackOff.maxContainerRestartPeriod",
            Duration::from_secs(1),
            Duration::from_secs(300),
        );
    }
    let (all, critical) = (
        view.nanos("shutdownGracePeriod"),
        view.nanos("shutdownGracePeriodCriticalPods"),
    );
    if critical > all {
        broken.push("shutdownGracePeriodCriticalPods must not be longer than shutdownGracePeriod".into());
    }
    for (name, nanos) in [
        ("shutdownGracePeriod", all),
        ("shutdownGracePeriodCriticalPods", critical),
    ] {
        if nanos != 0 && i128::from(nanos) < nanos_of(Duration::from_secs(1)) {
            broken.push(format!("{name} {} must be zero or at least 1s", view.text(name)));
        }
    }
    let by_priority = get(view.values, "shutdownGracePeriodByPodPriority").and_then(Value::as_array);
    if by_priority.is_some_and(|list| !list.is_empty()) && (all > 0 || critical > 0) {
        broken.push("shutdownGracePeriodByPodPriority and shutdownGracePeriod cannot both be set".into());
    }
}

fn logs(view: &View<'_>, broken: &mut Vec<String>) {
    let dir = view.text("podLogsDir");
    let clean = Path::new(dir).components().collect::<std::path::PathBuf>();
    if !dir.starts_with('/') || clean.as_os_str() != dir || dir.contains("..") || !dir.is_ascii() {
        broken.push(format!(
            "podLogsDir {dir:?} must be an absolute, normalised ASCII path"
        ));
    }
    if view.on("enableSystemLogQuery") && !view.on("enableSystemLogHandler") {
        broken.push("enableSystemLogQuery needs enableSystemLogHandler".into());
    }
}

fn node(view: &View<'_>, broken: &mut Vec<String>) {
    if view.on("runOnce") {
        broken.push("runOnce true is not supported: it has been removed from kubelet".into());
    }
    let factor = get(view.values, "memoryThrottlingFactor")
        .and_then(Value::as_f64)
        .unwrap_or(0.9);
    if factor <= 0.0 || factor > 1.0 {
        broken.push(format!(
            "memoryThrottlingFactor {factor} must be greater than 0 and at most 1"
        ));
    }
    if view.text("memoryReservationPolicy") == "TieredReservation" && !view.gate("MemoryQoS") {
        broken.push("memoryReservationPolicy TieredReservation needs the feature gate MemoryQoS".into());
    }
    let ports = ["port", "healthzPort", "readOnlyPort"].map(|name| (name, view.int(name)));
    for (index, (name, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..index]
            .iter()
            .find(|(_, other)| other == port && *port != 0)
        {
            broken.push(format!("{name} and {other} must differ, both are {port}"));
        }
    }
}

fn eviction(view: &View<'_>, broken: &mut Vec<String>) {
    for field in ["evictionHard", "evictionSoft"] {
        for (signal, text) in view.map(field) {
            if let Err(why) = Threshold::parse(signal, text.as_str().unwrap_or_default()) {
                broken.push(format!("{field}: {why}"));
            }
        }
    }
}

fn nanos_of(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// The kernel's notation of CPU sets: `0-3,8`.
fn is_cpu_list(text: &str) -> bool {
    text.is_empty()
        || text.split(',').all(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            matches!((low.parse::<u16>(), high.parse::<u16>()), (Ok(low), Ok(high)) if low <= high)
        })
}
