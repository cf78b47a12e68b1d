//! Plugins that came before this one in the network's list: what they made is passed on beside ours, but for another
//! plugin that has already given the container this interface or an address.

use crate::config::ConfigError;
use crate::result::{Interface, Outcome, PreviousResult, Route};

/// Refuses to be the second plugin that makes the container's interface.
pub(crate) fn check(previous: &PreviousResult, ifname: &str) -> Result<(), ConfigError> {
    let mut inside = previous
        .interfaces
        .iter()
        .filter(|interface| !interface.sandbox.is_empty());
    let made = if inside.any(|interface| interface.name == ifname) {
        format!("the interface {ifname:?}")
    } else if let Some(ip) = previous.ips.first() {
        format!("the address {}", ip.address)
    } else {
        return Ok(());
    };
    Err(ConfigError::Invalid {
        field: "prevResult",
        why: format!(
            "{made} is there already, from a plugin earlier in the list: make gantry-cni the first one, or remove it"
        ),
    })
}

/// Adds what came before to the result. Behind ours, whose addresses name their interface by its place.
pub(crate) fn pass_on(previous: &PreviousResult, outcome: &mut Outcome) {
    let interfaces = previous.interfaces.iter().map(|interface| Interface {
        name: interface.name.clone(),
        mac: interface.mac.clone(),
        mtu: None,
        sandbox: (!interface.sandbox.is_empty()).then(|| interface.sandbox.clone()),
    });
    outcome.interfaces.extend(interfaces);
    for route in &previous.routes {
        if outcome.routes.iter().any(|own| own.dst == route.dst) {
            continue;
        }
        outcome.routes.push(Route {
            dst: route.dst,
            gw: route.gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        });
    }
}
