//! What is read of agents and proxies, as data.

/// What the kubelet dashboard and the kubelet alerts read: the page, and the series with the labels that they select
/// by. Each has a value on every node that has started a pod with a volume.
pub(super) const READ: &[(&str, &str)] = &[
    ("/metrics", "kubelet_node_name{node!=\"\"}"),
    ("/metrics", "kubelet_running_pods"),
    (
        "/metrics",
        "kubelet_running_containers{container_state=\"running\"}",
    ),
    (
        "/metrics",
        "volume_manager_total_volumes{state=\"actual_state_of_world\"}",
    ),
    (
        "/metrics",
        "volume_manager_total_volumes{state=\"desired_state_of_world\"}",
    ),
    (
        "/metrics",
        "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"}",
    ),
    (
        "/metrics",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"start_container\",le=\"+Inf\"}",
    ),
    ("/metrics", "kubelet_pod_start_duration_seconds_bucket{le=\"60\"}"),
    ("/metrics", "kubelet_pod_start_duration_seconds_count"),
    (
        "/metrics",
        "kubelet_pod_worker_duration_seconds_bucket{operation_type=\"create\",le=\"10\"}",
    ),
    (
        "/metrics",
        "kubelet_pod_worker_duration_seconds_count{operation_type=\"sync\"}",
    ),
    ("/metrics", "kubelet_pod_worker_start_duration_seconds_count"),
    (
        "/metrics",
        "storage_operation_duration_seconds_bucket{operation_name=\"volume_mount\",volume_plugin=\"kubernetes.io/configmap\",status=\"success\",migrated=\"false\",le=\"0.1\"}",
    ),
    (
        "/metrics",
        "storage_operation_duration_seconds_count{operation_name=\"volume_mount\",volume_plugin=\"kubernetes.io/projected\"}",
    ),
    (
        "/metrics",
        "kubelet_cgroup_manager_duration_seconds_bucket{operation_type=\"create\",le=\"1\"}",
    ),
    (
        "/metrics",
        "kubelet_cgroup_manager_duration_seconds_count{operation_type=\"create\"}",
    ),
    (
        "/metrics",
        "kubelet_pleg_relist_duration_seconds_bucket{le=\"10\"}",
    ),
    ("/metrics", "kubelet_pleg_relist_duration_seconds_count"),
    (
        "/metrics",
        "kubelet_pleg_relist_interval_seconds_bucket{le=\"10\"}",
    ),
    ("/metrics", "kubelet_pleg_last_seen_seconds"),
    (
        "/metrics",
        "volume_operation_total_seconds_count{operation_name=\"overall_volume_mount\",plugin_name=\"kubernetes.io/configmap\"}",
    ),
    (
        "/metrics",
        "kubelet_container_log_filesystem_used_bytes{container=\"c\",namespace!=\"\",uid!=\"\"}",
    ),
    ("/metrics", "kubelet_metrics_provider{provider=\"cadvisor\"}"),
    ("/metrics", "kubelet_started_user_namespaced_pods_total"),
    ("/metrics", "kubelet_lifecycle_handler_http_fallbacks_total"),
    (
        "/metrics",
        "rest_client_requests_total{code=\"200\",method=\"GET\",host!=\"\"}",
    ),
    (
        "/metrics",
        "rest_client_request_duration_seconds_bucket{verb=\"PATCH\",le=\"4\"}",
    ),
    ("/metrics", "process_resident_memory_bytes"),
    ("/metrics", "process_cpu_seconds_total"),
    ("/metrics", "process_open_fds"),
    ("/metrics", "go_goroutines"),
    ("/metrics", "kubelet_certificate_manager_client_ttl_seconds"),
    (
        "/metrics",
        "kubelet_certificate_manager_client_expiration_renew_errors",
    ),
    ("/metrics", "kubelet_started_pods_total"),
    (
        "/metrics",
        "kubelet_started_containers_total{container_type=\"container\"}",
    ),
    ("/metrics", "kubelet_desired_pods{static=\"\"}"),
    ("/metrics", "kubelet_active_pods{static=\"\"}"),
    (
        "/metrics",
        "kubelet_working_pods{config=\"desired\",lifecycle=\"sync\",static=\"\"}",
    ),
    ("/metrics", "kubelet_pod_start_sli_duration_seconds_count"),
    (
        "/metrics",
        "kubelet_pod_start_total_duration_seconds_bucket{le=\"60\"}",
    ),
    ("/metrics", "kubelet_pod_status_sync_duration_seconds_count"),
    (
        "/metrics",
        "kubelet_run_podsandbox_duration_seconds_count{runtime_handler=\"\"}",
    ),
    ("/metrics", "kubelet_containers_per_pod_count_bucket{le=\"2\"}"),
    (
        "/metrics",
        "kubelet_http_requests_total{path=\"metrics\",method=\"GET\",server_type=\"readwrite\",long_running=\"false\"}",
    ),
    (
        "/metrics",
        "kubernetes_build_info{major=\"1\",minor=\"36\",git_version=~\"v1.36.*\"}",
    ),
    (
        "/metrics",
        "kubernetes_feature_enabled{name=\"NodeSwap\",stage=\"\"}",
    ),
    (
        "/metrics/probes",
        "prober_probe_total{probe_type=\"Readiness\",result=\"successful\"}",
    ),
    (
        "/metrics/probes",
        "prober_probe_duration_seconds_bucket{probe_type=\"Readiness\",le=\"10\"}",
    ),
    ("/metrics/slis", "process_start_time_seconds"),
];

/// The same of the proxy's.
pub(super) const READ_OF_PROXIES: &[&str] = &[
    "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.001\",ip_family=\"IPv4\"}",
    "kubeproxy_sync_proxy_rules_duration_seconds_count",
    "kubeproxy_sync_full_proxy_rules_duration_seconds_count",
    "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.25\"}",
    "kubeproxy_network_programming_duration_seconds_bucket{le=\"300\"}",
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_service_changes_pending",
    "kubeproxy_sync_proxy_rules_service_changes_total",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"}",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"}",
    "kubeproxy_conntrack_reconciler_sync_duration_seconds_count",
    "rest_client_requests_total{code=\"200\",method=\"GET\"}",
    "rest_client_request_duration_seconds_bucket{verb!=\"\",le=\"1\"}",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "go_goroutines",
    "kubernetes_build_info{git_version=~\"v1.36.*\"}",
];
