use super::*;

fn node() -> NodeDns {
    NodeDns {
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        host: Some(parse_resolv_conf(
            "nameserver 8.8.8.8\nsearch example.com cluster.local.\noptions timeout:1\n",
        )),
        node_ips: vec!["192.168.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
    }
}

fn pod(spec: &str) -> Pod {
    let json = format!(
        r#"{{"metadata":{{"name":"p","namespace":"ns","uid":"u"}},"spec":{{"containers":[],{spec}}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn texts(config: &DnsConfig) -> (String, String, String) {
    (
        config.servers.join(" "),
        config.searches.join(" "),
        config.options.join(" "),
    )
}

fn of(spec: &str, node: &NodeDns) -> (String, String, String) {
    texts(&pod_dns(&pod(spec), node).0)
}

fn words(servers: &str, searches: &str, options: &str) -> (String, String, String) {
    (servers.to_owned(), searches.to_owned(), options.to_owned())
}

#[test]
fn resolv_conf() {
    let text = "# c\n nameserver 1.1.1.1 \nnameserver 2.2.2.2\nnameserver\nsearch old\nsearch a.b. . c\n\
                options ndots:2 rotate\noptions ndots:3\nsortlist x\n";
    assert_eq!(
        texts(&parse_resolv_conf(text)),
        words("1.1.1.1 2.2.2.2", "a.b c", "ndots:3 rotate")
    );
}

#[test]
fn policies() {
    let cluster = words(
        "10.96.0.10",
        "ns.svc.cluster.local svc.cluster.local cluster.local example.com",
        "ndots:5",
    );
    let host = words("8.8.8.8", "example.com cluster.local", "timeout:1");
    assert_eq!(of(r#""dnsPolicy":"ClusterFirst""#, &node()), cluster);
    assert_eq!(
        of(
            r#""dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true"#,
            &node()
        ),
        cluster
    );
    assert_eq!(
        of(r#""dnsPolicy":"ClusterFirst","hostNetwork":true"#, &node()),
        host
    );
    assert_eq!(of(r#""dnsPolicy":"Default""#, &node()), host);
    assert_eq!(of(r#""dnsPolicy":"None""#, &node()), words("", "", ""));
}

#[test]
fn the_pods_own_configuration_is_merged() {
    let own = r#""dnsPolicy":"ClusterFirst","dnsConfig":{"nameservers":["1.1.1.1","10.96.0.10"],"searches":["x.y","svc.cluster.local"],
        "options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}"#;
    assert_eq!(
        of(own, &node()),
        words(
            "10.96.0.10 1.1.1.1",
            "ns.svc.cluster.local svc.cluster.local cluster.local example.com x.y",
            "ndots:2 edns0"
        )
    );
}

#[test]
fn without_cluster_dns_the_hosts_is_used_and_said_so() {
    let node = NodeDns {
        cluster_dns: Vec::new(),
        ..node()
    };
    let (config, warnings) = pod_dns(&pod(r#""dnsPolicy":"ClusterFirst""#), &node);
    assert_eq!(config.servers, ["8.8.8.8"]);
    assert_eq!(warnings[0].reason, "MissingClusterDNS");
    assert!(
        warnings[0]
            .message
            .starts_with(r#"pod: "p_ns(u)". kubelet does not have"#)
    );
}

#[test]
fn an_empty_resolv_conf_setting_finds_nothing() {
    let node = NodeDns { host: None, ..node() };
    assert_eq!(
        of(r#""dnsPolicy":"Default""#, &node),
        words("127.0.0.1 ::1", ".", "")
    );
}

#[test]
fn limits() {
    let own = r#""dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1","2.2.2.2","3.3.3.3","4.4.4.4"],"searches":["a"]}"#;
    let (config, warnings) = pod_dns(&pod(own), &node());
    assert_eq!(config.servers.len(), 3);
    assert_eq!(
        warnings[0].message,
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
         1.1.1.1 2.2.2.2 3.3.3.3"
    );
    let searches: Vec<String> = (0..40).map(|i| format!("\"{i}.{}\"", "x".repeat(100))).collect();
    let own = format!(
        r#""dnsPolicy":"None","dnsConfig":{{"searches":[{}]}}"#,
        searches.join(",")
    );
    let (config, warnings) = pod_dns(&pod(&own), &node());
    assert!(config.searches.join(" ").len() <= 2048 && config.searches.len() == 19);
    assert_eq!(warnings.len(), 1);
    let long = format!(
        r#""dnsPolicy":"None","dnsConfig":{{"searches":["{}","b"]}}"#,
        "y".repeat(300)
    );
    assert_eq!(pod_dns(&pod(&long), &node()).0.searches, ["b"]);
}

proptest::proptest! {
    #[test]
    fn any_resolv_conf_is_read(text in "((nameserver|search|options|#)?[ \\t]?[a-z0-9.: ]{0,12}\n){0,6}|(.|\n){0,200}") {
        let config = parse_resolv_conf(&text);
        proptest::prop_assert!(config.searches.iter().all(|path| !path.contains(char::is_whitespace)));
    }
}
