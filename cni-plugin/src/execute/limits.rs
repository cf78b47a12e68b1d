//! The steps that limit bandwidth.

use rustix::io::Errno;

use super::Executor;
use crate::bandwidth::Bucket;
use crate::error::Failure;
use crate::netlink::NetlinkError;
use crate::owner::Mac;

impl Executor<'_> {
    pub(super) fn create_ifb(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<(), Failure> {
        let mut made = self.host.create_ifb(name, mac, mtu);
        if let Err(error) = &made
            && error.kernel_reason() == Some(Errno::EXIST)
        {
            // Left by a killed ADD whose namespace, and so whose veth, is gone.
            self.host.delete_link(name)?;
            made = self.host.create_ifb(name, mac, mtu);
        }
        made.map_err(|error| needs("ifb", error))
    }

    pub(super) fn shape(&mut self, device: &str, bucket: Bucket) -> Result<(), Failure> {
        let index = self.index(device)?;
        let shaped = self.host.shape(index, bucket);
        shaped.map_err(|error| needs("sch_tbf", error))
    }

    pub(super) fn redirect(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let (from, to) = (self.index(from)?, self.index(to)?);
        let hooked = self.host.add_ingress(from);
        hooked.map_err(|error| needs("sch_ingress", error))?;
        let redirected = self.host.redirect(from, to);
        redirected.map_err(|error| needs("cls_u32 or act_mirred", error))
    }
}

/// How the kernel refuses what it has no module for.
fn needs(modules: &'static str, source: NetlinkError) -> Failure {
    match source.kernel_reason() {
        Some(Errno::NOENT | Errno::OPNOTSUPP) => Failure::NoModule { modules, source },
        Some(_) | None => source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_module_is_named_and_nothing_else_is() {
        let refused = |reason: Errno| NetlinkError::Refused {
            operation: "limit".to_owned(),
            source: reason.into(),
        };
        let report = |reason| needs("sch_tbf", refused(reason));
        assert!(report(Errno::NOENT).to_string().contains("no sch_tbf"));
        assert!(report(Errno::OPNOTSUPP).to_string().contains("no sch_tbf"));
        assert!(matches!(report(Errno::PERM), Failure::Netlink(_)));
        assert_eq!(report(Errno::NOENT).code(), report(Errno::PERM).code());
    }
}
