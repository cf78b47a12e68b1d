use super::*;

const PERIOD: Duration = Duration::from_secs(10);

/// Where on the clock a test is does not matter; there is no other way to make an instant.
#[allow(clippy::disallowed_methods, reason = "the only way to make an instant")]
fn some_instant() -> Instant {
    Instant::now()
}

fn settings() -> ProbeSettings {
    ProbeSettings {
        initial_delay: Duration::ZERO,
        period: PERIOD,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

fn fresh(now: Instant) -> Birth {
    Birth {
        started: now,
        gated: false,
        adopted: None,
    }
}

/// Runs the machine at its deadline with this outcome.
fn step(machine: &mut ProbeMachine, outcome: Outcome) -> Option<Verdict> {
    let due = machine.next_deadline().expect("a deadline");
    assert!(machine.begin(due));
    machine.finish(outcome, due + Duration::from_millis(5))
}

#[test]
fn settings_take_the_api_defaults() {
    let probe = Probe {
        period_seconds: Some(0),
        timeout_seconds: Some(-3),
        ..Probe::default()
    };
    assert_eq!(ProbeSettings::from_api(&probe), settings());
}

#[test]
fn readiness_succeeds_at_once_and_fails_at_the_threshold() {
    let now = some_instant();
    let mut machine = ProbeMachine::new(ProbeKind::Readiness, settings(), fresh(now), now);
    assert_eq!(machine.next_deadline(), Some(now));
    assert_eq!(
        step(&mut machine, Outcome::Failure),
        None,
        "it starts as not ready"
    );
    assert_eq!(step(&mut machine, Outcome::Success), Some(Verdict::Success));
    assert_eq!(step(&mut machine, Outcome::Success), None);
    assert_eq!(step(&mut machine, Outcome::Failure), None);
    assert_eq!(step(&mut machine, Outcome::Failure), None);
    assert_eq!(step(&mut machine, Outcome::Failure), Some(Verdict::Failure));
    assert_eq!(step(&mut machine, Outcome::Success), Some(Verdict::Success));
}

#[test]
fn the_success_threshold_needs_successes_in_a_row() {
    let now = some_instant();
    let two = ProbeSettings {
        success_threshold: 2,
        failure_threshold: 1,
        ..settings()
    };
    let mut machine = ProbeMachine::new(ProbeKind::Readiness, two, fresh(now), now);
    assert_eq!(step(&mut machine, Outcome::Success), None);
    assert_eq!(step(&mut machine, Outcome::Failure), None);
    assert_eq!(step(&mut machine, Outcome::Success), None);
    assert_eq!(step(&mut machine, Outcome::Success), Some(Verdict::Success));
    assert_eq!(step(&mut machine, Outcome::Failure), Some(Verdict::Failure));
}

#[test]
fn the_initial_delay_counts_from_the_start_of_the_container() {
    let now = some_instant();
    let delayed = ProbeSettings {
        initial_delay: Duration::from_secs(30),
        ..settings()
    };
    let birth = Birth {
        started: now,
        ..fresh(now)
    };
    let later = now + Duration::from_secs(12);
    let machine = ProbeMachine::new(ProbeKind::Readiness, delayed, birth, later);
    assert_eq!(machine.next_deadline(), Some(now + Duration::from_secs(30)));
}

#[test]
fn runs_start_a_period_apart_and_never_overlap() {
    let now = some_instant();
    let mut machine = ProbeMachine::new(ProbeKind::Readiness, settings(), fresh(now), now);
    assert!(!machine.begin(now - Duration::from_millis(1)), "not due");
    assert!(machine.begin(now));
    assert!(!machine.begin(now), "in flight");
    assert_eq!(machine.next_deadline(), None);
    machine.finish(Outcome::Success, now + Duration::from_secs(3));
    assert_eq!(machine.next_deadline(), Some(now + PERIOD));
    assert!(machine.begin(now + PERIOD));
    let overrun = now + PERIOD * 3;
    machine.finish(Outcome::Success, overrun);
    assert_eq!(machine.next_deadline(), Some(overrun));
}

#[test]
fn an_abandoned_run_does_not_count() {
    let now = some_instant();
    let mut machine = ProbeMachine::new(ProbeKind::Liveness, settings(), fresh(now), now);
    step(&mut machine, Outcome::Failure);
    step(&mut machine, Outcome::Failure);
    let due = machine.next_deadline().expect("a deadline");
    assert!(machine.begin(due));
    machine.abandon(due);
    assert_eq!(machine.next_deadline(), Some(due + PERIOD));
    assert_eq!(step(&mut machine, Outcome::Failure), Some(Verdict::Failure));
}

#[test]
fn liveness_ends_with_its_failure() {
    let now = some_instant();
    let one = ProbeSettings {
        failure_threshold: 1,
        ..settings()
    };
    let mut machine = ProbeMachine::new(ProbeKind::Liveness, one, fresh(now), now);
    assert_eq!(step(&mut machine, Outcome::Success), None, "it starts as alive");
    assert_eq!(step(&mut machine, Outcome::Failure), Some(Verdict::Failure));
    assert!(machine.is_done());
    assert_eq!(machine.next_deadline(), None);
    assert!(!machine.begin(now + PERIOD * 10));
}

#[test]
fn startup_ends_with_either_decision_and_gates_the_others() {
    let now = some_instant();
    let mut startup = ProbeMachine::new(ProbeKind::Startup, settings(), fresh(now), now);
    let gated = Birth {
        gated: true,
        ..fresh(now)
    };
    let mut readiness = ProbeMachine::new(ProbeKind::Readiness, settings(), gated, now);
    assert_eq!(readiness.next_deadline(), None);
    assert!(!readiness.begin(now));
    assert_eq!(step(&mut startup, Outcome::Failure), None);
    assert_eq!(step(&mut startup, Outcome::Success), Some(Verdict::Success));
    assert!(startup.is_done());
    let opened = now + Duration::from_secs(11);
    readiness.open_gate(opened);
    assert_eq!(readiness.next_deadline(), Some(opened));
    readiness.open_gate(opened + PERIOD);
    assert_eq!(readiness.next_deadline(), Some(opened), "opened once");
}

#[test]
fn an_adopted_container_says_nothing_until_its_first_result_and_then_everything() {
    let now = some_instant();
    let birth = Birth {
        started: now - Duration::from_secs(500),
        gated: false,
        adopted: Some(PERIOD / 2),
    };
    let mut machine = ProbeMachine::new(ProbeKind::Readiness, settings(), birth, now);
    assert_eq!(machine.next_deadline(), Some(now + PERIOD / 2));
    assert_eq!(
        step(&mut machine, Outcome::Failure),
        None,
        "one failure is below the threshold"
    );
    assert_eq!(step(&mut machine, Outcome::Success), Some(Verdict::Success));
}

#[test]
fn termination_ends_liveness_and_startup_only() {
    let now = some_instant();
    for (kind, done) in [
        (ProbeKind::Readiness, false),
        (ProbeKind::Liveness, true),
        (ProbeKind::Startup, true),
    ] {
        let mut machine = ProbeMachine::new(kind, settings(), fresh(now), now);
        machine.terminate();
        assert_eq!(machine.is_done(), done, "{kind:?}");
    }
}

#[test]
fn a_result_after_the_end_changes_nothing() {
    let now = some_instant();
    let mut machine = ProbeMachine::new(ProbeKind::Liveness, settings(), fresh(now), now);
    assert!(machine.begin(now));
    machine.terminate();
    assert_eq!(machine.finish(Outcome::Failure, now), None);
    machine.abandon(now);
    assert!(machine.is_done());
}
