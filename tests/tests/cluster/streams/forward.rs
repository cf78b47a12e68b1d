//! port-forward.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use gantry_tests::cluster::{Kubectl, NetNs, Test, poll, secs};

use super::serving_pod;

/// A port-forward to any local port, and that port.
fn forward(test: &Test, pod: &str, port: u16) -> (Kubectl, SocketAddr) {
    let kubectl = test.start_kubectl(&["port-forward", pod, &format!(":{port}")]);
    let said = kubectl.wait_said("where it listens", secs(20), |said| said.contains("-> "));
    let local = said
        .split_once("127.0.0.1:")
        .and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
    let local: u16 = local.expect("it says its port");
    (kubectl, SocketAddr::from(([127, 0, 0, 1], local)))
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = NetNs::outside().connect(to).expect("kubectl listens");
    stream.set_read_timeout(Some(secs(30))).expect("a socket");
    stream
}

#[test]
fn many_connections_share_one_port_forward() {
    let test = Test::start("forward-many");
    serving_pod(&test, "p");
    let (_kubectl, address) = forward(&test, "p", 8080);
    let mut streams: Vec<_> = (0..20).map(|_| connect(address)).collect();
    // All are open at the same time, and none waits for another.
    for stream in streams.iter_mut().rev() {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("a request");
    }
    for stream in &mut streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\np\n"),
            "{answer}"
        );
    }
}

#[test]
fn a_client_that_has_said_all_still_gets_the_answer() {
    let test = Test::start("forward-half");
    serving_pod(&test, "p");
    let (_kubectl, address) = forward(&test, "p", 8080);
    for _ in 0..5 {
        let mut stream = connect(address);
        stream
            .write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            .expect("a request");
        stream.shutdown(Shutdown::Write).expect("half of it is closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("\r\n\r\np\n"), "{answer}");
    }
}

#[test]
fn megabytes_pass_a_port_forward() {
    let test = Test::start("forward-bulk");
    test.pod(
        "p",
        "{nodeName: node-1, containers: [{name: c, image: 'busybox:1.36', \
           command: [nc, -ll, -p, '7000', -e, head, -c, '33554432', /dev/zero]}]}",
    );
    test.wait_ready("p");
    let (_kubectl, address) = forward(&test, "p", 7000);
    let mut stream = connect(address);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    assert_eq!(bytes.len(), 33_554_432);
}

#[test]
fn a_port_where_nobody_listens_is_an_error_of_that_connection_only() {
    let test = Test::start("forward-closed");
    serving_pod(&test, "p");
    let (kubectl, address) = forward(&test, "p", 9);
    let mut stream = connect(address);
    let mut answer = Vec::new();
    // Closed or reset, but at once.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
    poll(secs(20), "kubectl says why", || {
        kubectl
            .complained()
            .contains("failed to connect to localhost:9 inside namespace")
            .then_some(())
    });
}

#[test]
fn a_pod_that_has_ended_takes_no_port_forward() {
    let test = Test::start("forward-ended");
    test.pod(
        "p",
        "{nodeName: node-1, restartPolicy: Never, containers: [{name: c, image: 'busybox:1.36', command: ['true']}]}",
    );
    test.wait_pod("p", "it has ended", secs(60), |pod| {
        gantry_tests::cluster::pods::phase(pod) == "Succeeded"
    });
    let refused = test.kubectl_refused(&["port-forward", "p", ":80"]);
    assert!(refused.contains("pod is not running"), "{refused}");
}
