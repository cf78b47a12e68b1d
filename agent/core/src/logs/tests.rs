//! What a reader sees, against a plain model of it; tables for queries, states and names.

mod printing;

use k8s_openapi::api::core::v1::PodStatus;
use proptest::prelude::*;
use serde_json::json;

use super::rotation::{self, Plan};
use super::tail::Tail;
use super::*;

fn parse(query: &[(&str, &str)]) -> Result<LogOptions, OptionsError> {
    LogOptions::parse(|name| {
        query
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    })
}

#[test]
fn a_query_is_decoded_as_the_reference_does() {
    let options = parse(&[
        ("follow", "true"),
        ("previous", ""),
        ("timestamps", "FALSE"),
        ("limitBytes", "10"),
        ("tailLines", "+5"),
        ("tailLines", "x"),
        ("unknown", "x"),
    ]);
    let options = options.unwrap();
    assert!(options.follow && options.previous && !options.timestamps);
    assert_eq!(options.limit_bytes.map(std::num::NonZero::get), Some(10));
    assert_eq!(options.tail_lines, Some(5));
    let tail = |query: &[(&str, &str)]| parse(query).unwrap().tail_lines;
    assert_eq!(tail(&[("tail", "3"), ("tailLines", "x")]), Some(3));
    assert_eq!(tail(&[("tail", "all"), ("tailLines", "4")]), None);
    assert_eq!(tail(&[("tail", ""), ("tailLines", "4")]), Some(4));
}

