//! `/configz`: the configuration that is in effect, as `kubelet.config.k8s.io/v1beta1` writes it.

use serde_json::{Value, json};

use super::{Answer, Api, Refusal, answer};
use crate::runtime::CgroupDriver;

/// `/configz`. The cgroup driver is the one that the runtime uses, which is asked.
pub(super) async fn effective(api: &Api) -> Result<Answer, Refusal> {
    let mut shown = api.config.shown();
    if let Ok(Some(driver)) = api.runtime.cgroup_driver().await {
        let name = match driver {
            CgroupDriver::Systemd => "systemd",
            CgroupDriver::Cgroupfs => "cgroupfs",
        };
        shown.insert("cgroupDriver".to_owned(), Value::from(name));
    }
    answer::json(&json!({"kubeletconfig": shown}))
}
