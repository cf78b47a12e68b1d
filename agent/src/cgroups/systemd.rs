//! Slices over D-Bus: the systemd driver must tell systemd of each cgroup, or systemd removes it or resets its values.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt as _;
use gantry_agent_core::resources::{CgroupValues, cpu_weight};
use thiserror::Error;
use tokio::sync::Mutex;
use zbus::message::Type;

use zbus::{Connection, MatchRule, MessageStream, ObjectPath, OwnedObjectPath, Variant};

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The reference's patience with a unit that starts or stops.
const JOB_LIMIT: Duration = Duration::from_secs(30);
/// Signals of other jobs may come in between.
const SIGNALS: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not zero");

/// Why systemd did not do it. Retry.
#[derive(Debug, Error)]
pub(crate) enum SystemdError {
    /// No bus, or systemd refused.
    #[error("D-Bus call {call} failed")]
    Call {
        /// The method.
        call: &'static str,
        /// Why.
        #[source]
        source: Box<zbus::Error>,
    },
    /// The unit's job ended badly.
    #[error("the job ended with {result:?}")]
    Job {
        /// systemd's word: `failed`, `timeout`, ...
        result: String,
    },
    /// The unit's job did not end.
    #[error("no result within {JOB_LIMIT:?}")]
    Timeout,
}

type Property = (&'static str, Variant<'static>);

/// The connection to systemd, made when first needed and again after it broke.
#[derive(Default)]
pub(super) struct Systemd {
    connection: Mutex<Option<Connection>>,
}

impl Systemd {
    /// Makes a slice below its parent. One that is there already is fine.
    pub(super) async fn start_slice(
        &self,
        unit: &str,
        parent: &str,
        v2: bool,
        values: &CgroupValues,
    ) -> Result<(), SystemdError> {
        let mut properties: Vec<Property> = vec![
            ("Description", Variant::from(format!("pods of the node: {unit}"))),
            ("Wants", Variant::from(vec![parent.to_owned()])),
            ("MemoryAccounting", Variant::from(true)),
            ("CPUAccounting", Variant::from(true)),
            (
                if v2 { "IOAccounting" } else { "BlockIOAccounting" },
                Variant::from(true),
            ),
            ("TasksAccounting", Variant::from(true)),
            ("DefaultDependencies", Variant::from(false)),
        ];
        properties.extend(resource_properties(v2, values));
        let auxiliary: Vec<(&str, Vec<Property>)> = Vec::new();
        let body = (unit, "replace", properties, auxiliary);
        match self.job("StartTransientUnit", &body).await {
            Err(SystemdError::Call { source, .. }) if is_named(&source, "UnitExists") => Ok(()),
            other => other,
        }
    }

    /// Changes the values that systemd keeps for the slice.
    pub(super) async fn set_properties(
        &self,
        unit: &str,
        v2: bool,
        values: &CgroupValues,
    ) -> Result<(), SystemdError> {
        let properties = resource_properties(v2, values);
        if properties.is_empty() {
            return Ok(());
        }
        self.call("SetUnitProperties", &(unit, true, properties))
            .await
            .map(|_| ())
    }

