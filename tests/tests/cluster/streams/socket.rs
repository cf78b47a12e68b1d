//! Sessions over a WebSocket whose protocol ends at the node: `v5.channel.k8s.io`, and SPDY inside of a WebSocket.

use gantry_agent_core::streaming::spdy::{Decoder, Encoder, Frame, data_head};
use gantry_tests::cluster::{NodeApi, Session, Test, secs};

use super::{serving_pod, waiting_pod};

const V5: &str = "v5.channel.k8s.io";
const INPUT: u8 = 0;
const OUT: u8 = 1;
const ERR: u8 = 2;
const STATUS: u8 = 3;
const SIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A session of v5 with container `c` of pod `p`: the rest of the path, the command.
fn begin(test: &Test, api: &NodeApi, kind: &str, query: &str) -> Session {
    let path = format!("/{kind}/{}/p/c?{query}", test.namespace());
    let session = Session::begin_with(api, &path, &format!("{V5}, v4.channel.k8s.io")).expect("a session");
    let head = session.head.to_ascii_lowercase();
    assert!(
        head.contains("sec-websocket-protocol: v5.channel.k8s.io\r\n"),
        "{head}"
    );
    session
}

/// The query of a command of the shell.
fn shell(streams: &str, script: &str) -> String {
    let script = script
        .replace(' ', "+")
        .replace(';', "%3B")
        .replace('&', "%26")
        .replace('>', "%3E");
    format!("{streams}&command=sh&command=-c&command={script}")
}

/// What comes until the end: output, errors, the status.
fn rest(session: &mut Session) -> [String; 3] {
    let mut all = [OUT, ERR, STATUS].map(|_| Vec::new());
    while let Some((channel, bytes)) = session.next(secs(30)).expect("the session goes on") {
        let of_channel = all
            .get_mut(usize::from(channel) - 1)
            .expect("a channel that is read");
        of_channel.extend(bytes);
    }
    all.map(|bytes| String::from_utf8(bytes).expect("text"))
}

/// The exit code that a status tells; 0 is success.
fn code(status: &str) -> String {
    let status: serde_json::Value = serde_json::from_str(status).expect("a status");
    let cause = &status["details"]["causes"][0]["message"];
    if status["status"] == "Success" {
        return "0".to_owned();
    }
    cause.as_str().unwrap_or_default().to_owned()
}

#[test]
fn input_ends_while_output_goes_on() {
    let test = Test::start("socket-input");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let query = shell("input=1&output=1&error=1", "cat; echo over; echo err >&2; exit 3");
    let mut session = begin(&test, &api, "exec", &query);
    session.send(INPUT, b"hello\n").expect("it is open");
    assert_eq!(session.next(secs(20)), Ok(Some((OUT, b"hello\n".to_vec()))));
    session.send(CLOSE, &[INPUT]).expect("it is open");
    let [out, err, status] = rest(&mut session);
    assert_eq!(
        [out.as_str(), &err, &code(&status)],
        ["over\n", "err\n", "3"],
        "{status}"
    );
    assert!(
        status.contains("command terminated with non-zero exit code: command terminated with exit code 3"),
        "{status}"
    );
}

#[test]
fn a_command_ends_with_success_or_says_why_it_cannot_run() {
    let test = Test::start("socket-status");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let [out, _, status] = rest(&mut begin(&test, &api, "exec", "output=1&command=echo&command=x"));
    assert_eq!((out.as_str(), code(&status).as_str()), ("x\n", "0"), "{status}");
    let [_, _, status] = rest(&mut begin(
        &test,
        &api,
        "exec",
        "output=1&command=no-such-program",
    ));
    assert!(
        status.contains("InternalError") && status.contains("no-such-program"),
        "{status}"
    );
}

