//! The daemon that enforces network policies is killed while pods start that it has been told of.

use gantry_tests::cluster::{NodeProxy, Test, pods, secs};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::{NODE_1, alone};

const STRANGERS_REACH_NOBODY: &str = r"
metadata: {name: strangers-reach-nobody}
spec: {podSelector: {matchLabels: {role: stranger}}, policyTypes: [Egress]}
";

/// Tries for some seconds, from its first moment on; fails if nobody ever answers.
const TRIES: &str = "for i in 1 2 3 4 5 6 7 8; do echo | nc -w 1 SERVER 8080 && exit 0; done; exit 1";

#[test]
fn no_pod_gets_through_while_the_proxy_is_killed_again_and_again() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-policy");
    if test.cluster.is_reference("proxy") {
        return;
    }
    let proxy = NodeProxy::on(test.cluster, "node-1");
    let spec = "{nodeName: node-2, containers: [{name: c, image: 'hello:1'}]}";
    test.pod("server", spec);
    let server = pods::ip(&test.wait_ready("server")).to_string();
    test.create::<NetworkPolicy>(STRANGERS_REACH_NOBODY);
    let script = TRIES.replace("SERVER", &server);
    let names: Vec<String> = (0..20).map(|number| format!("stranger-{number}")).collect();
    for name in &names {
        test.create::<Pod>(&format!(
            "{{metadata: {{name: {name}, labels: {{role: stranger}}}}, spec: {{nodeName: node-1, restartPolicy: Never, \
             terminationGracePeriodSeconds: 1, containers: [{{name: c, image: 'busybox:1.36', command: [sh, -c, '{script}']}}]}}}}"
        ));
    }
    let ended = |pod: &Pod| ["Failed", "Succeeded"].contains(&pods::phase(pod));
    for _ in 0..3 {
        proxy.kill();
    }
    for name in names {
        let pod = test.wait_pod(&name, "ended", secs(60), ended);
        assert_eq!(pods::phase(&pod), "Failed", "{name}: {}", test.log(&pod, "c"));
    }
}
