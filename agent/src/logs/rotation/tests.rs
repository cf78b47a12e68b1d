use std::io::Read as _;

use super::*;
use crate::runtime::fake::{FakeRuntime, container_config, sandbox_config};
use crate::testing::DEADLINE;

/// A node with one running container.
struct Node {
    fake: FakeRuntime,
    runtime: Runtime,
    id: String,
    dir: tempfile::TempDir,
    _watcher: crate::runtime::Watcher,
}

impl Node {
    async fn start() -> Self {
        let fake = FakeRuntime::start().await;
        let runtime = fake.connect();
        let watcher = runtime.watch();
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("ns_pod-u_u");
        fs::create_dir_all(pod.join("c")).unwrap();
        let mut sandbox = sandbox_config("u");
        sandbox.log_directory = pod.display().to_string();
        let mut config = container_config("u", "c", 0);
        config.log_path = "c/0.log".to_owned();
        let sandbox_id = runtime.run_sandbox(sandbox.clone(), "").await.unwrap().id;
        let id = runtime
            .create_container(&sandbox_id, config, sandbox)
            .await
            .unwrap();
        runtime.start_container("u", &id).await.unwrap();
        runtime.pods().synced().await;
        Self {
            fake,
            runtime,
            id,
            dir,
            _watcher: watcher,
        }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("ns_pod-u_u/c")
    }

    fn log(&self) -> PathBuf {
        self.folder().join("0.log")
    }

    fn names(&self) -> Vec<String> {
        let mut names = names(&self.folder()).unwrap();
        names.sort();
        names
    }

    fn worker(&self) -> Worker {
        Worker {
            policy: Arc::new(self.policy()),
            runtime: self.runtime.clone(),
            tapes: Tapes::start(),
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    fn policy(&self) -> Policy {
        Policy {
            root: self.dir.path().to_owned(),
            max_bytes: 10,
            max_files: 3,
            workers: 1,
            interval: Duration::from_millis(10),
        }
    }

    fn due(&self) -> Due {
        Due {
            id: self.id.clone(),
            path: self.log(),
        }
    }
}

/// Waits until `done`, which needs no more than the rotation's own rounds.
async fn eventually(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .expect("it did not happen");
}

#[tokio::test]
async fn a_large_log_is_rotated_and_the_runtime_writes_into_a_new_one() {
    let node = Node::start().await;
    fs::write(node.log(), "0123456789").unwrap();
    fs::write(node.folder().join("0.log.20200101-000000.gz"), "old").unwrap();
    fs::write(node.folder().join("0.log.20200101-000001"), "newer").unwrap();
    let asked = node.fake.status_calls();
    let _rotation = Rotation::start(node.policy(), node.runtime.clone(), Tapes::start());
    eventually(|| node.log().metadata().is_ok_and(|log| log.len() == 0) && node.names().len() == 3).await;
    let names = node.names();
    assert_eq!(names[..2], ["0.log", "0.log.20200101-000001.gz"]);
    assert_eq!(
        fs::read_to_string(node.folder().join(&names[2])).unwrap(),
        "0123456789"
    );
    let mut text = String::new();
    let packed = fs::File::open(node.folder().join(&names[1])).unwrap();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "newer");
    assert_eq!(
        node.fake.status_calls(),
        asked,
        "the runtime is not asked what is known"
    );
}

#[tokio::test]
async fn the_log_keeps_its_name_while_the_runtime_refuses() {
    let node = Node::start().await;
    fs::write(node.log(), "0123456789").unwrap();
    node.fake.refuse_reopen(true);
    let error = node.worker().work(&node.due()).await.unwrap_err();
    assert!(matches!(error, RotateError::Reopen(_)), "{error}");
    assert_eq!(node.names(), ["0.log"]);
    assert_eq!(fs::read_to_string(node.log()).unwrap(), "0123456789");
}

#[tokio::test]
async fn a_log_that_lost_its_name_is_opened_anew() {
    let node = Node::start().await;
    fs::write(node.folder().join("0.log.20200101-000000"), "half way").unwrap();
    let _rotation = Rotation::start(node.policy(), node.runtime.clone(), Tapes::start());
    eventually(|| node.log().exists()).await;
    assert_eq!(node.names(), ["0.log", "0.log.20200101-000000"]);
}

#[tokio::test]
async fn a_container_that_is_gone_is_no_error() {
    let node = Node::start().await;
    let due = Due {
        id: "gone".to_owned(),
        path: node.log(),
    };
    assert_eq!(node.worker().work(&due).await.unwrap(), None);
    assert!(!node.log().exists());
}

#[test]
fn nothing_is_ever_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    fs::write(of("a"), "a").unwrap();
    fs::write(of("b"), "b").unwrap();
    assert!(!rename(&of("a"), &of("b")).unwrap());
    assert!(rename(&of("a"), &of("c")).unwrap());
    assert_eq!(fs::read_to_string(of("b")).unwrap(), "b");
    assert!(rename(&of("a"), &of("d")).is_err());
}

#[test]
fn the_policy_is_the_configured_one() {
    let policy = |yaml: &str| Policy::of(&crate::config::testing::settings(yaml));
    let defaults = policy("").unwrap();
    assert_eq!((defaults.max_bytes, defaults.max_files), (10 << 20, 5));
    assert_eq!(
        (defaults.workers, defaults.interval),
        (1, Duration::from_secs(10))
    );
    assert_eq!(defaults.root, Path::new("/var/log/pods"));
    assert_eq!(policy("containerLogMaxSize: \"-1\""), None);
}
