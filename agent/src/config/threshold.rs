//! Eviction thresholds: `memory.available: 100Mi`, `nodefs.available: 10%`.

use gantry_agent_core::quantity::Quantity;

/// Signals that can have a threshold (`pkg/kubelet/eviction/api`).
const SIGNALS: [&str; 9] = [
    "memory.available",
    "allocatableMemory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

/// The amount below which there is pressure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Threshold {
    /// In the signal's unit: bytes, inodes, processes.
    Amount(i64),
    /// Of the signal's capacity, 0 to 100.
    Percent(f32),
}

impl Threshold {
    /// Read one threshold; `None` when it is switched off (0 % or 100 %).
    ///
    /// # Errors
    /// What is wrong, in words that name signal, value and what is allowed.
    pub(crate) fn parse(signal: &str, text: &str) -> Result<Option<Self>, String> {
        if !SIGNALS.contains(&signal) {
            return Err(format!("signal {signal:?} must be one of {SIGNALS:?}"));
        }
        let refuse = || {
            format!("{signal} {text:?} must be a quantity such as \"100Mi\" or a percentage from 0% to 100%")
        };
        if let Some(number) = text.strip_suffix('%') {
            let percent: f32 = number.trim().parse().map_err(|_| refuse())?;
            return match percent {
                0.0 | 100.0 => Ok(None),
                _ if percent > 0.0 && percent < 100.0 => Ok(Some(Self::Percent(percent))),
                _ => Err(refuse()),
            };
        }
        let amount = text.parse::<Quantity>().map_err(|_| refuse())?.value();
        if amount < 0 {
            Err(refuse())
        } else {
            Ok(Some(Self::Amount(amount)))
        }
    }

    /// The amount, given the capacity.
    pub(crate) fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount,
            // In single precision, as the reference: a node's allocatable does not change with its agent.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "a part of an i64 fits; 53 bits are exact enough"
            )]
            Self::Percent(percent) => (capacity as f64 * f64::from(percent / 100.0)) as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quantities_and_percentages() {
        assert_eq!(
            Threshold::parse("memory.available", "100Mi"),
            Ok(Some(Threshold::Amount(100 << 20)))
        );
        assert_eq!(
            Threshold::parse("nodefs.available", "10%"),
            Ok(Some(Threshold::Percent(10.0)))
        );
        assert_eq!(Threshold::parse("nodefs.available", "0%"), Ok(None));
        assert_eq!(Threshold::Percent(10.0).of(1000), 100);
        assert_eq!(Threshold::Percent(10.0).of(270_553_174_016), 27_055_317_804);
        for (signal, text) in [
            ("memory.free", "1Gi"),
            ("memory.available", "lots"),
            ("memory.available", "-1"),
            ("nodefs.available", "101%"),
            ("nodefs.available", "%"),
            ("nodefs.available", "NaN%"),
        ] {
            assert!(Threshold::parse(signal, text).is_err(), "{signal} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_threshold_is_an_amount_or_refused(text in "[-+0-9.eEKMGTiNaf %]{0,12}|.{0,12}", capacity in 0..i64::MAX) {
            if let Ok(Some(threshold)) = Threshold::parse("memory.available", &text) {
                proptest::prop_assert!(threshold.of(capacity) >= 0);
            }
        }
    }
}
