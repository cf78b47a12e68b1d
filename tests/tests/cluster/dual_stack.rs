//! Nodes, pods and Services with addresses of both families, whichever comes first. On a cluster of one family there is nothing to try.

mod flows;
mod routes;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use gantry_tests::cluster::{Machine, NetNs, Test, pods, poll, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use serde_json::Value;

use super::network::{ask, deploy, node_port};

/// Four pods behind a Service; `spec` says what it is beside its selector and ports.
struct Hello {
    test: Test,
    names: BTreeSet<String>,
    service: Service,
}

impl Hello {
    fn start(test: Test, spec: &str) -> Self {
        let service = test.create(&format!(
            "{{metadata: {{name: hello}}, spec: {{type: NodePort, selector: {{app: hello}}, {spec}, ports: [\
             {{name: http, port: 80, targetPort: 8080}}, {{name: echo, port: 80, targetPort: 8081, protocol: UDP}}]}}}}"
        ));
        let names = deploy(&test).iter().map(ResourceExt::name_any).collect();
        Self { names, test, service }
    }

    fn cluster_ips(&self) -> Vec<IpAddr> {
        let spec = self.service.spec.as_ref().expect("a Service has a spec");
        addresses(spec.cluster_ips.iter().flatten())
    }

    fn node_port(&self, protocol: &str) -> u16 {
        node_port(&self.service, protocol)
    }

    /// Asks over TCP and UDP until every pod has answered each way.
    #[track_caller]
    fn all_answer(&self, from: &NetNs, what: &str, to: impl Fn(&str) -> SocketAddr) {
        for protocol in ["TCP", "UDP"] {
            let (address, mut seen) = (to(protocol), BTreeSet::new());
            let what = format!("every pod answers {what}, {protocol} {address}");
            poll(secs(30), &what, || {
                seen.extend(ask(from, protocol, address).ok());
                (seen == self.names).then_some(())
            });
        }
    }
}

/// None on a cluster of one family.
fn start(name: &str) -> Option<Test> {
    let test = Test::start(name);
    test.cluster.is_dual_stack().then_some(test)
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    let parse = |text: &String| text.parse().expect("an address");
    texts.into_iter().map(parse).collect()
}

fn node_ips(test: &Test, name: &str) -> Vec<IpAddr> {
    let status = test.node(name).status.expect("a node has a status");
    let all = status.addresses.unwrap_or_default();
    let internal = all.iter().filter(|address| address.type_ == "InternalIP");
    addresses(internal.map(|address| &address.address))
}

fn pod_ips(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    addresses(ips.map(|ip| &ip.ip))
}

fn host_ips(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod
        .status
        .iter()
        .flat_map(|status| status.host_ips.iter().flatten());
    addresses(ips.map(|ip| &ip.ip))
}

/// The families, as the API writes them.
fn families(ips: &[IpAddr]) -> Vec<&'static str> {
    let name = |ip: &IpAddr| if ip.is_ipv6() { "IPv6" } else { "IPv4" };
    ips.iter().map(name).collect()
}

#[track_caller]
fn ipv6_of(ips: &[IpAddr]) -> IpAddr {
    let found = ips.iter().copied().find(IpAddr::is_ipv6);
    found.unwrap_or_else(|| panic!("no IPv6 address in {ips:?}"))
}

#[test]
fn nodes_and_pods_have_an_address_of_each_family() {
    let Some(test) = start("dual-addresses") else {
        return;
    };
    let env = "[{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}, \
               {name: HOSTS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}]";
    for node in test.cluster.node_names() {
        let of_node = node_ips(&test, &node);
        assert_eq!(families(&of_node), test.cluster.families(), "{node}");
        for (name, host_network) in [("own", false), ("host", true)] {
            let name = format!("{name}-{node}");
            test.pod(
                &name,
                &format!(
                    "{{nodeName: {node}, hostNetwork: {host_network}, \
                     containers: [{{name: c, image: 'busybox:1.36', command: [sleep, '1000'], env: {env}}}]}}"
                ),
            );
            let pod = test.wait_ready(&name);
            let ips = pod_ips(&pod);
            assert_eq!(families(&ips), test.cluster.families(), "{name}");
            assert_eq!(ips.first(), Some(&pods::ip(&pod)), "{name}");
            assert_eq!(host_ips(&pod), of_node, "{name}");
            if host_network {
                assert_eq!(ips, of_node, "{name}");
            }
            let list = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
            let said = test.exec(&pod, "c", "echo $IPS $HOSTS");
            assert_eq!(said, format!("{} {}", list(&ips), list(&of_node)), "{name}");
        }
    }
}

