//! Whose source address is kept: `masqueradeAll` and the ways to tell pods (behaviours 1 and 5).

use gantry_proxy::table::{InterfaceName, Layout, Masquerading, Pods};
use gantry_proxy_core::Policy;

use crate::host::Outcome;
use crate::objects::*;
use crate::rig::{LAYOUT, Rig};

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";
/// The node as its pods see it.
const NODE: &str = "10.244.1.1";

fn interface(name: &str, whole: bool) -> Layout {
    Layout {
        pods: Pods::Interface {
            name: InterfaceName::new(name).unwrap(),
            whole,
            mark_bit: 14,
        },
        ..LAYOUT
    }
}

fn rig(layout: Layout) -> Rig {
    let mut rig = Rig::laid_out(layout);
    rig.apply([service(web()), endpoints(&[A])]);
    rig
}

/// Whom the backend sees when pod, host and outside client use the ClusterIP.
fn seen(rig: &Rig) -> [String; 3] {
    [&rig.client, &rig.node, &rig.outside].map(|host| {
        let (tcp, udp) = (host.tcp(VIP), host.udp(VIP));
        assert_eq!(tcp.seen(), udp.seen());
        tcp.seen().to_owned()
    })
}

#[test]
fn pods_are_told_by_ranges_or_interface() {
    for layout in [
        LAYOUT,
        interface("cni0", true),
        interface("cn", false),
        interface("cni0", false),
    ] {
        let mut rig = rig(layout);
        assert_eq!(seen(&rig), ["10.244.1.2", NODE, NODE], "{layout:?}");
        assert_eq!(rig.a.tcp(VIP).seen(), NODE, "a pod that reaches itself");
        rig.apply([service(web_external(Policy::Local)), endpoints(&[REMOTE])]);
        assert_eq!(rig.outside.tcp(NODE_PORT), Outcome::Nothing);
        rig.apply([endpoints(&[A])]);
        for (host, source) in [(&rig.client, "10.244.1.2"), (&rig.outside, "192.0.2.100")] {
            assert_eq!(host.tcp(NODE_PORT).seen(), source, "{layout:?}");
        }
        // Pods go to endpoints of all nodes, outside clients only to those of this one.
        rig.apply([endpoints(&[A, REMOTE])]);
        for _ in 0..10 {
            assert_eq!(rig.outside.tcp(NODE_PORT).backend(), "a");
        }
        let lost = (0..40).any(|_| rig.client.tcp(NODE_PORT) == Outcome::Nothing);
        assert!(
            lost,
            "{layout:?}: the endpoint elsewhere does not answer, and was tried"
        );
    }
}

#[test]
fn an_interface_of_another_name_is_not_pods() {
    let rig = rig(interface("cni", true));
    assert_eq!(seen(&rig), [NODE, NODE, NODE]);
    let table = rig.table();
    assert!(table.contains("mark set"), "{table}");
}

#[test]
fn masquerade_all_hides_pods_too() {
    for layout in [LAYOUT, interface("cni0", true)] {
        let rig = rig(Layout {
            masquerading: Masquerading::Everybody,
            ..layout
        });
        assert_eq!(seen(&rig), [NODE, NODE, NODE]);
    }
}

#[test]
fn without_a_way_to_tell_pods_everybody_keeps_the_address() {
    let rig = rig(Layout {
        masquerading: Masquerading::Nobody,
        ..LAYOUT
    });
    assert_eq!(seen(&rig), ["10.244.1.2", "192.0.2.1", "192.0.2.100"]);
    assert_eq!(rig.a.tcp(VIP).seen(), NODE, "but not a pod that reaches itself");
    assert_eq!(
        rig.outside.tcp(NODE_PORT).seen(),
        NODE,
        "nor who comes from outside"
    );
}
