//! Gantry's daemon as users install it: an upgrade under connections, uninstalling, and installing again. The whole cluster is
//! disturbed, so these run one after the other, beside nothing else. A cluster with a reference program has no daemon.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_tests::cluster::{Machine, NetNs, Test, exchange_line, pods, poll, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::Service;

const DAEMON: &str = "daemonset/gantry";
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/install.yaml");
const UNINSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/uninstall.yaml");

/// `None` where there is no daemon.
fn start(name: &str) -> Option<Test> {
    let test = Test::start(name);
    let all_ours = !test.cluster.is_reference("proxy") && !test.cluster.is_reference("cni");
    all_ours.then_some(test)
}

/// kubectl in the daemon's namespace.
fn system(test: &Test, arguments: &[&str]) -> String {
    test.kubectl(&[&["--namespace=kube-system"], arguments].concat())
}

/// The daemon's new pods run everywhere.
fn wait_rolled_out(test: &Test) {
    system(test, &["rollout", "status", DAEMON, "--timeout=180s"]);
}

/// The image that this cluster runs: a build has a name of its own.
fn image(test: &Test) -> String {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    system(test, &["get", DAEMON, "-o", path])
}

/// Applies a manifest as it is, but for the image's name.
fn apply(test: &Test, manifest: &str, image: &str) {
    let text = std::fs::read_to_string(manifest).expect("the manifest is there");
    let lines = text.lines().map(|line| match line.split_once("image: gantry/") {
        Some((indent, _)) => format!("{indent}image: {image}\n"),
        None => format!("{line}\n"),
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines.collect::<String>()).expect("written");
    system(test, &["apply", "-f", file.path().to_str().expect("text")]);
}

/// A server on one node, a client on the other, and the Service between them.
fn parties(test: &Test) -> (NetNs, SocketAddr) {
    let (server, client) = (
        test.idle_pod("server", "node-1"),
        test.idle_pod("client", "node-2"),
    );
    let listener = test
        .net_of(&server)
        .run(|| TcpListener::bind((pods::ip(&server), 9000)))
        .expect("a listener in the server's pod");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut from, mut to) = (&stream, &stream);
                std::io::copy(&mut from, &mut to)
            });
        }
    });
    let service: Service =
        test.create("{metadata: {name: server}, spec: {selector: {app: server}, ports: [{port: 9000}]}}");
    let ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let address = SocketAddr::new(ip.parse().expect("a ClusterIP"), 9000);
    let client = test.net_of(&client);
    drop(wait_answer(&client, address));
    (client, address)
}

fn wait_answer(client: &NetNs, address: SocketAddr) -> TcpStream {
    poll_ok(secs(60), "the Service answers", || {
        client.connect(address).map_err(|error| error.to_string())
    })
}

fn ask(stream: std::io::Result<TcpStream>) -> Result<(), String> {
    let answer = stream.and_then(|mut stream| exchange_line(&mut stream, "there?"));
    match answer.as_deref() {
        Ok("there?") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn an_upgrade_loses_no_connection() {
    let Some(test) = start("inst-upgrade") else {
        return;
    };
    let (client, address) = parties(&test);
    let old = wait_answer(&client, address);
    let done = AtomicBool::new(false);
    let (asked, failures) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut asked, mut failures) = (0_u32, Vec::new());
            while !done.load(Ordering::Relaxed) {
                asked += 1;
                failures.extend(ask(client.connect(address)).err());
                failures.extend(ask(old.try_clone()).err().map(|error| format!("old: {error}")));
            }
            (asked, failures)
        });
        system(&test, &["rollout", "restart", DAEMON]);
        wait_rolled_out(&test);
        done.store(true, Ordering::Relaxed);
        asking.join().expect("the client ends")
    });
    println!("{asked} connections during the upgrade");
    assert!(asked > 100, "{asked} connections are no test");
    assert_eq!(failures, [""; 0], "of {asked}");
}

/// A deployment and how many pods it has.
struct Deployment {
    namespace: String,
    name: String,
    replicas: String,
}

impl Deployment {
    /// All that the cluster has.
    fn all(test: &Test) -> Vec<Self> {
        let each = "{.metadata.namespace} {.metadata.name} {.spec.replicas}{\"\\n\"}";
        let path = format!("jsonpath={{range .items[*]}}{each}{{end}}");
        let list = test.kubectl(&["get", "deployments", "--all-namespaces", "-o", &path]);
        let words = list.lines().map(|line| line.split(' ').map(str::to_owned));
        words
            .filter_map(|mut words| {
                Some(Self {
                    namespace: words.next()?,
                    name: words.next()?,
                    replicas: words.next()?,
                })
            })
            .collect()
    }

    fn kubectl(&self, test: &Test, verb: &[&str], more: &str) {
        let namespace = format!("--namespace={}", self.namespace);
        let name = format!("deployment/{}", self.name);
        test.kubectl(&[verb, &[&name, &namespace, more]].concat());
    }

    fn scale(&self, test: &Test, replicas: &str) {
        self.kubectl(test, &["scale"], &format!("--replicas={replicas}"));
    }
}

/// Whatever happens, the cluster has its network and its deployments back.
struct Installed<'a> {
    test: &'a Test,
    image: String,
    deployments: Vec<Deployment>,
}

impl Installed<'_> {
    fn install(&self) {
        apply(self.test, INSTALL, &self.image);
        wait_rolled_out(self.test);
        for deployment in &self.deployments {
            deployment.scale(self.test, &deployment.replicas);
        }
        for deployment in &self.deployments {
            deployment.kubectl(self.test, &["rollout", "status"], "--timeout=180s");
        }
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What fails here has a reason that the test has told.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.install()));
        }
    }
}

/// What of ours is on a node, each thing with its kind.
const TRACES: &str = "nft list tables | grep -E ' (kube-proxy|gantry-.*)$'
ip route show proto 117; ip -6 route show proto 117
ip -brief link show | grep -E '^(gantry|cni0|veth)'
find /etc/cni/net.d /opt/cni/bin /run/gantry /run/gantry-cni -mindepth 1 -name '*gantry*'
find /run/gantry /run/gantry-cni -mindepth 1
readlink /opt/cni/bin/loopback
true";

#[test]
fn uninstalling_leaves_nothing_and_installing_again_works() {
    let Some(test) = start("inst-remove") else { return };
    let nodes = test.cluster.node_names();
    let traces = |node: &String| Machine::named(node).sh(TRACES);
    assert!(
        nodes
            .iter()
            .all(|node| traces(node).contains("10-gantry.conflist"))
    );
    let installed = Installed {
        test: &test,
        image: image(&test),
        deployments: Deployment::all(&test),
    };
    // What pods have is theirs as long as they run.
    for deployment in &installed.deployments {
        deployment.scale(&test, "0");
    }
    poll(secs(120), "no pod has an interface", || {
        let has_none = |node: &String| !traces(node).contains("veth");
        nodes.iter().all(has_none).then_some(())
    });
    apply(&test, UNINSTALL, &installed.image);
    wait_rolled_out(&test);
    for node in &nodes {
        assert_eq!(traces(node), "", "{node}");
    }
    system(&test, &["delete", "-f", INSTALL]);
    installed.install();
    let (client, address) = parties(&test);
    ask(client.connect(address)).expect("an answer");
}