#[test]
fn a_bad_query_is_refused_with_the_status_of_the_reference() {
    use OptionsError::{Invalid, Undecodable};
    for (query, error) in [
        (&[("tailLines", "x")][..], Undecodable),
        (&[("tailLines", "")], Undecodable),
        (&[("sinceTime", "yesterday")], Undecodable),
        (&[("limitBytes", "99999999999999999999")], Undecodable),
        (&[("tailLines", "-1")], Invalid),
        (&[("limitBytes", "0")], Invalid),
        (&[("limitBytes", "-5")], Invalid),
        (&[("sinceSeconds", "0")], Invalid),
        (
            &[("sinceSeconds", "5"), ("sinceTime", "2026-01-01T00:00:00Z")],
            Invalid,
        ),
        (&[("sinceSeconds", "5"), ("sinceTime", "")], Invalid),
        (&[("stream", "")], Invalid),
        (&[("stream", "stdout")], Invalid),
        (&[("stream", "Stdout"), ("tailLines", "5")], Invalid),
    ] {
        assert_eq!(parse(query), Err(error), "{query:?}");
    }
    assert!(parse(&[("stream", "All"), ("tailLines", "5")]).is_ok());
    assert_eq!(Invalid.to_string(), r#"{"message": "Invalid request."}"#);
}

#[test]
fn since_is_a_point_in_time() {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let since = |query: &[(&str, &str)]| parse(query).unwrap().since(now).map(|t| t.to_string());
    assert_eq!(since(&[]), None);
    assert_eq!(since(&[("sinceSeconds", "60")]).unwrap(), "2026-01-01T00:00:00Z");
    assert_eq!(
        since(&[("sinceTime", "2026-01-01T02:00:00.5+02:00")]).unwrap(),
        "2026-01-01T00:00:00.5Z"
    );
    assert!(since(&[("sinceSeconds", "9223372036854775807")]).is_some());
    assert!(since(&[("sinceTime", "null")]).is_some());
}

#[test]
fn a_single_stream_needs_its_feature_gate() {
    let options = parse(&[("stream", "Stderr")]).unwrap();
    let streams = options.streams(true).unwrap();
    assert!(streams.stderr && !streams.stdout);
    let text = options.streams(false).unwrap_err().to_string();
    assert!(text.starts_with("unable to return the given log stream: \"Stderr\". Please enable"));
    assert!(parse(&[("stream", "All")]).unwrap().streams(false).is_ok());
}

fn pick(state: &serde_json::Value, last: &serde_json::Value, previous: bool) -> Result<String, String> {
    let status = json!({"initContainerStatuses": [{
        "name": "c", "containerID": "containerd://now", "state": state, "lastState": last,
        "image": "", "imageID": "", "ready": false, "restartCount": 0,
    }]});
    let status: PodStatus = serde_json::from_value(status).unwrap();
    container_id("p", &status, "c", previous)
        .map(str::to_owned)
        .map_err(|error| error.to_string())
}

#[test]
fn the_instance_is_picked_by_the_state_of_the_container() {
    let none = json!({});
    let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let running = json!({"running": {}});
    let of = "container \"c\" in pod \"p\"";
    let refused = |text: &str| Err(format!("{of} {text}"));
    let found = |id: &str| Ok(format!("containerd://{id}"));
    let (now, old, made) = (
        ended("containerd://now"),
        ended("containerd://old"),
        waiting("ContainerCreating"),
    );
    for (state, last, previous, wanted) in [
        (&running, &none, false, found("now")),
        (
            &running,
            &none,
            true,
            Err(format!("previous terminated {of} not found")),
        ),
        (&running, &old, true, found("old")),
        (
            &running,
            &ended(""),
            true,
            Err(format!("previous terminated {of} not found")),
        ),
        (&now, &none, false, found("now")),
        (&ended(""), &old, false, found("old")),
        (&ended(""), &none, false, refused("is terminated")),
        (&waiting("CrashLoopBackOff"), &old, false, found("old")),
        (
            &waiting("CrashLoopBackOff"),
            &ended(""),
            false,
            refused("is terminated"),
        ),
        (
            &made,
            &none,
            false,
            refused("is waiting to start: ContainerCreating"),
        ),
        (
            &waiting("ErrImagePull"),
            &none,
            false,
            refused("is waiting to start: image can't be pulled"),
        ),
        (
            &waiting("ImagePullBackOff"),
            &none,
            false,
            refused("is waiting to start: trying and failing to pull image"),
        ),
        (&none, &none, false, refused("is waiting to start - no logs yet")),
    ] {
        assert_eq!(pick(state, last, previous), wanted, "{state} {last} {previous}");
    }
}

#[test]
fn a_container_without_a_status_is_not_available() {
    let unknown = container_id("p", &PodStatus::default(), "c", false).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "container \"c\" in pod \"p\" is not available"
    );
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn leftovers_and_the_oldest_go_and_the_newest_rotated_file_is_compressed() {
    let present = names(&[
        "0.log",
        "0.log.20260101-000003",
        "0.log.20260101-000001.gz",
        "0.log.20260101-000002",
        "0.log.20260101-000002.gz",
        "0.log.20260101-000003.gz.tmp",
        "0.log.20260101-000000.gz",
        "10.log.20260101-000000",
    ]);
    let plan = rotation::plan("0.log", &present, 4);
    assert_eq!(
        plan.remove,
        names(&[
            "0.log.20260101-000002",
            "0.log.20260101-000003.gz.tmp",
            "0.log.20260101-000000.gz",
            "0.log.20260101-000001.gz",
        ])
    );
    assert_eq!(plan.compress, names(&["0.log.20260101-000003"]));
    assert_eq!(
        rotation::rotated("0.log", &present),
        names(&[
            "0.log.20260101-000000.gz",
            "0.log.20260101-000001.gz",
            "0.log.20260101-000002.gz",
            "0.log.20260101-000003",
        ])
    );
    let plan = rotation::plan("0.log", &present, 2);
    assert_eq!(plan.compress, names(&[]), "two files: none stays compressed");
}

proptest! {
    #[test]
    fn never_more_files_than_allowed(present in proptest::collection::btree_set("(0|00)\\.log(\\.[0-9]{0,2}(\\.gz)?(\\.tmp)?)?", 0..12), max in 2_usize..6) {
        let present: Vec<String> = present.into_iter().collect();
        let Plan { remove, compress } = rotation::plan("0.log", &present, max);
        let ours = present.iter().filter(|name| name.starts_with("0.log."));
        let stays: Vec<_> = ours.filter(|name| !remove.contains(name)).collect();
        prop_assert!(stays.len() <= max - 2);
        prop_assert!(compress.iter().all(|name| stays.contains(&name)));
        prop_assert!(!remove.contains(&"0.log".to_owned()));
        prop_assert!(remove.iter().all(|name| name.starts_with("0.log.")));
    }

    #[test]
    fn the_tail_is_found_in_any_blocks(text in "[a\n]{0,60}", lines in 0_u64..12, block in 1_usize..20) {
        let bytes = text.as_bytes();
        let mut tail = Tail::new(lines);
        let mut start = 0;
        let mut right = bytes.len();
        while right > 0 {
            let left = right.saturating_sub(block);
            if let Some(at) = tail.back(&bytes[left..right]) {
                start = left + at;
                break;
            }
            right = left;
        }
        let ends: Vec<_> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let wanted = usize::try_from(lines).unwrap();
        let expected = ends.len().checked_sub(wanted + 1).map_or(0, |index| ends[index]);
        prop_assert_eq!(start, expected);
        if ends.len() <= wanted {
            prop_assert_eq!(tail.missing(), lines - ends.len() as u64);
        }
    }
}
