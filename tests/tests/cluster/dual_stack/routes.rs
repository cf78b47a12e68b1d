//! Routes to the pods of other nodes.

use gantry_tests::cluster::{Machine, Test, poll, secs};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::start;

/// A Node without a machine, deleted with this value.
struct Ghost {
    test: Test,
    name: String,
}

impl Ghost {
    /// It has these pod ranges and these addresses.
    fn new(test: Test, ranges: [&str; 2], addresses: [&str; 2]) -> Self {
        let name = format!("ghost-{}", test.namespace());
        let object = json!({
            "metadata": {"name": name},
            "spec": {"unschedulable": true, "podCIDR": ranges[0], "podCIDRs": ranges},
        });
        let object: Node = serde_json::from_value(object).expect("a Node");
        let addresses = addresses.map(|address| json!({"type": "InternalIP", "address": address}));
        let ghost = Self { test, name };
        let nodes = ghost.nodes();
        let made = ghost.test.cluster.request(async {
            nodes.create(&PostParams::default(), &object).await?;
            let status = Patch::Merge(json!({"status": {"addresses": addresses}}));
            nodes
                .patch_status(&ghost.name, &PatchParams::default(), &status)
                .await
        });
        made.expect("a Node is made");
        ghost
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.test.cluster.client())
    }

    fn delete(&self) -> Result<(), String> {
        let (nodes, params) = (self.nodes(), DeleteParams::default());
        let deleted = self.test.cluster.request(nodes.delete(&self.name, &params));
        deleted.map(drop)
    }
}

impl Drop for Ghost {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.delete());
    }
}

#[test]
fn routes_to_pods_come_and_go_with_their_node_in_both_families() {
    let Some(test) = start("dual-routes") else {
        return;
    };
    if test.cluster.is_reference("proxy") {
        // The reference leaves routes to others.
        return;
    }
    let ghost = Ghost::new(
        test,
        ["10.244.231.0/24", "fd00:244:0:e7::/64"],
        ["10.77.0.231", "fd00:77::231"],
    );
    let machine = Machine::named("node-1");
    let routes = || machine.sh("ip route show proto 117; ip -6 route show proto 117");
    let expected = [
        "10.244.231.0/24 via 10.77.0.231 ",
        "fd00:244:0:e7::/64 via fd00:77::231 ",
    ];
    poll(secs(30), "both ranges have a route", || {
        let found = routes();
        expected.iter().all(|route| found.contains(route)).then_some(())
    });
    ghost.delete().expect("the Node is deleted");
    poll(secs(30), "no route is left of the node", || {
        let found = routes();
        expected.iter().all(|route| !found.contains(route)).then_some(())
    });
}
