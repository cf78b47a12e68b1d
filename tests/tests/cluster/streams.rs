//! A user's way into running pods: exec, attach, port-forward, cp and debug with the real kubectl through the real API
//! server; sessions and refusals straight with the node.

mod debug;
mod exec;
mod forward;
mod large;
mod socket;
mod straight;

use gantry_tests::cluster::Test;
use k8s_openapi::api::core::v1::Pod;

/// A pod on node-1 with a container `c` that waits.
fn waiting_pod(test: &Test, name: &str) -> Pod {
    test.pod(
        name,
        "{nodeName: node-1, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}",
    );
    test.wait_ready(name)
}

/// A pod whose server listens at port 8080 and answers with the pod's name.
fn serving_pod(test: &Test, name: &str) -> Pod {
    test.pod(
        name,
        "{nodeName: node-1, containers: [{name: c, image: 'hello:1', \
           readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}]}",
    );
    test.wait_ready(name)
}
