use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::observed::Exit;

fn query(text: &str) -> Query {
    Query::parse(text)
}

#[test]
fn streams_are_on_with_one_only() {
    let expected = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    assert_eq!(Streams::parse(&query("input=1&output=1&error=1")), Ok(expected));
    let first = Streams::parse(&query("output=1&output=0&error=true")).unwrap();
    assert!(first.stdout && !first.stderr && !first.stdin);
}

#[test]
fn a_terminal_has_no_standard_error() {
    let parsed = Streams::parse(&query("output=1&error=1&tty=1")).unwrap();
    assert!(parsed.tty && parsed.stdout && !parsed.stderr);
    assert_eq!(Streams::parse(&query("error=1&tty=1")), Err(QueryError::NoStream));
}

#[test]
fn no_stream_is_refused_in_the_words_of_the_reference() {
    assert_eq!(
        Streams::parse(&query("")).unwrap_err().to_string(),
        "you must specify at least 1 of stdin, stdout, stderr"
    );
}

#[test]
fn commands_keep_their_arguments() {
    let exec = query("command=sh&output=1&command=-c&command=a+b");
    assert_eq!(exec_command(&exec), ["sh", "-c", "a b"]);
    assert!(exec_command(&query("")).is_empty());
    assert_eq!(run_command(&query("cmd=ls++-l")), ["ls", "", "-l"]);
    assert_eq!(run_command(&query("")), [""]);
}

#[test]
fn ports_come_in_parameters_and_between_commas() {
    assert_eq!(ports(&query("port=80,81&port=65535")), Ok(vec![80, 81, 65535]));
    let text = |text| ports(&query(text)).unwrap_err().to_string();
    assert_eq!(text(""), r#"query parameter "port" is required"#);
    assert_eq!(text("port="), r#"query parameter "port" cannot be empty"#);
    assert_eq!(text("port=80,0"), r#"port "80,0" must be > 0"#);
    assert_eq!(
        text("port=80,x"),
        r#"unable to parse "80,x" as a port: strconv.ParseUint: parsing "x": invalid syntax"#
    );
    assert_eq!(
        text("port=65536"),
        r#"unable to parse "65536" as a port: strconv.ParseUint: parsing "65536": value out of range"#
    );
    assert!(text("port=%2B1").ends_with("invalid syntax"));
}

fn container(name: &str, id: &str, state: ContainerState) -> Container {
    Container {
        id: id.into(),
        sandbox_id: "s".into(),
        name: name.into(),
        attempt: 0,
        hash: String::new(),
        image: String::new(),
        image_id: String::new(),
        state,
        termination_message_path: String::new(),
        termination_message_policy: String::new(),
        grace_secs: None,
    }
}

fn runs() -> ContainerState {
    ContainerState::Running {
        started_at: Timestamp::UNIX_EPOCH,
    }
}

fn ended() -> ContainerState {
    ContainerState::Exited(Exit {
        code: 0,
        reason: "Completed".into(),
        message: String::new(),
        started_at: None,
        finished_at: Timestamp::UNIX_EPOCH,
    })
}

fn sandbox(id: &str, ready: bool) -> Sandbox {
    Sandbox {
        id: id.into(),
        attempt: 0,
        ready,
        created_at: Timestamp::UNIX_EPOCH,
        ips: Vec::new(),
        host_network: false,
    }
}

fn wanted() -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u"},
        "spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c"}, {"name": "t", "tty": true}],
            "ephemeralContainers": [{"name": "e", "tty": true}],
        },
    }))
    .unwrap()
}

#[test]
fn a_container_that_runs_is_found_and_no_other() {
    let observed = ObservedPod {
        containers: vec![
            container("c", "2", ended()),
            container("c", "1", runs()),
            container("dead", "3", ended()),
            container("new", "4", ContainerState::Created),
        ],
        ..ObservedPod::default()
    };
    assert_eq!(exec_target(Some(&observed), "c").unwrap().id, "1");
    for name in ["dead", "new", "none"] {
        let error = exec_target(Some(&observed), name).unwrap_err();
        assert_eq!(error.to_string(), format!("container not found (\"{name}\")"));
    }
    assert!(exec_target(None, "c").is_err());
}

#[test]
fn attach_takes_the_terminal_from_the_specification() {
    let pod = wanted();
    let observed = ObservedPod {
        containers: ["i", "c", "t", "e", "unknown"]
            .map(|name| container(name, name, runs()))
            .into(),
        ..ObservedPod::default()
    };
    let of = |uid, name| attach_target(&pod, Some(&observed), uid, name).map(|(c, tty)| (c.id.as_str(), tty));
    assert_eq!(of("", "c"), Ok(("c", false)));
    assert_eq!(of("u", "t"), Ok(("t", true)));
    assert_eq!(of("u", "i"), Ok(("i", false)));
    assert_eq!(of("", "e"), Ok(("e", true)));
    let text = |uid, name| of(uid, name).unwrap_err().to_string();
    assert_eq!(text("other", "c"), "pod web_ns not found");
    assert_eq!(text("", "none"), "container none not found in pod web_ns");
    assert_eq!(text("", "unknown"), "container unknown not found in pod web_ns");
}

#[test]
fn port_forward_goes_to_the_newest_sandbox_of_a_pod_that_runs() {
    let pod = wanted();
    let mut observed = ObservedPod {
        sandboxes: vec![sandbox("new", true), sandbox("old", false)],
        ..ObservedPod::default()
    };
    assert_eq!(forward_target(&pod, Some(&observed)).unwrap().id, "new");
    observed.sandboxes.remove(0);
    let error = forward_target(&pod, Some(&observed)).unwrap_err();
    assert_eq!(error.to_string(), r#"pod not found ("web_ns")"#);
    observed.containers = vec![container("c", "1", runs())];
    assert!(forward_target(&pod, Some(&observed)).is_ok());
    assert!(forward_target(&pod, None).is_err());
}

proptest! {
    #[test]
    fn any_query_is_answered(text in "(input|output|tty|port|cmd|command|[=&,%0-9]|.){0,40}") {
        let query = query(&text);
        let _ = Streams::parse(&query);
        let _ = exec_command(&query);
        prop_assert!(!run_command(&query).is_empty());
        let _ = ports(&query);
    }

    #[test]
    fn what_ports_accepts_are_ports(text in "[0-9,]{0,12}") {
        if let Ok(found) = ports(&query(&format!("port={text}"))) {
            let written: Vec<_> = text.split(',').map(|part| part.parse::<i32>().unwrap()).collect();
            prop_assert_eq!(&found, &written);
            prop_assert!(found.iter().all(|port| (1..=65535).contains(port)));
        }
    }
}
