use super::*;
use crate::pods::spec::ImageUser;
use crate::pods::spec::tests::{configure_as, node, pod, strings};

#[test]
fn limits_and_weights() {
    let resources = |spec: &str, container: &str, node: &NodeFacts| {
        let config = configure_as(&pod(spec, container), node, ImageUser::Uid(0)).unwrap();
        config.linux.unwrap().resources.unwrap()
    };
    let limits = r#","resources":{"requests":{"cpu":"100m","memory":"2Gi"},"limits":{"cpu":"250m","memory":"4Gi","hugepages-2Mi":"4Mi"}}"#;
    let found = resources("", limits, &node());
    assert_eq!(
        (found.cpu_shares, found.cpu_quota, found.cpu_period),
        (102, 25_000, 100_000)
    );
    assert_eq!((found.memory_limit_in_bytes, found.oom_score_adj), (4 << 30, 750));
    assert_eq!(found.unified, strings([("memory.oom.group", "1")]));
    assert_eq!(
        found.hugepage_limits,
        [v1::HugepageLimit {
            page_size: "2MB".into(),
            limit: 4 << 20
        }]
    );
    let bare = resources("", "", &node());
    assert_eq!(
        (bare.cpu_shares, bare.cpu_quota, bare.oom_score_adj),
        (2, 0, 1000)
    );

    let with_swap = |swap, cgroup_v2| NodeFacts {
        kernel: KernelFacts {
            swap,
            cgroup_v2,
            single_process_oom_kill: true,
            ..KernelFacts::default()
        },
        ..node()
    };
    assert_eq!(
        resources("", limits, &with_swap(Swap::No, true)).unified,
        strings([("memory.swap.max", "0")])
    );
    let limited = with_swap(Swap::Limited { capacity: 4 << 30 }, true);
    assert_eq!(
        resources("", limits, &limited).unified,
        strings([("memory.swap.max", "1073741824")])
    );
    assert_eq!(
        resources("", "", &limited).unified,
        strings([("memory.swap.max", "0")])
    );
    let v1 = resources("", limits, &with_swap(Swap::No, false));
    assert_eq!((v1.memory_swap_limit_in_bytes, v1.unified.len()), (4 << 30, 0));
}
