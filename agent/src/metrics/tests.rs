//! What a scrape shows.

use super::*;
use crate::config::testing;

/// Series that dashboards and alerts read and that are there from the beginning.
const FROM_THE_START: &[&str] = &[
    "go_goroutines",
    "kubelet_active_pods",
    "kubelet_certificate_manager_client_expiration_renew_errors",
    "kubelet_desired_pods",
    "kubelet_node_config_error",
    "kubelet_node_name",
    "kubelet_pleg_last_seen_seconds",
    "kubelet_pleg_relist_duration_seconds",
    "kubelet_pleg_relist_interval_seconds",
    "kubelet_pod_start_duration_seconds",
    "kubelet_pod_start_sli_duration_seconds",
    "kubelet_server_expiration_renew_errors",
    "kubelet_started_pods_total",
    "kubelet_working_pods",
    "kubernetes_build_info",
    "kubernetes_feature_enabled",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
];

fn text(metrics: &Metrics, page: Page) -> String {
    String::from_utf8(metrics.page(page).unwrap()).unwrap()
}

#[tokio::test]
async fn every_name_is_registered_once_and_the_first_scrape_shows_the_basics() {
    let metrics = Metrics::new(&testing::config(""));
    let main = text(&metrics, Page::Main);
    for name in FROM_THE_START {
        assert!(
            main.contains(&format!("# TYPE {name} ")),
            "{name} is missing in {main}"
        );
    }
    assert!(main.contains("kubelet_node_name{node=\"node-1\"} 1"), "{main}");
    assert!(
        main.contains("kubernetes_feature_enabled{name=\"NodeSwap\",stage=\"\"} 1"),
        "{main}"
    );
}

#[tokio::test]
async fn pages_are_apart_and_each_has_its_start() {
    let metrics = Metrics::new(&testing::config(""));
    metrics.http.checked("ping", true);
    for page in [Page::Probes, Page::Slis] {
        let text = text(&metrics, page);
        assert!(text.contains("process_start_time_seconds"), "{text}");
        assert!(
            !text.contains("kubelet_") && !text.contains("process_cpu"),
            "{text}"
        );
    }
    let slis = text(&metrics, Page::Slis);
    assert!(
        slis.contains("kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1"),
        "{slis}"
    );
    let total = "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1";
    assert!(slis.contains(total), "{slis}");
}