    /// Stops the slice. One that is not there is fine.
    pub(super) async fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        match self.job("StopUnit", &(unit, "replace")).await {
            Err(SystemdError::Call { source, .. }) if is_named(&source, "NoSuchUnit") => Ok(()),
            other => other,
        }
    }

    /// A call that starts a job, and the job's end.
    async fn job<B>(&self, call: &'static str, body: &B) -> Result<(), SystemdError>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        let failed = |source| SystemdError::Call {
            call,
            source: Box::new(source),
        };
        let connection = self.connection().await?;
        // Before the call, so that the job's end cannot be missed.
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(failed)?;
        let mut signals = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS))
            .await
            .map_err(failed)?;
        let reply = self.call(call, body).await?;
        let job: OwnedObjectPath = reply.body().deserialize().map_err(failed)?;
        let end = async {
            while let Some(Ok(signal)) = signals.next().await {
                let body = signal.body();
                let parsed: Result<(u32, ObjectPath<'_>, String, String), _> = body.deserialize();
                if let Ok((_, path, _, result)) = parsed
                    && path.as_str() == job.as_str()
                {
                    return Some(result);
                }
            }
            None
        };
        match tokio::time::timeout(JOB_LIMIT, end).await {
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(Some(result)) => Err(SystemdError::Job { result }),
            Ok(None) | Err(_) => Err(SystemdError::Timeout),
        }
    }

    async fn call<B>(&self, call: &'static str, body: &B) -> Result<zbus::Message, SystemdError>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        let connection = self.connection().await?;
        let answer = connection
            .call_method(Some(DESTINATION), PATH, Some(MANAGER), call, body)
            .await;
        if let Err(zbus::Error::InputOutput(_)) = &answer {
            // The bus has gone; the next call connects anew.
            *self.connection.lock().await = None;
        }
        answer.map_err(|source| SystemdError::Call {
            call,
            source: Box::new(source),
        })
    }

    async fn connection(&self) -> Result<Connection, SystemdError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let failed = |call| {
            move |source| SystemdError::Call {
                call,
                source: Box::new(source),
            }
        };
        let connection = Connection::system().await.map_err(failed("connect"))?;
        // Without it systemd sends us no signals.
        let subscribed = connection
            .call_method(Some(DESTINATION), PATH, Some(MANAGER), "Subscribe", &())
            .await;
        subscribed.map_err(failed("Subscribe"))?;
        *slot = Some(connection.clone());
        Ok(connection)
    }
}

fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, _, _) if full.as_str().ends_with(name))
}

/// The values that systemd has properties for; the others are only in the cgroup's files.
fn resource_properties(v2: bool, values: &CgroupValues) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    let mut add = |name, value: u64| properties.push((name, Variant::from(value)));
    if let Some(shares) = values.cpu_shares {
        if v2 {
            add("CPUWeight", cpu_weight(shares))
        } else {
            add("CPUShares", shares)
        }
    }
    if let (Some(quota), Some(period)) = (
        values.cpu_quota_us,
        values.cpu_period_us.filter(|period| *period > 0),
    ) {
        add("CPUQuotaPeriodUSec", period);
        add("CPUQuotaPerSecUSec", quota_per_second(quota, period));
    }
    let positive = |limit: Option<i64>| {
        limit
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0)
    };
    if let Some(bytes) = positive(values.memory_limit) {
        add(if v2 { "MemoryMax" } else { "MemoryLimit" }, bytes);
    }
    if let Some(limit) = positive(values.pids_limit) {
        add("TasksMax", limit);
    }
    properties
}

/// systemd keeps whole percents of a CPU, so the quota is rounded up to 10 ms a second. All ones means no limit.
fn quota_per_second(quota_us: i64, period_us: u64) -> u64 {
    match u64::try_from(quota_us) {
        Ok(quota) if quota > 0 => (quota.saturating_mul(1_000_000) / period_us).div_ceil(10_000) * 10_000,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_both_versions() {
        let values = CgroupValues {
            cpu_shares: Some(512),
            cpu_quota_us: Some(12_345),
            cpu_period_us: Some(100_000),
            memory_limit: Some(1024),
            pids_limit: Some(10),
            ..CgroupValues::default()
        };
        let names = |v2| {
            let text = |(name, value): Property| format!("{name}={}", u64::try_from(&value).unwrap());
            resource_properties(v2, &values)
                .into_iter()
                .map(text)
                .collect::<Vec<_>>()
        };
        let quota = ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=130000"];
        assert_eq!(
            names(true),
            [
                "CPUWeight=20",
                quota[0],
                quota[1],
                "MemoryMax=1024",
                "TasksMax=10"
            ]
        );
        assert_eq!(
            names(false),
            [
                "CPUShares=512",
                quota[0],
                quota[1],
                "MemoryLimit=1024",
                "TasksMax=10"
            ]
        );
        assert_eq!(quota_per_second(-1, 100_000), u64::MAX);
        assert!(resource_properties(true, &CgroupValues::default()).is_empty());
    }
}
