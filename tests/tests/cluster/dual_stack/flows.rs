//! UDP flows that are under way when their backend goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use gantry_tests::cluster::{Machine, NetNs, poll, secs};
use k8s_openapi::api::core::v1::Pod;

use super::{Hello, start};

/// A UDP client that keeps its port, so that the kernel takes all it says for one flow.
struct UdpClient(UdpSocket);

impl UdpClient {
    fn new(from: &NetNs, to: SocketAddr) -> Self {
        let any: IpAddr = if to.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let socket = from.run(|| UdpSocket::bind((any, 0))).expect("a socket");
        socket.connect(to).expect("an address");
        socket.set_read_timeout(Some(secs(1))).expect("a time-out");
        Self(socket)
    }

    /// Who answers, if somebody does.
    fn ask(&self) -> Option<String> {
        let mut buffer = [0; 1500];
        self.0.send(b"who?").ok()?;
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    }
}

#[test]
fn udp_flows_leave_a_backend_that_is_gone_in_both_families() {
    let Some(test) = start("dual-flows") else {
        return;
    };
    let hello = Hello::start(test, "ipFamilyPolicy: RequireDualStack");
    let from = NetNs::of_machine(&Machine::named("node-2"));
    for ip in hello.cluster_ips() {
        let client = UdpClient::new(&from, (ip, 80).into());
        let name = poll(secs(30), &format!("an answer of {ip}"), || client.ask());
        let same = (0..5).filter_map(|_| client.ask()).all(|other| other == name);
        assert!(same, "a flow stays with its backend");
        hello.test.delete::<Pod>(&name, None);
        hello.test.wait_gone::<Pod>(&name, secs(30));
        poll(
            secs(30),
            &format!("another backend answers the flow to {ip}"),
            || client.ask().filter(|other| *other != name),
        );
    }
}
