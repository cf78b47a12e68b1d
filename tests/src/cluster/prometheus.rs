//! A Prometheus of the test's own: it scrapes the nodes as the community's charts configure it.
//!
//! Inputs: the cluster's nodes, a service account that may read `nodes/metrics`. The programs come from
//! `hack/prometheus`. The server runs in the network of the machines and ends with the value.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{NetNs, Test, repository};

/// The pages of a node agent.
pub const PAGES: [&str; 5] = [
    "/metrics",
    "/metrics/cadvisor",
    "/metrics/probes",
    "/metrics/resource",
    "/metrics/slis",
];

/// One series of an answer: its labels and its value.
pub type Series = (BTreeMap<String, String>, f64);

/// See the module's documentation.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
    reader: Reader,
}

/// Rights of a service account beyond its namespace, taken away again at the end.
struct Reader {
    cluster: &'static super::Cluster,
    name: String,
}

/// The directory with prometheus and promtool.
fn programs() -> PathBuf {
    let output = Command::new(repository().join("hack/prometheus"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("cannot run hack/prometheus: {error}"));
    assert!(
        output.status.success(),
        "run hack/prometheus first, the network of the machines leads nowhere: {output:?}"
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// What `promtool check metrics` has to say of a page: nothing, if it is clean.
pub fn promtool(page: &str) -> Vec<String> {
    let mut child = Command::new(programs().join("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run promtool: {error}"));
    let mut input = child.stdin.take().expect("its input is a pipe");
    // It reads all before it writes.
    input.write_all(page.as_bytes()).expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let lines = String::from_utf8_lossy(&said);
    lines.lines().map(str::to_owned).collect()
}

impl Prometheus {
    /// Scrapes all pages of all nodes' agents, and all proxies, each second.
    pub fn start(test: &Test) -> Self {
        let reader = Reader::new(test);
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("token"), reader.token(test)).expect("a file");
        let nodes = test.cluster.node_names();
        let nodes: Vec<(String, IpAddr)> = nodes
            .into_iter()
            .map(|name| (name.clone(), test.node_ip(&name)))
            .collect();
        let config = config(&nodes, &dir);
        fs::write(dir.path().join("prometheus.yml"), config.to_string()).expect("a file");
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // Free a moment ago, in a network with few listeners.
        let address = TcpListener::bind((local, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let child = Command::new(programs().join("prometheus"))
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start prometheus: {error}"));
        Self {
            child,
            address,
            dir,
            reader,
        }
    }

    /// Targets that are not up: what and why. An error when it does not answer yet.
    pub fn down(&self) -> Result<Vec<String>, String> {
        let answer = self.ask("/api/v1/targets?state=active")?;
        let targets = answer["data"]["activeTargets"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if targets.is_empty() {
            return Err("no targets yet".to_owned());
        }
        let down = targets.iter().filter(|target| target["health"] != "up");
        Ok(down
            .map(|target| format!("{}: {}", target["scrapeUrl"], target["lastError"]))
            .collect())
    }

    /// The series that an expression gives now.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={escaped}"))?;
        if answer["status"] != "success" {
            return Err(format!("{expression}: {answer}"));
        }
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let series = |one: &Value| {
            let labels = serde_json::from_value(one["metric"].clone()).ok()?;
            Some((labels, one["value"][1].as_str()?.parse().ok()?))
        };
        Ok(result.iter().filter_map(series).collect())
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let text = NetNs::outside().http_get(self.address, path).map_err(|error| {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            format!("{error}\n{log}")
        })?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.reader.remove();
    }
}

/// JSON is YAML. Every page is a job of its own, but they all carry the label `job="kubelet"` and their path, as with
/// kube-prometheus.
fn config(nodes: &[(String, IpAddr)], dir: &TempDir) -> Value {
    let targets = |port: u16| -> Vec<Value> {
        let of = |(name, ip): &(String, IpAddr)| json!({"targets": [SocketAddr::new(*ip, port).to_string()], "labels": {"node_name": name, "cluster": "test"}});
        nodes.iter().map(of).collect()
    };
    let mut jobs: Vec<Value> = PAGES
        .iter()
        .map(|page| {
            json!({
                "job_name": format!("kubelet{page}"),
                "scheme": "https",
                "metrics_path": page,
                "honor_labels": true,
                "tls_config": {"insecure_skip_verify": true},
                "authorization": {"credentials_file": dir.path().join("token")},
                "static_configs": targets(10250),
                "relabel_configs": [
                    {"target_label": "job", "replacement": "kubelet"},
                    {"source_labels": ["__metrics_path__"], "target_label": "metrics_path"},
                ],
            })
        })
        .collect();
    jobs.push(json!({"job_name": "kube-proxy", "static_configs": targets(10249)}));
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": jobs,
    })
}

impl Reader {
    /// A service account of the test's namespace that may read the metrics of nodes, and nothing else.
    fn new(test: &Test) -> Self {
        test.create::<ServiceAccount>("metadata: {name: prometheus}");
        let name = format!("prometheus-{}", test.namespace());
        let reader = Self {
            cluster: test.cluster,
            name: name.clone(),
        };
        let role: ClusterRole = parse(json!({
            "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}],
        }));
        let binding: ClusterRoleBinding = parse(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": test.namespace()}],
        }));
        let client = test.cluster.client();
        let (roles, bindings) = (Api::all(client.clone()), Api::all(client));
        let params = PostParams::default();
        let made = test.cluster.request(async {
            roles.create(&params, &role).await?;
            bindings.create(&params, &binding).await
        });
        made.unwrap_or_else(|error| panic!("cannot give rights: {error}"));
        reader
    }

    fn token(&self, test: &Test) -> String {
        let accounts: Api<ServiceAccount> = test.api();
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let params = PostParams::default();
        let token = self
            .cluster
            .request(accounts.create_token_request("prometheus", &params, &request));
        let token = token.unwrap_or_else(|error| panic!("no token: {error}"));
        token.status.and_then(|status| status.token).unwrap_or_default()
    }

    fn remove(&self) {
        let client = self.cluster.client();
        let roles: Api<ClusterRole> = Api::all(client.clone());
        let bindings: Api<ClusterRoleBinding> = Api::all(client);
        let params = DeleteParams::default();
        let removed = self.cluster.request(async {
            bindings.delete(&self.name, &params).await?;
            roles.delete(&self.name, &params).await
        });
        if let Err(error) = removed {
            eprintln!("the rights of {} stay behind: {error}", self.name);
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("bad object in the test: {error}"))
}