#[test]
fn a_terminal_is_resized() {
    let test = Test::start("socket-terminal");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let mut session = begin(&test, &api, "exec", "input=1&output=1&tty=1&command=sh");
    let mut shown = String::new();
    // The size arrives beside what is typed, so it is asked for until it is there.
    while !shown.contains("33 101") {
        session
            .send(SIZE, br#"{"Width":101,"Height":33}"#)
            .expect("it is open");
        session.send(INPUT, b"stty size\n").expect("it is open");
        let (channel, bytes) = session.next(secs(20)).expect("an answer").expect("more");
        assert_eq!(channel, OUT);
        shown.push_str(&String::from_utf8_lossy(&bytes));
    }
    session.send(INPUT, b"exit 5\n").expect("it is open");
    let [.., status] = rest(&mut session);
    assert_eq!(code(&status), "5", "{status}");
}

#[test]
fn attach_joins_the_first_process() {
    let test = Test::start("socket-attach");
    test.pod(
        "p",
        "{nodeName: node-1, restartPolicy: Never, containers: [{name: c, image: 'busybox:1.36', stdin: true, \
           stdinOnce: true, command: [sh, -c, 'lines=$(wc -l); sleep 1; echo $lines; sleep 1; exit 3']}]}",
    );
    test.wait_pod("p", "it runs", secs(60), |pod| {
        gantry_tests::cluster::pods::running(pod, "c")
    });
    let api = NodeApi::of_api_server(&test, "node-1");
    let mut session = begin(&test, &api, "attach", "input=1&output=1&error=1");
    session.send(INPUT, b"one\ntwo\n").expect("it is open");
    session.send(CLOSE, &[INPUT]).expect("it is open");
    let [out, _, status] = rest(&mut session);
    assert_eq!((out.as_str(), code(&status).as_str()), ("2\n", "0"), "{status}");
}

#[test]
fn what_is_no_web_socket_is_refused() {
    let test = Test::start("socket-refused");
    waiting_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let path = format!("/exec/{}/p/c?output=1&command=true", test.namespace());
    let ask = |method: &str, version: &str, key: &str| {
        let request = api
            .request(method, &path)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Protocol", V5)
            .header("Sec-WebSocket-Version", version);
        let request = if key.is_empty() {
            request
        } else {
            request.header("Sec-WebSocket-Key", key)
        };
        let answer = api.try_send(request).expect("an answer");
        (answer.status, answer.text())
    };
    let key = "MDEyMzQ1Njc4OWFiY2RlZg==";
    for (method, version, key, status, text) in [
        ("POST", "13", key, 405, "bad method"),
        ("GET", "13", "", 400, "mismatch challenge/response"),
        ("GET", "12", key, 400, "missing or bad WebSocket Version"),
    ] {
        assert_eq!(
            ask(method, version, key),
            (status, text.to_owned()),
            "{method} {version}"
        );
    }
}

/// Sends bytes as a message: its first byte is no channel here.
fn say(session: &mut Session, bytes: &[u8]) {
    session.send(bytes[0], &bytes[1..]).expect("it is open");
}

#[test]
fn spdy_inside_of_a_web_socket_is_a_port_forward() {
    let test = Test::start("socket-forward");
    serving_pod(&test, "p");
    let api = NodeApi::of_api_server(&test, "node-1");
    let path = format!("/portForward/{}/p", test.namespace());
    let mut session = Session::begin_with(&api, &path, "SPDY/3.1+portforward.k8s.io").expect("a session");
    let head = session.head.to_ascii_lowercase();
    assert!(
        head.contains("sec-websocket-protocol: spdy/3.1+portforward.k8s.io\r\n"),
        "{head}"
    );
    let mut encoder = Encoder::default();
    for (stream, kind) in [(1, "error"), (3, "data")] {
        let headers = [("streamtype", kind), ("port", "8080"), ("requestid", "0")];
        say(&mut session, &encoder.open(stream, &headers));
    }
    let request = b"GET / HTTP/1.0\r\nHost: x\r\n\r\n";
    say(&mut session, &data_head(3, request.len(), false));
    say(&mut session, request);
    let (mut decoder, mut held, mut answer) = (Decoder::default(), Vec::new(), Vec::new());
    'session: loop {
        let (first, others) = session
            .next(secs(20))
            .expect("an answer")
            .expect("the session goes on");
        held.push(first);
        held.extend(others);
        loop {
            let (used, frame) = decoder.next(&held).expect("SPDY");
            match frame {
                Some(Frame::Data { stream: 3, bytes }) => answer.extend(bytes),
                Some(Frame::End { stream: 3 }) => break 'session,
                Some(_) => {}
                None => break,
            }
            held.drain(..used);
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\np\n"),
        "{answer}"
    );
}
