use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("in range")
}

#[test]
fn a_step_delay_doubles_up_to_its_cap() {
    let backoff = Backoff {
        base: Duration::from_secs(10),
        cap: Duration::from_secs(300),
    };
    let delays: Vec<u64> = (0..8).map(|n| backoff.delay(n).as_secs()).collect();
    assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(backoff.delay(u32::MAX).as_secs(), 300);
}

#[test]
fn the_first_crash_restarts_at_once_and_later_ones_wait_twice_as_long() {
    let mut crashes = Crashes::default();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let finished = at(now);
        let due = crashes.due("c", "h", finished).unwrap_or(finished);
        waits.push(due.duration_since(finished).as_secs());
        crashes.restarted("c", "h", finished, due);
        now = due.duration_since(at(0)).as_secs() + 1;
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn ten_minutes_without_a_restart_forget_the_back_off() {
    let mut crashes = Crashes::default();
    crashes.restarted("c", "h", at(0), at(0));
    assert_eq!(crashes.due("c", "h", at(600)), Some(at(610)));
    assert_eq!(crashes.due("c", "h", at(601)), None);
}

#[test]
fn a_changed_definition_and_another_container_begin_afresh() {
    let mut crashes = Crashes::default();
    crashes.restarted("c", "h", at(0), at(0));
    assert_eq!(crashes.due("c", "other", at(1)), None);
    assert_eq!(crashes.due("d", "h", at(1)), None);
}

#[test]
fn seconds_read_as_go_writes_them() {
    let texts = [10, 80, 300, 3600].map(|s| go_seconds(Duration::from_secs(s)));
    assert_eq!(texts, ["10s", "1m20s", "5m0s", "1h0m0s"]);
}
