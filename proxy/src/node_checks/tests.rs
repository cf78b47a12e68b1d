use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use gantry_proxy_core::Family;

use super::*;

/// A port that was free a moment ago.
fn free() -> NonZeroU16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    NonZeroU16::new(port).expect("not zero")
}

fn check(name: &str, port: NonZeroU16, local: usize) -> HealthCheck {
    HealthCheck {
        service: format!("ns/{name}").into(),
        port,
        local,
    }
}

async fn ask(port: NonZeroU16) -> Option<String> {
    ask_at("127.0.0.1", port).await
}

async fn ask_at(host: &'static str, port: NonZeroU16) -> Option<String> {
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect((host, port.get()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"PUT /whatever HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    asked.await.expect("no panic").ok()
}

#[tokio::test]
async fn a_server_is_open_as_long_as_its_service() {
    let here: [IpAddr; 1] = [[127, 0, 0, 1].into()];
    let health = Health::new(Duration::ZERO);
    let mut checks = NodeChecks::new(health.clone(), Events::new("n").0);
    let (one, two) = (free(), free());
    assert!(checks.sync(&[check("a", one, 2)], &here).await);
    let answer = ask(one).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    assert_eq!(
        body,
        "{\n\t\"service\": {\n\t\t\"namespace\": \"ns\",\n\t\t\"name\": \"a\"\n\t},\n\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
    );
    for line in [
        "HTTP/1.1 200 OK",
        "x-load-balancing-endpoint-weight: 2",
        "content-type: application/json",
        "x-content-type-options: nosniff",
    ] {
        assert!(head.lines().any(|l| l == line), "{line} is missing in {head}");
    }
    assert!(checks.sync(&[check("a", one, 0)], &here).await);
    let none = ask(one).await.expect("an answer");
    assert!(none.starts_with("HTTP/1.1 503") && none.contains("\"localEndpoints\": 0"));
    assert!(
        checks.sync(&[check("a", two, 1)], &here).await,
        "another port of the same service"
    );
    assert_eq!((ask(one).await, ask(two).await.is_some()), (None, true));
    health.updated(Family::Ipv4);
    health.queued(Family::Ipv4);
    let late = ask(two).await.expect("an answer");
    assert!(late.starts_with("HTTP/1.1 503") && late.contains("\"serviceProxyHealthy\": false"));
    assert!(checks.sync(&[], &here).await);
    assert_eq!(ask(two).await, None);
}

#[tokio::test]
async fn a_port_in_use_is_tried_again() {
    let here: [IpAddr; 1] = [[127, 0, 0, 1].into()];
    let (events, mut told) = Events::new("n");
    let mut checks = NodeChecks::new(Health::new(Duration::from_secs(60)), events);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = NonZeroU16::new(taken.local_addr().expect("an address").port()).expect("not zero");
    for _ in 0..2 {
        assert!(!checks.sync(&[check("a", port, 1)], &here).await);
    }
    assert!(
        told.try_recv().is_ok() && told.try_recv().is_err(),
        "users are told once"
    );
    drop(taken);
    assert!(checks.sync(&[check("a", port, 1)], &here).await);
    assert!(ask(port).await.is_some());
}

#[tokio::test]
async fn both_families_have_a_server_on_one_port() {
    let port = free();
    let mut families = [
        NodeChecks::new(Health::new(Duration::ZERO), Events::new("n").0),
        NodeChecks::new(Health::new(Duration::ZERO), Events::new("n").0),
    ];
    let everywhere: [IpAddr; 2] = [[0; 4].into(), [0; 16].into()];
    for ((checks, address), local) in families.iter_mut().zip(everywhere).zip([1, 2]) {
        assert!(
            checks.sync(&[check("a", port, local)], &[address]).await,
            "{address}"
        );
    }
    for (host, local) in [("127.0.0.1", 1), ("::1", 2)] {
        let answer = ask_at(host, port).await.expect("an answer");
        assert!(
            answer.contains(&format!("\"localEndpoints\": {local}")),
            "{answer}"
        );
    }
}
