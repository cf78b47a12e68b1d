//! Names: cluster DNS, resolv.conf, the hosts file, host names.

use gantry_tests::cluster::{Test, pods, secs, wait::poll_ok};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;

const IDLE: &str = "containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]";

#[test]
fn coredns_as_kubeadm_deploys_it_is_ready_and_was_never_restarted() {
    let test = Test::start("dns-coredns");
    let deployments: Api<Deployment> = Api::namespaced(test.cluster.client(), "kube-system");
    poll_ok(secs(60), "CoreDNS has 2 ready replicas", || {
        let ready = test
            .cluster
            .request(deployments.get("coredns"))?
            .status
            .and_then(|status| status.ready_replicas);
        if ready == Some(2) {
            Ok(())
        } else {
            Err(format!("{ready:?}"))
        }
    });
    let dns: Api<Pod> = Api::namespaced(test.cluster.client(), "kube-system");
    let list = kube::api::ListParams::default().labels("k8s-app=kube-dns");
    for pod in test.cluster.request(dns.list(&list)).expect("pods are listed") {
        assert_eq!(pods::restarts(&pod, "coredns"), 0);
    }
}

#[test]
fn names_of_services_and_pods_resolve_from_every_node() {
    let test = Test::start("dns-names");
    test.create::<Service>("{metadata: {name: group}, spec: {clusterIP: None, selector: {app: member}}}");
    let service: Service =
        test.create("{metadata: {name: single}, spec: {selector: {app: member}, ports: [{port: 80}]}}");
    let cluster_ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    test.pod(
        "member",
        &format!("{{nodeName: node-1, hostname: first, subdomain: group, {IDLE}}}"),
    );
    let member = test.wait_ready("member");
    let api = test.cluster.primary("10.96.0.1", "fd00:96::1");
    for node in test.cluster.node_names() {
        let name = format!("client-{node}");
        test.pod(&name, &format!("{{nodeName: {node}, {IDLE}}}"));
        let client = test.wait_ready(&name);
        let namespace = test.namespace();
        for (name, address) in [
            ("kubernetes.default".to_owned(), api.to_owned()),
            ("single".to_owned(), cluster_ip.clone()),
            (
                format!("single.{namespace}.svc.cluster.local"),
                cluster_ip.clone(),
            ),
            ("first.group".to_owned(), pods::ip(&member).to_string()),
        ] {
            poll_ok(secs(40), &format!("{name} resolves on {node}"), || {
                // ping prints the address that it resolved; nobody has to answer.
                let said = test.try_exec(&client, "c", &format!("ping -c1 -W1 {name}"));
                let expected = format!("({address})");
                if said.out.contains(&expected) {
                    Ok(())
                } else {
                    Err(format!("no {expected}: {said:?}"))
                }
            });
        }
    }
}

#[test]
fn resolv_conf_follows_the_dns_policy() {
    let test = Test::start("dns-policy");
    test.pod("first", &format!("{{nodeName: node-1, {IDLE}}}"));
    test.pod(
        "default",
        &format!("{{nodeName: node-1, dnsPolicy: Default, {IDLE}}}"),
    );
    test.pod("none", &format!("{{nodeName: node-1, dnsPolicy: None, dnsConfig: {{nameservers: [192.0.2.1], searches: [example.org], options: [{{name: ndots, value: '2'}}, {{name: edns0}}]}}, {IDLE}}}"));
    test.pod(
        "host",
        &format!("{{nodeName: node-1, hostNetwork: true, {IDLE}}}"),
    );
    let conf = |name: &str| test.exec(&test.wait_ready(name), "c", "cat /etc/resolv.conf");
    let namespace = test.namespace();
    let dns = test.cluster.primary("10.96.0.10", "fd00:96::a");
    assert_eq!(
        conf("first"),
        format!(
            "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver {dns}\noptions ndots:5"
        )
    );
    let of_node = test
        .cluster
        .primary("nameserver 10.77.0.1", "nameserver fd00:77::1");
    assert_eq!(conf("default"), of_node);
    assert_eq!(
        conf("none"),
        "search example.org\nnameserver 192.0.2.1\noptions ndots:2 edns0"
    );
    assert_eq!(conf("host"), of_node);
}

#[test]
fn the_hosts_file_names_the_pod_and_its_aliases() {
    let test = Test::start("dns-hosts");
    test.pod(
        "plain",
        &format!("{{nodeName: node-1, hostAliases: [{{ip: 192.0.2.7, hostnames: [foo, bar]}}], {IDLE}}}"),
    );
    test.pod(
        "named",
        &format!("{{nodeName: node-1, hostname: first, subdomain: group, {IDLE}}}"),
    );
    let plain = test.wait_ready("plain");
    let hosts = test.exec(&plain, "c", "cat /etc/hosts");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file."), "{hosts}");
    assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
    assert!(hosts.contains(&format!("{}\tplain", pods::ip(&plain))), "{hosts}");
    assert!(hosts.contains("192.0.2.7\tfoo\tbar"), "{hosts}");
    let named = test.wait_ready("named");
    let namespace = test.namespace();
    let line = format!(
        "{}\tfirst.group.{namespace}.svc.cluster.local\tfirst",
        pods::ip(&named)
    );
    let hosts = test.exec(&named, "c", "cat /etc/hosts");
    assert!(hosts.contains(&line), "no {line:?} in {hosts}");
    assert_eq!(test.exec(&named, "c", "hostname"), "first");
    assert_eq!(test.exec(&plain, "c", "hostname"), "plain");
}
