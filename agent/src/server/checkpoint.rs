//! `/checkpoint/{namespace}/{pod}/{container}` (KEP-2008): the runtime writes a running container's memory and files to
//! an archive below the root directory, for forensics.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path, time::Duration};

use gantry_agent_core::{
    api::{ContainerRef, Query},
    observed::ContainerState,
    pod,
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::{Answer, Api, Refusal, answer};
use crate::report::Chain;

/// Makes the archive and says where it is.
pub(super) async fn make(api: &Api, target: &ContainerRef, query: Option<&str>) -> Result<Answer, Refusal> {
    let ContainerRef { pod, container } = target;
    let entry = api.pods.by_name(&pod.namespace, &pod.name);
    let entry = entry.ok_or_else(|| Refusal::not_found("pod does not exist"))?;
    if !pod::containers(&entry.pod)
        .iter()
        .any(|spec| spec.name == container)
    {
        return Err(Refusal::not_found(format!(
            "container {container} does not exist"
        )));
    }
    let timeout = timeout(query)?;
    let uid = entry.pod.metadata.uid.as_deref().unwrap_or_default();
    let done = archive(api, (uid, target), timeout).await;
    match done {
        Ok(location) => answer::json(&json!({"items": [location]})),
        Err(why) => Err(Refusal::internal(format!(
            "checkpointing of {}/{}/{container} failed ({why})",
            pod.namespace, pod.name
        ))),
    }
}

/// The last value of `timeout`, seconds.
fn timeout(query: Option<&str>) -> Result<i64, Refusal> {
    let query = Query::parse(query.unwrap_or_default());
    let last = query.all("timeout").next_back();
    last.map_or(Ok(0), |text| {
        text.parse()
            .map_err(|_| Refusal::not_found("cannot parse value of timeout parameter"))
    })
}

async fn archive(api: &Api, (uid, target): (&str, &ContainerRef), seconds: i64) -> Result<String, String> {
    let observed = api.runtime.pods().get(uid).unwrap_or_default();
    let running = observed
        .container(&target.container)
        .filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let id = &running
        .ok_or_else(|| format!("container {} not found", target.container))?
        .id;
    let timeout = u64::try_from(seconds)
        .map_err(|_| "CheckpointContainer requires the timeout value to be > 0".to_owned())?;
    let dir = api.config.root_dir.join("checkpoints");
    private(&dir).map_err(|error| error.to_string())?;
    let now = Timestamp::now()
        .to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%dT%H:%M:%SZ");
    let name = format!(
        "checkpoint-{}_{}-{}-{now}.tar",
        target.pod.name, target.pod.namespace, target.container
    );
    let location = dir.join(name).display().to_string();
    let made = api
        .runtime
        .checkpoint_container(id, &location, Duration::from_secs(timeout))
        .await;
    made.map_err(|error| Chain(&error).to_string())?;
    Ok(location)
}

/// Memory of processes lies in there: only root looks.
fn private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_timeout_counts() {
        assert_eq!(timeout(None), Ok(0));
        assert_eq!(timeout(Some("timeout=3&timeout=7")), Ok(7));
        let refused = timeout(Some("timeout=x")).unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), refused.text()),
            (404, "cannot parse value of timeout parameter")
        );
    }
}
