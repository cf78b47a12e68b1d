//! The result of ADD in the shape of each version, and what CHECK and DEL read of it again.

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::version::Version;

/// What ADD answers, free of any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The interfaces made or used.
    pub(crate) interfaces: Vec<Interface>,
    /// The container's addresses.
    pub(crate) ips: Vec<Ip>,
    /// The container's routes.
    pub(crate) routes: Vec<Route>,
    /// Passed on from the configuration.
    pub(crate) dns: Dns,
}

/// An interface of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// Its hardware address.
    pub(crate) mac: String,
    /// Its MTU in bytes; only version 1.1.0 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// The namespace; absent for interfaces of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<String>,
}

/// An address of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ip {
    /// Index into the interfaces.
    pub(crate) interface: usize,
    /// Address and prefix.
    pub(crate) address: IpNetwork,
    /// The gateway of the subnet.
    pub(crate) gateway: Option<IpAddr>,
}

/// A route of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Route {
    /// Destination.
    pub(crate) dst: IpNetwork,
    /// Next hop; absent: the gateway of the subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    /// MTU in bytes along this route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// TCP maximal segment size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
    /// Lower is preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// Routing table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    /// Scope, as in `rtnetlink(7)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u8>,
}

/// Name resolution, passed on unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dns {
    /// Servers, most wanted first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    /// Domains to try for short names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

#[derive(Serialize)]
struct ResultObject<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'static str,
    interfaces: Vec<Interface>,
    ips: Vec<IpObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct IpObject {
    /// Until 0.4.0: the address family.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    interface: usize,
    address: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl Dns {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Outcome {
    /// The result object of this version.
    pub(crate) fn to_json(&self, version: Version) -> serde_json::Result<String> {
        let mut interfaces = self.interfaces.clone();
        let mut routes = self.routes.clone();
        if version < Version::V1_1_0 {
            interfaces.iter_mut().for_each(|interface| interface.mtu = None);
            for route in &mut routes {
                *route = Route {
                    mtu: None,
                    advmss: None,
                    priority: None,
                    table: None,
                    scope: None,
                    ..route.clone()
                };
            }
        }
        let family = |address: &IpNetwork| if address.is_ipv4() { "4" } else { "6" };
        let ips = self.ips.iter().map(|ip| IpObject {
            version: (version < Version::V1_0_0).then(|| family(&ip.address)),
            interface: ip.interface,
            address: ip.address,
            gateway: ip.gateway,
        });
        let ips = ips.collect();
        serde_json::to_string(&ResultObject {
            cni_version: version.as_str(),
            interfaces,
            ips,
            routes,
            dns: &self.dns,
        })
    }
}

/// What we need of `prevResult`. All versions from 0.3.1 on have these fields in common.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct PreviousResult {
    /// Interfaces, the host's and the container's.
    #[serde(default)]
    pub(crate) interfaces: Vec<PreviousInterface>,
    /// Addresses.
    #[serde(default)]
    pub(crate) ips: Vec<PreviousIp>,
    /// Routes.
    #[serde(default)]
    pub(crate) routes: Vec<PreviousRoute>,
}

/// An interface of a previous result.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PreviousInterface {
    /// Its name.
    pub(crate) name: String,
    /// Its hardware address, when known.
    #[serde(default)]
    pub(crate) mac: String,
    /// Its namespace; empty: the host.
    #[serde(default)]
    pub(crate) sandbox: String,
}

/// An address of a previous result.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PreviousIp {
    /// Index into the interfaces.
    pub(crate) interface: Option<usize>,
    /// Address and prefix.
    pub(crate) address: IpNetwork,
}

/// A route of a previous result.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PreviousRoute {
    /// Destination.
    pub(crate) dst: IpNetwork,
    /// Next hop.
    pub(crate) gw: Option<IpAddr>,
}

impl PreviousResult {
    /// Reads the object.
    pub(crate) fn parse(value: &Value) -> serde_json::Result<Self> {
        Self::deserialize(value)
    }

    /// The container's interface with this name.
    pub(crate) fn container_interface(
        &self,
        ifname: &str,
        netns: &Path,
    ) -> Option<(usize, &PreviousInterface)> {
        let matches = |interface: &PreviousInterface| {
            interface.name == ifname && Path::new(&interface.sandbox) == netns
        };
        self.interfaces
            .iter()
            .enumerate()
            .find(|(_, interface)| matches(interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let interface = Interface {
            name: "eth0".into(),
            mac: "0a:58:0a:01:02:03".into(),
            mtu: Some(1500),
            sandbox: Some("/run/netns/a".into()),
        };
        let ip = Ip {
            interface: 0,
            address: "10.1.2.3/24".parse().unwrap(),
            gateway: Some([10, 1, 2, 1].into()),
        };
        Outcome {
            interfaces: vec![interface],
            ips: vec![ip],
            routes: vec![],
            dns: Dns::default(),
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        let json = |version| outcome().to_json(version).unwrap();
        let old = r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","mac":"0a:58:0a:01:02:03","sandbox":"/run/netns/a"}],"ips":[{"version":"4","interface":0,"address":"10.1.2.3/24","gateway":"10.1.2.1"}]}"#;
        assert_eq!(json(Version::V0_4_0), old);
        assert_eq!(
            json(Version::V1_0_0),
            old.replace("0.4.0", "1.0.0").replace(r#""version":"4","#, "")
        );
        assert!(json(Version::V1_1_0).contains(r#""mtu":1500"#));
    }

    #[test]
    fn own_results_can_be_read_again() {
        for version in Version::ALL {
            let value: Value = serde_json::from_str(&outcome().to_json(version).unwrap()).unwrap();
            let previous = PreviousResult::parse(&value).unwrap();
            assert_eq!(previous.ips[0].address, outcome().ips[0].address);
            assert!(
                previous
                    .container_interface("eth0", Path::new("/run/netns/a"))
                    .is_some()
            );
        }
    }
}
