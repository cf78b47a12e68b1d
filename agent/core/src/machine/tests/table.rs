//! Every stage against every kind of event: where it leads.

use super::*;

/// The stages, as a driver gets there.
fn stages() -> Vec<(&'static str, Driver)> {
    let at = |name: &'static str, stop: fn(&PodMachine) -> bool, gone: bool| {
        let pod = simple("Always");
        let mut d = Driver::new(pod.clone());
        d.settle();
        if name != "Syncing" {
            d.desire(deleted(&pod, 30));
        }
        if gone {
            d.event(Event::Removed);
        }
        d.plan();
        while !stop(&d.machine) {
            d.succeed(0);
            d.observe();
            d.plan();
        }
        (name, d)
    };
    vec![
        at("Syncing", |_| true, false),
        at("Terminating", |m| matches!(m.stage, Stage::Terminating(_)), false),
        at(
            "Terminated",
            |m| matches!(m.stage, Stage::Terminated { .. }),
            false,
        ),
        at("Removing", |m| matches!(m.stage, Stage::Removing { .. }), true),
        at("Gone", |m| matches!(m.stage, Stage::Gone), true),
    ]
}

fn name(machine: &PodMachine) -> &'static str {
    match &machine.stage {
        Stage::Syncing { .. } => "Syncing",
        Stage::Terminating(_) => "Terminating",
        Stage::Terminated { .. } => "Terminated",
        Stage::Removing { .. } => "Removing",
        Stage::Gone => "Gone",
    }
}

fn events() -> Vec<(&'static str, Event)> {
    let failure = || Failure {
        reason: "Evicted".into(),
        message: String::new(),
    };
    let error = || StepError {
        reason: "E".into(),
        message: String::new(),
        retry: Retry::Soon,
    };
    vec![
        ("desired", Event::Desired(Arc::new(simple("Always")))),
        (
            "deleting",
            Event::Desired(Arc::new(deleted(&simple("Always"), 1))),
        ),
        ("removed", Event::Removed),
        (
            "observed nothing",
            Event::Observed(Arc::new(ObservedPod::default())),
        ),
        (
            "probe",
            Event::Probe {
                container_id: "c2".into(),
                kind: crate::probe::ProbeKind::Liveness,
                verdict: crate::probe::Verdict::Failure,
            },
        ),
        (
            "unknown step done",
            Event::StepDone {
                step: StepKey::Unmount,
                result: Ok(Outcome::Done),
            },
        ),
        (
            "unknown step failed",
            Event::StepDone {
                step: StepKey::Stop("x".into()),
                result: Err(error()),
            },
        ),
        ("reject", Event::Reject(failure())),
        (
            "evict",
            Event::Evict {
                failure: failure(),
                grace: None,
            },
        ),
    ]
}

#[test]
fn every_event_in_every_stage_leads_where_it_should() {
    let leads = |stage: &str, event: &str| match (stage, event) {
        ("Syncing", "deleting" | "removed" | "reject" | "evict") => "Terminating",
        // Unobserved means that nothing runs: the next stage is reached, but for the steps still in flight.
        ("Terminating", "observed nothing") => "Terminated",
        ("Syncing", _) => "Syncing",
        ("Terminating", _) => "Terminating",
        ("Terminated", _) => "Terminated",
        ("Removing", _) => "Removing",
        (_, _) => "Gone",
    };
    for (event_name, event) in events() {
        for (stage, mut driver) in stages() {
            assert_eq!(name(&driver.machine), stage);
            driver.event(event.clone());
            driver.plan();
            assert_eq!(
                name(&driver.machine),
                leads(stage, event_name),
                "{stage} + {event_name}"
            );
            let _ = driver.status();
        }
    }
}

#[test]
fn whatever_happens_a_pod_that_has_to_go_goes() {
    for (event_name, event) in events() {
        for (stage, mut driver) in stages() {
            driver.event(event.clone());
            driver.event(Event::Removed);
            driver.observe();
            driver.settle_for(Duration::from_secs(60));
            assert!(driver.machine.gone(), "{stage} + {event_name}");
        }
    }
}
