//! Mode `NodeCIDR`: the node's pod ranges decide what a pod is, so the program ends when they change or do not come, as the reference
//! does.

use std::time::Duration;

use gantry_proxy_core::Node;
use ipnetwork::IpNetwork;

use super::Ended;

/// The ranges may take this long; the reference's.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The ranges that decide; none before the node has some.
#[derive(Debug, Default)]
pub(super) struct PodRanges(Vec<IpNetwork>);

impl PodRanges {
    /// Compares them with those of the node, which may not be there; `age` is that of the program.
    pub(super) fn check(&mut self, name: &str, own: Option<&Node>, age: Duration) -> Result<(), Ended> {
        // A node that is gone says nothing about its ranges.
        let now = own.map_or(self.0.as_slice(), |node| node.pod_ranges.as_slice());
        if self.0.is_empty() {
            if now.is_empty() && age > TIMEOUT {
                return Err(Ended::NoPodRanges(name.to_owned()));
            }
            self.0 = now.to_vec();
        } else if self.0 != now {
            return Err(Ended::PodRangesChanged {
                before: self.0.clone(),
                now: now.to_vec(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ranges: &[&str]) -> Node {
        Node {
            pod_ranges: ranges.iter().map(|r| r.parse().expect("a range")).collect(),
            ..Node::default()
        }
    }

    #[test]
    fn ranges_may_come_late_but_not_change() {
        let (early, late) = (Duration::ZERO, TIMEOUT * 2);
        let mut ranges = PodRanges::default();
        let mut check = |own: Option<&Node>, age| ranges.check("me", own, age);
        assert!(check(None, early).is_ok(), "no node yet");
        assert!(check(Some(&node(&[])), early).is_ok(), "no range yet");
        assert!(matches!(check(None, late), Err(Ended::NoPodRanges(name)) if name == "me"));
        let own = node(&["10.244.1.0/24"]);
        assert!(check(Some(&own), late).is_ok());
        assert!(check(Some(&own), late).is_ok());
        assert!(check(None, late).is_ok(), "the node is gone");
        assert!(check(Some(&own), late).is_ok(), "and back");
        for other in [node(&["10.244.2.0/24"]), node(&[])] {
            let ended = check(Some(&other), early);
            assert!(matches!(ended, Err(Ended::PodRangesChanged { .. })), "{ended:?}");
        }
    }
}
