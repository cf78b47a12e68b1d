//! What the gauges and labels of pods say.

use super::*;

#[test]
fn a_pod_leaves_the_gauges_as_it_found_them() {
    let metrics = PodMetrics::default();
    let desired = || metrics.gauges.desired.with_label_values(&[""]).get();
    let active = || metrics.gauges.active.with_label_values(&[""]).get();
    let standing = Standing {
        place: Place::Syncing,
        desired: true,
        known: true,
        is_static: false,
        ephemeral: 2,
    };
    metrics.stands(standing, 1);
    assert_eq!((desired(), active(), metrics.gauges.ephemeral.get()), (1, 1, 2));
    let ended = Standing {
        place: Place::Terminated,
        ..standing
    };
    metrics.stands(standing, -1);
    metrics.stands(ended, 1);
    assert_eq!((desired(), active()), (1, 0));
    metrics.stands(ended, -1);
    assert_eq!((desired(), active(), metrics.gauges.ephemeral.get()), (0, 0, 0));
}

#[test]
fn reasons_are_few() {
    let metrics = PodMetrics::default();
    for (reason, label) in [
        ("OutOfcpu", "OutOfcpu"),
        ("OutOfexample.com/gpu", "OutOfExtendedResources"),
        ("Whatever", "Other"),
    ] {
        metrics.rejected(reason);
        assert_eq!(metrics.rejected.with_label_values(&[label]).get(), 1);
    }
}
