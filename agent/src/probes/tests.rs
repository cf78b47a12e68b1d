//! Series of runs: what the worker is told.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::*;

/// A runtime in whose containers each command exits with the next code; its name is the first word.
struct Script {
    codes: Mutex<std::collections::HashMap<String, Vec<i32>>>,
    ran: Mutex<Vec<String>>,
}

impl ContainerExec for Script {
    fn exec(
        &self,
        _: &str,
        command: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'static, Result<ExecOutput, RuntimeError>> {
        self.ran.lock().unwrap().push(command[0].clone());
        let mut codes = self.codes.lock().unwrap();
        let list = codes.get_mut(&command[0]).unwrap();
        let exit_code = if list.len() > 1 { list.remove(0) } else { list[0] };
        let output = ExecOutput {
            stdout: b"said".to_vec(),
            stderr: Vec::new(),
            exit_code,
        };
        Box::pin(std::future::ready(Ok(output)))
    }
}

struct Scene {
    script: Arc<Script>,
    events: Receiver<ProbeEvent>,
    set: ProbeSet,
}

/// A container whose probes (`startup`, `liveness`, `readiness`) exit with these codes; the last one stays.
fn scene(codes: &[(&str, &[i32])], settings: &Value, change: impl FnOnce(&mut Target)) -> Scene {
    let mut container = json!({"name": "c"});
    for (name, _) in codes {
        let mut probe = settings.clone();
        probe["exec"] = json!({"command": [name]});
        container[format!("{name}Probe")] = probe;
    }
    let pod = serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap();
    let codes = codes
        .iter()
        .map(|(name, codes)| ((*name).to_owned(), codes.to_vec()))
        .collect();
    let script = Arc::new(Script {
        codes: Mutex::new(codes),
        ran: Mutex::default(),
    });
    let (sender, events) = mpsc::channel(16);
    let mut target = Target {
        pod: Arc::new(pod),
        container: "c".to_owned(),
        container_id: "id".to_owned(),
        pod_ip: None,
        started_at: Timestamp::now(),
        started: false,
        adopted: false,
    };
    change(&mut target);
    let set = Probes::new(script.clone(), ProbeMetrics::default())
        .start(target, &sender)
        .unwrap();
    Scene { script, events, set }
}

impl Scene {
    async fn next(&mut self) -> (ProbeKind, Option<Verdict>, Option<String>) {
        let event = timeout(Duration::from_secs(20), self.events.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (event.container.as_str(), event.container_id.as_str()),
            ("c", "id")
        );
        (
            event.kind,
            event.verdict,
            event.warning.map(|warning| warning.message),
        )
    }

    fn ran(&self, name: &str) -> usize {
        self.script
            .ran
            .lock()
            .unwrap()
            .iter()
            .filter(|ran| *ran == name)
            .count()
    }
}

fn failed(kind: &str) -> Option<String> {
    Some(format!("{kind} probe failed: said"))
}

#[tokio::test]
async fn readiness_follows_the_answers() {
    let settings = json!({"periodSeconds": 1, "failureThreshold": 2});
    let mut scene = scene(&[("readiness", &[1, 0, 1, 1, 0])], &settings, |_| {});
    let ready = ProbeKind::Readiness;
    assert_eq!(
        scene.next().await,
        (ready, None, failed("Readiness")),
        "it was not ready before"
    );
    assert_eq!(scene.next().await, (ready, Some(Verdict::Success), None));
    assert_eq!(scene.next().await, (ready, None, failed("Readiness")));
    assert_eq!(
        scene.next().await,
        (ready, Some(Verdict::Failure), failed("Readiness"))
    );
    assert_eq!(scene.next().await, (ready, Some(Verdict::Success), None));
}

#[tokio::test]
async fn the_others_wait_for_the_startup_probe() {
    let settings = json!({"periodSeconds": 1, "failureThreshold": 2});
    let codes: [(&str, &[i32]); 3] = [("startup", &[1, 0]), ("readiness", &[0]), ("liveness", &[1])];
    let mut scene = scene(&codes, &settings, |_| {});
    assert_eq!(scene.next().await, (ProbeKind::Startup, None, failed("Startup")));
    assert_eq!(scene.ran("readiness") + scene.ran("liveness"), 0);
    assert_eq!(
        scene.next().await,
        (ProbeKind::Startup, Some(Verdict::Success), None)
    );
    let mut seen = [scene.next().await, scene.next().await, scene.next().await];
    seen.sort_by_key(|(kind, verdict, _)| (*kind, verdict.is_some()));
    assert_eq!(
        seen,
        [
            (ProbeKind::Readiness, Some(Verdict::Success), None),
            (ProbeKind::Liveness, None, failed("Liveness")),
            (ProbeKind::Liveness, Some(Verdict::Failure), failed("Liveness")),
        ]
    );
    assert_eq!(
        (scene.ran("startup"), scene.ran("liveness")),
        (2, 2),
        "both have decided"
    );
}

#[tokio::test]
async fn an_adopted_container_that_has_started_is_not_started_again() {
    let settings = json!({"periodSeconds": 1});
    let codes: [(&str, &[i32]); 2] = [("startup", &[1]), ("readiness", &[0])];
    let mut scene = scene(&codes, &settings, |target| {
        (target.started, target.adopted) = (true, true)
    });
    assert_eq!(
        scene.next().await,
        (ProbeKind::Readiness, Some(Verdict::Success), None)
    );
    assert_eq!(scene.ran("startup"), 0);
}

#[tokio::test]
async fn only_readiness_outlives_the_order_to_terminate() {
    let settings = json!({"periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1});
    let codes: [(&str, &[i32]); 2] = [("liveness", &[1]), ("readiness", &[0])];
    let mut scene = scene(&codes, &settings, |_| {});
    scene.set.terminate();
    assert_eq!(
        scene.next().await,
        (ProbeKind::Readiness, Some(Verdict::Success), None)
    );
    assert_eq!(scene.ran("liveness"), 0);
}

#[tokio::test]
async fn dropping_the_set_ends_everything() {
    let Scene { set, mut events, .. } = scene(&[("readiness", &[0])], &json!({"periodSeconds": 1}), |_| {});
    events.recv().await.unwrap();
    drop(set);
    assert_eq!(
        timeout(Duration::from_secs(5), events.recv()).await.unwrap(),
        None,
        "all senders are gone"
    );
}

#[tokio::test]
async fn a_container_without_probes_costs_nothing() {
    let pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
    let target = Target {
        pod: Arc::new(pod),
        container: "c".to_owned(),
        container_id: "id".to_owned(),
        pod_ip: None,
        started_at: Timestamp::now(),
        started: false,
        adopted: false,
    };
    let script = Arc::new(Script {
        codes: Mutex::default(),
        ran: Mutex::default(),
    });
    assert!(
        Probes::new(script, ProbeMetrics::default())
            .start(target, &mpsc::channel(1).0)
            .is_none()
    );
}

#[test]
fn a_sleeping_probe_is_small() {
    let size = size_of::<Runner>();
    assert!(size <= 400, "{size} bytes for each probe on the node");
}