#[test]
fn pods_of_all_nodes_reach_each_other_in_both_families() {
    let Some(test) = start("dual-pods") else {
        return;
    };
    let pods = [
        test.idle_pod("one", "node-1"),
        test.idle_pod("two", "node-2"),
        test.idle_pod("neighbour", "node-1"),
    ];
    for (from, to) in [(0, 1), (1, 0), (0, 2)] {
        let (from, to) = (&pods[from], &pods[to]);
        for (own, target) in pod_ips(from).into_iter().zip(pod_ips(to)) {
            let listener = test.net_of(to).listen(target);
            let address = listener.local_addr().expect("a listener has an address");
            let _stream = test.net_of(from).connect(address).expect("pods reach each other");
            let (_, peer) = listener.accept().expect("the connection");
            assert_eq!(peer.ip(), own, "what {target} sees");
        }
    }
    // Nodes, and what is beside the cluster's nodes.
    let target = ipv6_of(&pod_ips(&pods[0]));
    let listener = test.net_of(&pods[0]).listen(target);
    let address = listener.local_addr().expect("a listener has an address");
    for machine in ["node-1", "node-2", "control-plane"] {
        let stream = NetNs::of_machine(&Machine::named(machine)).connect(address);
        assert!(stream.is_ok(), "{machine} to {address}: {stream:?}");
    }
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_ipv6_address() {
    let Some(test) = start("dual-outside") else {
        return;
    };
    if test.cluster.is_reference("cni") {
        // As in IPv4: the bridge plugin would masquerade between nodes, too.
        return;
    }
    let pod = test.idle_pod("client", "node-1");
    let outside = NetNs::outside().listen("fd00:77::1".parse().expect("an address"));
    let address = outside.local_addr().expect("a listener has an address");
    let _stream = test
        .net_of(&pod)
        .connect(address)
        .expect("a pod reaches the outside");
    let (_, peer) = outside.accept().expect("the connection");
    assert_eq!(peer.ip(), ipv6_of(&node_ips(&test, "node-1")));
}

#[test]
fn a_dual_stack_service_answers_on_all_its_addresses() {
    let Some(test) = start("dual-service") else {
        return;
    };
    let hello = Hello::start(test, "ipFamilyPolicy: RequireDualStack");
    let cluster_ips = hello.cluster_ips();
    assert_eq!(families(&cluster_ips), hello.test.cluster.families());
    let from_pod = hello.test.net_of(&hello.test.idle_pod("client", "node-1"));
    let from_node = NetNs::of_machine(&Machine::named("node-2"));
    let outside = NetNs::outside();
    for ip in cluster_ips {
        for (from, who) in [(&from_pod, "a pod"), (&from_node, "a node")] {
            hello.all_answer(from, &format!("{who} through the ClusterIP"), |_| (ip, 80).into());
        }
    }
    for node in hello.test.cluster.node_names() {
        for ip in node_ips(&hello.test, &node) {
            for (from, who) in [
                (&from_pod, "a pod"),
                (&from_node, "a node"),
                (&outside, "the outside"),
            ] {
                let what = format!("{who} through the NodePort on {node}");
                hello.all_answer(from, &what, |protocol| (ip, hello.node_port(protocol)).into());
            }
        }
    }
}

#[test]
fn a_service_of_one_family_is_not_served_in_the_other() {
    let Some(test) = start("dual-single") else {
        return;
    };
    let hello = Hello::start(test, "ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]");
    assert_eq!(families(&hello.cluster_ips()), ["IPv6"]);
    let outside = NetNs::outside();
    let ips = node_ips(&hello.test, "node-1");
    let node = ipv6_of(&ips);
    hello.all_answer(&outside, "the outside through the NodePort", |protocol| {
        (node, hello.node_port(protocol)).into()
    });
    let ipv4 = ips.into_iter().find(IpAddr::is_ipv4).expect("an IPv4 address");
    let other = SocketAddr::new(ipv4, hello.node_port("TCP"));
    let refused = outside.connect(other).map(|_| ()).map_err(|error| error.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "{other}");
    // A second family is added without a restart of anything, and taken away again.
    let both = "{spec: {ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]}}";
    hello.test.patch::<Service>("hello", both);
    hello.all_answer(&outside, "the outside through the other family", |protocol| {
        (ipv4, hello.node_port(protocol)).into()
    });
    let ip = hello.cluster_ips()[0];
    let one = format!("{{spec: {{ipFamilyPolicy: SingleStack, ipFamilies: [IPv6], clusterIPs: ['{ip}']}}}}");
    hello.test.patch::<Service>("hello", &one);
    poll_ok(secs(30), "the other family is refused again", || {
        match outside.connect(other) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn health_checks_and_series_tell_of_both_families() {
    let Some(test) = start("dual-pages") else {
        return;
    };
    deploy(&test);
    let service: Service = test.create(
        "{metadata: {name: hello}, spec: {type: LoadBalancer, externalTrafficPolicy: Local, \
         ipFamilyPolicy: RequireDualStack, selector: {app: hello}, ports: [{port: 80, targetPort: 8080}]}}",
    );
    let port = service.spec.and_then(|spec| spec.health_check_node_port);
    let port = port.and_then(|port| u16::try_from(port).ok());
    let port = port.expect("a health check port");
    let outside = NetNs::outside();
    for node in test.cluster.node_names() {
        for ip in node_ips(&test, &node) {
            let what = format!("{node} has two endpoints, says {ip}");
            poll_ok(secs(60), &what, || {
                let body = outside.http_get((ip, port).into(), "/")?;
                let said: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
                let right = said["localEndpoints"] == 2;
                right.then_some(()).ok_or(body)
            });
            let body = outside.http_get((ip, 10256).into(), "/healthz").expect("healthy");
            let said: Value = serde_json::from_str(&body).expect("JSON");
            for family in ["IPv4", "IPv6"] {
                assert_eq!(said["status"][family]["healthy"], true, "{body}");
            }
        }
        let series = NetNs::of_machine(&Machine::named(&node))
            .http_get(([127, 0, 0, 1], 10249).into(), "/metrics")
            .expect("series");
        for family in ["IPv4", "IPv6"] {
            for name in [
                "sync_proxy_rules_duration_seconds_count",
                "sync_full_proxy_rules_duration_seconds_count",
                "sync_proxy_rules_last_timestamp_seconds",
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "conntrack_reconciler_sync_duration_seconds_count",
                "network_programming_duration_seconds_count",
            ] {
                let series_of_family = format!("\nkubeproxy_{name}{{ip_family=\"{family}\"}} ");
                assert!(
                    series.contains(&series_of_family),
                    "{series_of_family} is missing on {node}"
                );
            }
        }
    }
}
