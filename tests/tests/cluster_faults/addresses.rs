//! A node that has no address left for a pod.

use gantry_tests::cluster::{Machine, Test, pods, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::{NODE_1, alone};

/// Sorts before every other configuration, so it is the one that counts.
const OVERRIDE: &str = "/etc/cni/net.d/00-few-addresses.conflist";

/// A network configuration with three addresses, in force until it is dropped.
struct FewAddresses(Machine);

impl FewAddresses {
    fn on(machine: Machine) -> Self {
        let current = machine.sh("cat $(ls /etc/cni/net.d/*.conflist | head -n 1)");
        let mut config: Value = serde_json::from_str(&current).expect("the configuration is JSON");
        let ipam = config
            .pointer_mut("/plugins/0/ipam")
            .expect("the first plugin has an ipam section");
        let subnet = ["/ranges/0/0/subnet", "/subnet"]
            .iter()
            .find_map(|path| ipam.pointer(path)?.as_str());
        let subnet = subnet.expect("the ipam section has a subnet").to_owned();
        let prefix = subnet.rsplit_once('.').expect("an IPv4 range").0;
        let few = json!({"subnet": subnet, "rangeStart": format!("{prefix}.201"), "rangeEnd": format!("{prefix}.203")});
        if let Some(fields) = ipam.as_object_mut() {
            fields.remove("subnet");
            fields.insert("ranges".into(), json!([[few]]));
        }
        machine.sh(&format!(
            "printf '%s' '{config}' >{OVERRIDE}.new && mv {OVERRIDE}.new {OVERRIDE}"
        ));
        Self(machine)
    }
}

impl Drop for FewAddresses {
    fn drop(&mut self) {
        self.0.try_run(&["rm", "-f", OVERRIDE]);
    }
}

#[test]
fn a_pod_without_an_address_says_so_and_gets_the_next_free_one() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-addresses");
    let _few = FewAddresses::on(Machine::named("node-1"));
    // The runtime takes a new configuration when it may: until then pods have addresses of the whole range.
    let mut few = Vec::new();
    poll_ok(secs(30), "three pods with the last addresses", || {
        let name = format!("pod-{:04x}", rand::random::<u16>());
        let pod = test.idle_pod(&name, "node-1");
        let address = pods::ip(&pod).to_string();
        if [".201", ".202", ".203"].iter().any(|end| address.ends_with(end)) {
            few.push(name);
        }
        if few.len() == 3 {
            Ok(())
        } else {
            Err(format!("the last one got {address}"))
        }
    });
    test.pod(
        "waits",
        "{nodeName: node-1, containers: [{name: c, image: 'registry.k8s.io/pause:3.10'}]}",
    );
    let expected = if test.cluster.is_reference("cni") {
        "no IP addresses available"
    } else {
        "no free address in"
    };
    test.wait_event("waits", "FailedCreatePodSandBox", expected, secs(30));
    let waits: Pod = test.get("waits");
    assert!(
        pods::waits_for(&waits, "c", "ContainerCreating"),
        "{:?}",
        pods::container(&waits, "c")
    );
    test.delete::<Pod>(&few[0], None);
    test.wait_pod("waits", "Ready", secs(90), pods::ready);
}
