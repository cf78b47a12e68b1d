use super::*;

fn spec(json: &str) -> PodSpec {
    serde_json::from_str(json).unwrap()
}

fn pod(json: &str) -> Pod {
    Pod {
        spec: Some(spec(json)),
        ..Pod::default()
    }
}

fn requests(cpu: &str, memory: &str) -> String {
    format!(r#""resources":{{"requests":{{"cpu":"{cpu}","memory":"{memory}"}}}}"#)
}

fn limits(cpu: &str, memory: &str) -> String {
    format!(r#""resources":{{"requests":{{"cpu":"50m"}},"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}"#)
}

const GIB: i64 = 1 << 30;

#[test]
fn shares_quota_and_weight() {
    assert_eq!(
        [0, 1, 2, 100, 1000, 300_000].map(milli_cpu_to_shares),
        [2, 2, 2, 102, 1024, 262_144]
    );
    assert_eq!(
        [0, 5, 100, 1500].map(|m| milli_cpu_to_quota(m, 100_000)),
        [0, 1000, 10_000, 150_000]
    );
    assert_eq!([2, 102, 1024, 262_144].map(cpu_weight), [1, 4, 39, 10_000]);
}

#[test]
fn init_containers_set_a_minimum_and_sidecars_add() {
    let spec = spec(&format!(
        r#"{{"containers":[{{"name":"a",{}}},{{"name":"b",{}}}],
            "initContainers":[{{"name":"s","restartPolicy":"Always",{}}},{{"name":"i",{}}}],
            "overhead":{{"cpu":"10m"}}}}"#,
        requests("100m", "1Gi"),
        requests("200m", "1Gi"),
        requests("50m", "1Gi"),
        requests("1", "1Gi"),
    ));
    let sum = pod_requests(&spec);
    // init beside the sidecar needs 1050m, more than 350m; plus overhead.
    assert_eq!(sum["cpu"].milli_value(), 1060);
    assert_eq!(sum["memory"].value(), 3 * GIB);
}

#[test]
fn a_pod_is_limited_only_when_every_container_is() {
    let quota = CpuQuota::default();
    let both = pod(&format!(
        r#"{{"containers":[{{"name":"a",{}}},{{"name":"b",{}}}]}}"#,
        limits("100m", "1Gi"),
        limits("200m", "1Gi")
    ));
    let values = pod_cgroup(&both, quota);
    assert_eq!(
        (values.cpu_shares, values.cpu_quota_us, values.memory_limit),
        (Some(102), Some(30_000), Some(2 * GIB))
    );
    let one = pod(&format!(
        r#"{{"containers":[{{"name":"a",{}}},{{"name":"b"}}]}}"#,
        limits("100m", "1Gi")
    ));
    let values = pod_cgroup(&one, quota);
    assert_eq!(
        (values.cpu_shares, values.cpu_quota_us, values.memory_limit),
        (Some(51), None, None)
    );
    let none = pod(r#"{"containers":[{"name":"a"}]}"#);
    assert_eq!(pod_cgroup(&none, quota).cpu_shares, Some(2));
    let off = CpuQuota {
        enforce: false,
        ..quota
    };
    assert_eq!(pod_cgroup(&both, off).cpu_quota_us, Some(-1));
}

#[test]
fn a_pod_level_limit_wins_and_serves_containers_without_one() {
    let pod = pod(
        r#"{"containers":[{"name":"a"}],"resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m","memory":"512Mi"}}}"#,
    );
    let values = pod_cgroup(&pod, CpuQuota::default());
    assert_eq!(
        (values.cpu_shares, values.cpu_quota_us, values.memory_limit),
        (Some(512), Some(100_000), Some(GIB))
    );
    let spec = pod.spec.as_ref().unwrap();
    let container = container_values(spec, &spec.containers[0], CpuQuota::default());
    assert_eq!((container.cpu_quota_us, container.memory_limit), (100_000, GIB));
}

#[test]
fn container_values_as_cri_takes_them() {
    let spec = spec(
        r#"{"containers":[
        {"name":"none"},
        {"name":"limit","resources":{"limits":{"cpu":"250m","memory":"64Mi"}}},
        {"name":"request","resources":{"requests":{"cpu":"100m"}}}]}"#,
    );
    let values = |i: usize| container_values(&spec, &spec.containers[i], CpuQuota::default());
    assert_eq!(
        values(0),
        ContainerValues {
            cpu_shares: 2,
            cpu_period_us: 100_000,
            ..Default::default()
        }
    );
    let limit = ContainerValues {
        cpu_shares: 256,
        cpu_quota_us: 25_000,
        cpu_period_us: 100_000,
        memory_limit: 64 << 20,
    };
    assert_eq!(values(1), limit);
    assert_eq!((values(2).cpu_shares, values(2).cpu_quota_us), (102, 0));
}

#[test]
fn hugepage_sizes() {
    let list = amounts(
        spec(r#"{"containers":[],"overhead":{"hugepages-2Mi":"4Mi","cpu":"1"}}"#)
            .overhead
            .as_ref(),
    );
    assert_eq!(hugepages(&list), BTreeMap::from([(2 << 20, 4 << 20)]));
}

#[test]
fn oom_scores() {
    let score = |json: &str, index: usize| {
        let pod = pod(json);
        oom_score_adj(&pod, &pod.spec.as_ref().unwrap().containers[index], 8 * GIB)
    };
    let one = |memory: &str| format!(r#"{{"containers":[{{"name":"a",{}}}]}}"#, requests("1", memory));
    assert_eq!(score(r#"{"containers":[{"name":"a"}]}"#, 0), 1000);
    assert_eq!(score(&one("2Gi"), 0), 750);
    assert_eq!(score(&one("1"), 0), 999);
    assert_eq!(score(&one("80Gi"), 0), 3);
    let full = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1","memory":"1Gi"}}}]}"#;
    assert_eq!(score(full, 0), -997);
    let pod_level = r#"{"containers":[{"name":"a"},{"name":"b"}],"resources":{"requests":{"memory":"4Gi"}}}"#;
    assert_eq!(score(pod_level, 0), 750);
    let critical =
        r#"{"containers":[{"name":"a"}],"priority":2000001000,"priorityClassName":"system-node-critical"}"#;
    assert_eq!(score(critical, 0), -997);
}

#[test]
fn a_sidecar_outlives_the_smallest_container() {
    let pod = pod(&format!(
        r#"{{"containers":[{{"name":"a",{}}}],"initContainers":[{{"name":"s","restartPolicy":"Always"}}]}}"#,
        requests("1", "4Gi")
    ));
    let sidecar = &pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
    assert_eq!(oom_score_adj(&pod, sidecar, 8 * GIB), 500);
}
