//! Renewal of the client certificate (`rotateCertificates`).

use std::{fs, time::Duration};

use jiff::Timestamp;
use kube::Client;
use prometheus::IntCounter;
use tracing::{info, warn};

use super::{BACKOFF_MAX, csr::Wish, obtain, store, store::Store};
use crate::{config::Config, report::Chain};

/// Failed renewals are repeated this often; there are weeks left, normally.
pub(super) const RETRY: Duration = Duration::from_secs(30);
/// Longest sleep: a clock that was set forward is noticed within this time.
const NAP: Duration = Duration::from_secs(3600);

/// The certificate expired and could not be renewed. The agent must restart, and bootstrap again.
#[derive(Debug, thiserror::Error)]
#[error("the client certificate expired at {0} and could not be renewed")]
pub(crate) struct RotationError(Timestamp);

/// Renew the certificate in `<cert-dir>/kubelet-client-current.pem` each time that 70 to 90 % of its life are over.
/// Does nothing for credentials of another origin. Cancel safe.
///
/// # Errors
/// When the certificate has expired.
pub(crate) async fn rotate(
    client: Client,
    config: &Config,
    failures: IntCounter,
) -> Result<(), RotationError> {
    let (store, wish) = (Store::client(&config.cert_dir), Wish::client(&config.node_name));
    loop {
        let Some(validity) = fs::read(store.current())
            .ok()
            .and_then(|pem| store::validity(&pem))
        else {
            // kubeadm init: kubelet.conf holds a certificate of its own until kubeadm points it at the current one.
            tokio::time::sleep(NAP).await;
            continue;
        };
        let due = deadline(validity, rand::random_range(0.7..0.9));
        info!(expires = %validity.not_after, renewal = %due, "client certificate");
        sleep_until(due).await;
        let mut pause = BACKOFF_MAX;
        while let Err(error) = obtain(&client, &store, &wish).await {
            failures.inc();
            warn!(error = %Chain(&error), expires = %validity.not_after, "cannot renew the client certificate, will retry");
            if validity.not_after <= Timestamp::now() {
                return Err(RotationError(validity.not_after));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY);
        }
        info!("client certificate renewed");
    }
}

/// When to renew; `part` of the life is over then.
pub(super) fn deadline(validity: store::Validity, part: f64) -> Timestamp {
    let life = validity.not_before.duration_until(validity.not_after);
    validity
        .not_before
        .checked_add(life.mul_f64(part))
        .unwrap_or(validity.not_after)
}

/// Sleeps by the wall clock.
pub(super) async fn sleep_until(due: Timestamp) {
    while let Ok(left) = Duration::try_from(Timestamp::now().duration_until(due)) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(NAP)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_between_seventy_and_ninety_percent() {
        let validity = store::Validity {
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::from_second(1000).unwrap(),
        };
        assert_eq!(deadline(validity, 0.7), Timestamp::from_second(700).unwrap());
        assert_eq!(deadline(validity, 0.9), Timestamp::from_second(900).unwrap());
    }

    #[tokio::test]
    async fn a_passed_deadline_does_not_wait() {
        tokio::time::timeout(Duration::from_secs(5), sleep_until(Timestamp::UNIX_EPOCH))
            .await
            .unwrap();
    }
}
