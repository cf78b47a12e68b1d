//! A test's own namespace, and what tests do in it.

use std::fmt::Debug;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};

use super::wait::{poll, secs};
use super::{Cluster, Machine, NetNs, Output, pods, report};

/// A kind of object that lives in a namespace.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// One test: a namespace that is deleted at its end. When the test fails, it shows what is in there.
pub struct Test {
    /// The cluster.
    pub cluster: &'static Cluster,
    namespace: String,
    /// Machines whose logs a failure shows.
    machines: Mutex<Vec<String>>,
}

impl Test {
    /// A new namespace; `name` says which test it is.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        let cluster = Cluster::enter();
        let namespace = format!("{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
        let test = Self {
            cluster,
            namespace,
            machines: Mutex::default(),
        };
        let object: Namespace = test.parse(&format!("metadata: {{name: {}}}", test.namespace));
        let namespaces = Api::all(cluster.client());
        let params = PostParams::default();
        test.must("create the namespace", namespaces.create(&params, &object));
        // Another test may just have stopped the API server: the controller manager then waits for its lease, and starts anew.
        test.wait::<ServiceAccount>("default", "exists", secs(120), |_| true);
        test
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API for objects of one kind in the namespace.
    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }

    /// An object from YAML.
    #[track_caller]
    fn parse<K: DeserializeOwned>(&self, yaml: &str) -> K {
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("bad YAML in the test: {error}\n{yaml}"))
    }

    #[track_caller]
    fn must<T>(&self, what: &str, request: impl Future<Output = kube::Result<T>>) -> T {
        match self.cluster.request(request) {
            Ok(answer) => answer,
            Err(error) => panic!("cannot {what}: {error}"),
        }
    }

    /// Creates an object.
    #[track_caller]
    pub fn create<K: Object>(&self, yaml: &str) -> K {
        let object = self.parse(yaml);
        self.must(
            &format!("create {yaml}"),
            self.api::<K>().create(&PostParams::default(), &object),
        )
    }

    /// Creates a pod from its spec, labelled `app: NAME`. It gets a grace period of 1 s if it does not say another.
    #[track_caller]
    pub fn pod(&self, name: &str, spec: &str) -> Pod {
        let mut pod = Pod {
            spec: Some(self.parse(spec)),
            ..Pod::default()
        };
        pod.metadata.name = Some(name.to_owned());
        pod.labels_mut().insert("app".to_owned(), name.to_owned());
        if let Some(spec) = &mut pod.spec {
            spec.termination_grace_period_seconds.get_or_insert(1);
        }
        self.must(
            &format!("create pod {name}"),
            self.api().create(&PostParams::default(), &pod),
        )
    }

    /// A pod that runs and does nothing, on that node.
    #[track_caller]
    pub fn idle_pod(&self, name: &str, node: &str) -> Pod {
        self.pod(
            name,
            &format!("{{nodeName: {node}, containers: [{{name: c, image: 'registry.k8s.io/pause:3.10'}}]}}"),
        );
        self.wait_ready(name)
    }

    /// The object, which exists.
    #[track_caller]
    pub fn get<K: Object>(&self, name: &str) -> K {
        self.must(&format!("get {name}"), self.api().get(name))
    }

    /// Merges `yaml` into the object.
    #[track_caller]
    pub fn patch<K: Object>(&self, name: &str, yaml: &str) -> K {
        let patch: serde_json::Value = self.parse(yaml);
        let patch = Patch::Merge(&patch);
        self.must(
            &format!("patch {name}"),
            self.api().patch(name, &PatchParams::default(), &patch),
        )
    }

    /// Deletes the object; a pod with this grace period in seconds instead of its own.
    #[track_caller]
    pub fn delete<K: Object>(&self, name: &str, grace_secs: Option<u32>) {
        let params = DeleteParams {
            grace_period_seconds: grace_secs,
            ..DeleteParams::default()
        };
        self.must(&format!("delete {name}"), self.api::<K>().delete(name, &params));
    }

    /// Watches the object until `holds` is true for it. A failure shows how it was last seen.
    #[track_caller]
    pub fn wait<K: Object>(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&K) -> bool,
    ) -> K {
        match self.watch(self.api(), name, deadline, |object| {
            object.filter(|object| holds(object))
        }) {
            Ok(object) => object,
            Err(last) => panic!("not after {deadline:?}: {name}: {what}; it is {last}"),
        }
    }

    /// Watches until the object does not exist any more.
    #[track_caller]
    pub fn wait_gone<K: Object>(&self, name: &str, deadline: Duration) {
        let gone = |object: Option<K>| object.is_none().then_some(());
        if let Err(last) = self.watch(self.api(), name, deadline, gone) {
            panic!("not gone after {deadline:?}: {name}; it is {last}");
        }
    }

    fn watch<K, T>(
        &self,
        api: Api<K>,
        name: &str,
        deadline: Duration,
        judge: impl Fn(Option<K>) -> Option<T>,
    ) -> Result<T, String>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        let mut last = "not there".to_owned();
        let seen = self.cluster.within(deadline, async {
            let mut objects = pin!(watcher::watch_object(api, name).default_backoff());
            while let Some(object) = objects.next().await {
                match object {
                    Ok(object) => {
                        last = object.as_ref().map_or("not there".to_owned(), report::brief);
                        if let Some(found) = judge(object) {
                            return Some(found);
                        }
                    }
                    Err(error) => last = format!("{last}; and the watch says {error}"),
                }
            }
            None
        });
        seen.flatten().ok_or(last)
    }

    /// Watches a pod until the condition holds.
    #[track_caller]
    pub fn wait_pod(&self, name: &str, what: &str, deadline: Duration, holds: impl Fn(&Pod) -> bool) -> Pod {
        self.wait(name, what, deadline, holds)
    }

    /// Watches a pod until it runs and is ready.
    #[track_caller]
    pub fn wait_ready(&self, name: &str) -> Pod {
        self.wait_pod(name, "Ready", secs(60), pods::ready)
    }

    /// Waits for an event about an object.
    #[track_caller]
    pub fn wait_event(&self, object: &str, reason: &str, message: &str, deadline: Duration) -> Event {
        poll(
            deadline,
            &format!("event {reason} with {message:?} about {object}"),
            || {
                let mut events = self.events(object).into_iter();
                events.find(|event| {
                    event.reason.as_deref() == Some(reason)
                        && event.message.as_deref().unwrap_or_default().contains(message)
                })
            },
        )
    }

    /// The events about an object.
    pub fn events(&self, object: &str) -> Vec<Event> {
        let params = ListParams::default().fields(&format!("involvedObject.name={object}"));
        self.cluster
            .request(self.api::<Event>().list(&params))
            .map(|list| list.items)
            .unwrap_or_default()
    }

    /// The Node object.
    #[track_caller]
    pub fn node(&self, name: &str) -> Node {
        self.must(
            &format!("get node {name}"),
            Api::<Node>::all(self.cluster.client()).get(name),
        )
    }

    /// Watches the Node object until the condition holds.
    #[track_caller]
    pub fn wait_node(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&Node) -> bool,
    ) -> Node {
        self.note_machine(name);
        let nodes = Api::<Node>::all(self.cluster.client());
        match self.watch(nodes, name, deadline, |node| node.filter(|node| holds(node))) {
            Ok(node) => node,
            Err(last) => panic!("not after {deadline:?}: {name}: {what}; it is {last}"),
        }
    }

    /// A failure shows the logs of that machine, too.
    pub fn note_machine(&self, name: &str) {
        if let Ok(mut machines) = self.machines.lock() {
            machines.push(name.to_owned());
        }
    }

    /// The machine that a pod runs on.
    #[track_caller]
    pub fn machine_of(&self, pod: &Pod) -> Machine {
        Machine::named(pods::node(pod))
    }

    /// The node's address.
    #[track_caller]
    pub fn node_ip(&self, name: &str) -> IpAddr {
        let addresses = self
            .node(name)
            .status
            .and_then(|status| status.addresses)
            .unwrap_or_default();
        let internal = addresses.iter().find(|address| address.type_ == "InternalIP");
        internal
            .and_then(|address| address.address.parse().ok())
            .unwrap_or_else(|| panic!("node {name} has no InternalIP: {addresses:?}"))
    }

    /// The process of a running container, as its machine sees it.
    #[track_caller]
    pub fn process_of(&self, pod: &Pod, container: &str) -> u32 {
        let id = self.container_id(pod, container);
        let tasks = self.machine_of(pod).run(&["ctr", "-n", "k8s.io", "tasks", "ls"]);
        let line = tasks.lines().find(|line| line.starts_with(&id));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or_else(|| panic!("container {container} ({id}) has no process:\n{tasks}"))
    }

    #[track_caller]
    fn container_id(&self, pod: &Pod, container: &str) -> String {
        pods::container_id(pod, container)
            .unwrap_or_else(|| panic!("container {container} of {} never ran", pod.name_any()))
    }

    /// The network of a running pod.
    #[track_caller]
    pub fn net_of(&self, pod: &Pod) -> NetNs {
        let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
        let container = first.map(|container| container.name.clone()).unwrap_or_default();
        NetNs::of_process(&self.machine_of(pod), self.process_of(pod, &container))
    }

    /// Runs a line of shell in a container, whatever comes of it. Not through the agent: it is not what is tested.
    #[track_caller]
    pub fn try_exec(&self, pod: &Pod, container: &str, script: &str) -> Output {
        let id = self.container_id(pod, container);
        let exec = format!("exec-{:08x}", rand::random::<u32>());
        let command = [
            "ctr",
            "-n",
            "k8s.io",
            "tasks",
            "exec",
            "--exec-id",
            &exec,
            &id,
            "sh",
            "-c",
            script,
        ];
        self.machine_of(pod).try_run(&command)
    }

    /// What a line of shell says in a container; it succeeds.
    #[track_caller]
    pub fn exec(&self, pod: &Pod, container: &str, script: &str) -> String {
        let output = self.try_exec(pod, container, script);
        assert!(
            output.code == Some(0),
            "{script:?} in {}/{container}: {output:?}",
            pod.name_any()
        );
        output.out.trim_end().to_owned()
    }

    /// What a container has written so far, without time stamps: its log as the runtime keeps it.
    #[track_caller]
    pub fn log(&self, pod: &Pod, container: &str) -> String {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let dir = format!("/var/log/pods/{}_{name}_{uid}/{container}", self.namespace);
        let raw = self.machine_of(pod).sh(&format!("cat {dir}/*.log"));
        let text = raw.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        text.collect::<Vec<_>>().join("\n")
    }

    /// Runs a pod with one container `c` to its end, and says what it wrote.
    #[track_caller]
    pub fn output_of(&self, name: &str) -> String {
        let pod = self.wait_pod(name, "ended", secs(60), |pod| {
            pods::terminated(pod, "c").is_some()
        });
        self.log(&pod, "c")
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let machines = self.machines.lock();
            let machines = machines.map(|machines| machines.clone()).unwrap_or_default();
            report::print(self, machines);
        }
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        let params = DeleteParams::background();
        let delete = namespaces.delete(&self.namespace, &params);
        if let Err(error) = self.cluster.request(delete) {
            eprintln!("namespace {} stays behind: {error}", self.namespace);
        }
    }
}
