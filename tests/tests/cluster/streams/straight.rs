//! Straight with the node's port 10250: sessions over a WebSocket, refusals with their exact status and text.

use gantry_tests::cluster::{NodeApi, Session, Test, poll, secs};

use super::waiting_pod;

const OUT: u8 = 1;
const STATUS: u8 = 3;

/// Method, path, status and text of what is refused; `NS` is the test's namespace.
const REFUSED: &[(&str, &str, u16, &str)] = &[
    ("POST", "/exec/NS/p/c?command=true", 400, NO_STREAM),
    ("GET", "/attach/NS/p/c?tty=1&error=1", 400, NO_STREAM),
    ("POST", "/exec/NS/none/c?output=1", 404, "pod does not exist"),
    ("POST", "/attach/NS/none/c?output=1", 404, "pod does not exist"),
    ("POST", "/portForward/NS/none", 404, "pod does not exist"),
    ("POST", "/run/NS/none/c?cmd=true", 404, "pod does not exist"),
    ("POST", "/portForward/NS/p/00000000", 404, "pod not found"),
    (
        "POST",
        "/exec/NS/p/none?output=1",
        500,
        "container not found (\"none\")",
    ),
    (
        "POST",
        "/run/NS/p/none?cmd=true",
        500,
        "container not found (\"none\")",
    ),
    (
        "POST",
        "/attach/NS/p/none?output=1",
        500,
        "container none not found in pod p_NS",
    ),
    (
        "POST",
        "/attach/NS/p/00000000/c?output=1",
        500,
        "pod p_NS not found",
    ),
    ("POST", "/exec/NS/p/c?output=1&command=true", 500, NO_UPGRADE),
    ("GET", "/portForward/NS/p", 500, NO_UPGRADE),
    ("GET", "/run/NS/p/c?cmd=true", 405, "405: Method Not Allowed"),
    ("PUT", "/exec/NS/p/c?output=1", 405, "405: Method Not Allowed"),
    ("POST", "/exec/NS/p", 404, "404: Page Not Found"),
];
const NO_STREAM: &str = "you must specify at least 1 of stdin, stdout, stderr";
const NO_UPGRADE: &str = "Upgrade request required\n";

#[test]
fn requests_that_cannot_be_served_are_refused_in_the_words_of_the_reference() {
    let test = Test::start("stream-refused");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    for (method, path, status, text) in REFUSED {
        let of_test = |text: &str| text.replace("NS", test.namespace());
        let answer = api.send(method, &of_test(path));
        assert_eq!(
            (answer.status, answer.text()),
            (*status, of_test(text)),
            "{method} {path}"
        );
    }
}

#[test]
fn web_socket_port_forwards_name_their_ports() {
    let test = Test::start("stream-ports");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let path = format!("/portForward/{}/p", test.namespace());
    for (query, text) in [
        ("", "query parameter \"port\" is required"),
        ("?port=", "query parameter \"port\" cannot be empty"),
        ("?port=0", "port \"0\" must be > 0"),
        (
            "?port=x",
            "unable to parse \"x\" as a port: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
    ] {
        let refused = Session::begin(&api, &format!("{path}{query}"))
            .err()
            .unwrap_or_default();
        assert!(
            refused.starts_with("HTTP/1.1 400 ") && refused.ends_with(text),
            "{query}: {refused}"
        );
    }
}

#[test]
fn run_answers_with_the_output() {
    let test = Test::start("stream-run");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let run = |cmd: &str| api.send("POST", &format!("/run/{}/p/c?cmd={cmd}", test.namespace()));
    let answer = run("echo+hello++there");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello  there\n"));
    assert_eq!(answer.content_type(), "application/json");
    let answer = run("true");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = run("ls+/none");
    assert_eq!(answer.status, 500);
    let text = answer.text();
    assert!(
        text.starts_with("command 'ls /none' exited with 1: ls: /none: No such file"),
        "{text}"
    );
}

#[test]
fn a_web_socket_is_a_session() {
    let test = Test::start("stream-socket");
    let pod = waiting_pod(&test, "p");
    let uid = pod.metadata.uid.unwrap_or_default();
    let api = NodeApi::of_api_server(&test, "node-1");
    let ns = test.namespace();
    let path = format!("/exec/{ns}/p/{uid}/c?input=1&output=1&error=1&command=sh&command=-c&command=");
    let mut session = Session::begin(&api, &format!("{path}read+x%3Becho+$x%3Bexit+3")).expect("a session");
    assert!(
        session
            .head
            .to_ascii_lowercase()
            .contains("sec-websocket-protocol: v4.channel.k8s.io"),
        "{}",
        session.head
    );
    session.send(0, b"hello\n").expect("it is open");
    let message = session.next(secs(20)).expect("an answer");
    assert_eq!(message, Some((OUT, b"hello\n".to_vec())));
    let (channel, status) = session.next(secs(20)).expect("an answer").expect("a status");
    let status = String::from_utf8_lossy(&status).into_owned();
    assert_eq!(channel, STATUS, "{status}");
    assert!(
        status.contains("\"Failure\"") && status.contains("\"3\""),
        "{status}"
    );
    assert_eq!(session.next(secs(20)), Ok(None));
}

#[test]
fn fifty_sessions_at_once_do_not_disturb_each_other() {
    let test = Test::start("stream-fifty");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let path = format!("/exec/{}/p/c?input=1&output=1&command=cat", test.namespace());
    let mut sessions: Vec<_> = (0..50)
        .map(|_| Session::begin(&api, &path).expect("a session"))
        .collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        session
            .send(0, format!("number {number}\n").as_bytes())
            .expect("it is open");
    }
    for (number, session) in sessions.iter_mut().enumerate() {
        let answer = session.next(secs(60)).expect("an answer");
        assert_eq!(answer, Some((OUT, format!("number {number}\n").into_bytes())));
    }
}

#[test]
fn a_client_that_vanishes_leaves_nothing_in_the_container() {
    let test = Test::start("stream-vanish");
    let pod = waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let path = format!("/exec/{}/p/c?input=1&output=1&command=cat", test.namespace());
    let mut sessions: Vec<_> = (0..5)
        .map(|_| Session::begin(&api, &path).expect("a session"))
        .collect();
    for session in &mut sessions {
        session.send(0, b"x").expect("it is open");
        session.next(secs(20)).expect("an answer");
    }
    let running = || test.exec(&pod, "c", "pidof cat | wc -w");
    assert_eq!(running(), "5");
    drop(sessions);
    poll(secs(20), "all have ended", || (running() == "0").then_some(()));
}
