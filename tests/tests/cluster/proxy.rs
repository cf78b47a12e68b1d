//! What load balancers and operators ask the service proxy of a node.

use std::net::SocketAddr;

use gantry_tests::cluster::{Machine, Test, poll, secs};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use serde_json::Value;

const SERVER: &str = r"
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: hello, image: 'hello:1', readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
";

const BALANCED: &str = r"
metadata: {name: hello}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
";

/// An answer as curl shows it: head in lower case, and body.
fn ask(machine: &Machine, url: &str) -> Result<(String, String), String> {
    let out = machine.try_run(&["curl", "--silent", "--include", "--max-time", "5", url]);
    if out.code != Some(0) {
        return Err(format!("curl: exit code {:?}", out.code));
    }
    let (head, body) = out.out.split_once("\r\n\r\n").ok_or("no end of the head")?;
    Ok((head.to_lowercase(), body.to_owned()))
}

fn body(machine: &Machine, url: &str) -> String {
    let (head, body) = ask(machine, url).expect("an answer");
    assert!(head.starts_with("http/1.1 200"), "{url}: {head}");
    body
}

/// Waits until a health check tells of so many endpoints.
fn told(machine: &Machine, url: &str, endpoints: usize) -> (String, String) {
    let what = format!("{url} on {} tells of {endpoints} endpoints", machine.name());
    let weight = format!("\r\nx-load-balancing-endpoint-weight: {endpoints}");
    poll(secs(30), &what, || {
        ask(machine, url).ok().filter(|(head, _)| head.contains(&weight))
    })
}

#[test]
fn a_load_balancer_is_told_which_nodes_have_endpoints() {
    let test = Test::start("lb-health-check");
    test.create::<Deployment>(SERVER);
    let service: Service = test.create(BALANCED);
    let port = service.spec.and_then(|spec| spec.health_check_node_port);
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .expect("a health check port");
    let list = ListParams::default().labels("app=hello");
    let here = poll(secs(60), "the pod has a node", || {
        let pods = test.cluster.request(test.api::<Pod>().list(&list)).ok()?;
        pods.items.into_iter().next()?.spec?.node_name
    });
    let url = |node: &str| format!("http://{}/whatever", SocketAddr::new(test.node_ip(node), port));
    let nodes = test.cluster.node_names();
    for node in &nodes {
        let endpoints = usize::from(*node == here);
        let (head, body) = told(&Machine::named(node), &url(node), endpoints);
        let code = if endpoints == 1 { "200" } else { "503" };
        for line in [
            format!("http/1.1 {code}"),
            "content-type: application/json".to_owned(),
            "x-content-type-options: nosniff".to_owned(),
        ] {
            assert!(head.contains(&line), "{line} is missing in {head}");
        }
        let namespace = test.namespace();
        assert_eq!(
            body,
            format!(
                "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"hello\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}"
            )
        );
    }
    test.delete::<Deployment>("hello", None);
    let (head, _) = told(&Machine::named(&here), &url(&here), 0);
    assert!(head.starts_with("http/1.1 503"), "{head}");
    test.delete::<Service>("hello", None);
    for node in &nodes {
        poll(secs(30), "the health check is closed with its service", || {
            ask(&Machine::named(node), &url(node)).err()
        });
    }
}

#[test]
fn operators_find_the_proxys_pages() {
    let test = Test::start("proxy-pages");
    let machine = Machine::named(&test.cluster.node_names()[0]);
    let page = |path: &str| body(&machine, &format!("http://127.0.0.1:10249{path}"));
    assert_eq!(
        (page("/healthz"), page("/proxyMode")),
        ("ok".to_owned(), "nftables".to_owned())
    );
    assert!(page("/metrics/slis").contains("kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1"));
    assert!(page("/flagz").contains("\nkube-proxy flagz\n"));
    assert!(page("/statusz").contains("\nkube-proxy statusz\n"));
    let configuration: Value = serde_json::from_str(&page("/configz")).expect("JSON");
    let configuration = &configuration["kubeproxy.config.k8s.io"];
    assert_eq!(configuration["kind"], "KubeProxyConfiguration");
    assert_eq!(configuration["nodePortAddresses"], serde_json::json!(["primary"]));
    assert_eq!(configuration["conntrack"]["tcpEstablishedTimeout"], "24h0m0s");
    for (path, eligible) in [("/healthz", Some(true)), ("/livez", None)] {
        let text = body(&machine, &format!("http://127.0.0.1:10256{path}"));
        let said: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(said["healthy"], true, "{text}");
        assert_eq!(said["status"]["IPv4"]["healthy"], true, "{text}");
        assert_eq!(
            said.get("nodeEligible").and_then(Value::as_bool),
            eligible,
            "{text}"
        );
        assert!(text.starts_with("{\"lastUpdated\":\"20"), "{text}");
    }
}
