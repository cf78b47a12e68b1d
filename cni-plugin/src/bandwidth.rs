//! How fast a pod may receive and send: token buckets as the stock `bandwidth` plugin sets them up, as pure values.
//!
//! ```text
//! to the pod     bridge ─> [tbf] host's end ─> pod
//! from the pod   pod ─> host's end ─(ingress: redirect)─> [tbf] ifb of this pod ─> bridge
//! ```
//!
//! Both queues are on the host, where a pod cannot lift them, whatever its rights in its own namespace. Linux queues what
//! leaves a device only, so what a pod sends takes the way through a device of its own (`ifb`): shaped like the other
//! direction, packets wait and are not dropped. A policer or an nftables limit needs no device but drops, which costs TCP
//! far more than the limit. Pods without a limit have neither.

/// The limits of one pod; `None`: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bandwidth {
    /// Of what the pod receives.
    pub(crate) ingress: Option<Bucket>,
    /// Of what the pod sends.
    pub(crate) egress: Option<Bucket>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Bytes in a second, at least one.
    rate_bytes: u64,
    /// Bytes that may go at once.
    burst_bytes: u32,
}

/// Why figures make no bucket. The texts begin as those of the stock plugin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BucketError {
    /// A rate alone.
    #[error("if rate is set, burst must also be set")]
    NoBurst,
    /// A burst alone.
    #[error("if burst is set, rate must also be set")]
    NoRate,
    /// More than the kernel can count.
    #[error("burst cannot be more than 4GB, which are 34359738352 bits")]
    BurstTooLarge,
    /// Nothing would ever pass.
    #[error("rate cannot be less than 8 bits in a second")]
    RateTooSmall,
}

/// The queue's latency in milliseconds when it is full, as in the stock plugin.
const LATENCY_MILLIS: u64 = 25;
/// What may wait at any rate where the burst does not count: a packet of 64 KiB with the headers of all its segments, which
/// would be dropped where it does not fit.
const LONGEST_PACKET: u32 = 128 << 10;
/// The unit in which the kernel tells of time in queues, in nanoseconds (`PSCHED_SHIFT`).
const TICK_NANOS: u128 = 64;
/// `struct tc_tbf_qopt`: two `struct tc_ratespec`, then limit, buffer and MTU.
const PARMS_BYTES: usize = 36;
const RATESPEC_BYTES: usize = 12;
/// Where `rate` is in `struct tc_ratespec`.
const RATE_AT: usize = 8;

impl Bucket {
    /// From bits in a second and bits; `None` when both are zero, which is no limit.
    pub(crate) fn new(rate_bits: u64, burst_bits: u64) -> Result<Option<Self>, BucketError> {
        match (rate_bits, burst_bits) {
            (0, 0) => Ok(None),
            (_, 0) => Err(BucketError::NoBurst),
            (0, _) => Err(BucketError::NoRate),
            (1..8, _) => Err(BucketError::RateTooSmall),
            (rate_bits, burst_bits) => {
                let burst_bytes = u32::try_from(burst_bits / 8)
                    .ok()
                    .filter(|bytes| *bytes < u32::MAX);
                Ok(Some(Self {
                    rate_bytes: rate_bits / 8,
                    burst_bytes: burst_bytes.ok_or(BucketError::BurstTooLarge)?,
                }))
            }
        }
    }

    /// Bytes in a second.
    pub(crate) fn rate_bytes(self) -> u64 {
        self.rate_bytes
    }

    /// Bytes at once. The kernel is given these besides the time below, which overflows for large bursts at low rates.
    pub(crate) fn burst_bytes(self) -> u32 {
        self.burst_bytes
    }

    /// `struct tc_tbf_qopt`.
    pub(crate) fn parms(self) -> Vec<u8> {
        let rate = u32::try_from(self.rate_bytes).unwrap_or(u32::MAX);
        let mut bytes = vec![0; RATE_AT];
        bytes.extend(rate.to_ne_bytes());
        // No peak rate.
        bytes.extend([0; RATESPEC_BYTES]);
        bytes.extend(self.limit().to_ne_bytes());
        bytes.extend(u32::try_from(self.ticks()).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    /// Whether the kernel's queue is this one: `parms` as it lists them, and the rate where 32 bits are not enough.
    pub(crate) fn is(self, parms: &[u8], rate64: Option<u64>) -> bool {
        let number = |at: usize| {
            let bytes = parms.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_ne_bytes)
        };
        let limit_at = 2 * RATESPEC_BYTES;
        let (Some(rate), Some(limit), Some(ticks)) =
            (number(RATE_AT), number(limit_at), number(limit_at + 4))
        else {
            return false;
        };
        // The kernel converts bytes to time and keeps 32 bits of it; the conversion rounds by less than a millionth.
        let expected = self.ticks();
        let mask = u128::from(u32::MAX);
        let distance = (u128::from(ticks) + mask + 1 - (expected & mask)) & mask;
        let slack = 16 + (expected >> 20);
        parms.len() >= PARMS_BYTES
            && rate64.unwrap_or(u64::from(rate)) == self.rate_bytes
            && limit == self.limit()
            && (distance <= slack || mask - distance <= slack)
    }

    /// Bytes that may wait: the burst besides, as in the stock plugin. Its sum overflows for the burst of 4 GB that CRI-O asks for, so
    /// that the burst does not count; nobody's kernel is to hold 4 GB for a pod, so neither does it here.
    fn limit(self) -> u32 {
        let waiting = self.rate_bytes.saturating_mul(LATENCY_MILLIS) / 1000;
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        waiting
            .checked_add(self.burst_bytes)
            .unwrap_or(waiting.max(LONGEST_PACKET))
    }

    /// How long the burst takes at the rate.
    fn ticks(self) -> u128 {
        u128::from(self.burst_bytes) * 1_000_000_000 / u128::from(self.rate_bytes) / TICK_NANOS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_is_no_limit_and_halves_are_refused() {
        assert_eq!(Bucket::new(0, 0), Ok(None));
        assert_eq!(Bucket::new(8, 0), Err(BucketError::NoBurst));
        assert_eq!(Bucket::new(0, 8), Err(BucketError::NoRate));
        assert_eq!(Bucket::new(7, 8), Err(BucketError::RateTooSmall));
        assert_eq!(
            Bucket::new(8, u64::from(u32::MAX) * 8),
            Err(BucketError::BurstTooLarge)
        );
        assert!(Bucket::new(8, u64::from(u32::MAX) * 8 - 1).unwrap().is_some());
    }

    #[test]
    fn the_queue_holds_the_burst_and_25_ms() {
        let bucket = Bucket::new(8_000_000, 800_000).unwrap().unwrap();
        assert_eq!((bucket.rate_bytes(), bucket.burst_bytes()), (1_000_000, 100_000));
        assert_eq!(bucket.limit(), 125_000);
        assert_eq!(bucket.ticks(), 1_562_500, "100 ms");
    }

    #[test]
    fn a_burst_of_4_gb_is_no_queue_of_4_gb() {
        let limit = |rate| Bucket::new(rate, (1 << 35) - 9).unwrap().unwrap().limit();
        assert_eq!(limit(1_000_000_000), 3_125_000, "25 ms");
        assert_eq!(limit(100_000), LONGEST_PACKET);
    }

    proptest! {
        #[test]
        fn a_bucket_is_itself_and_no_other(rate in 8u64..1 << 50, burst in 8u64..1 << 34, bytes in any::<Vec<u8>>()) {
            let bucket = Bucket::new(rate, burst).unwrap().unwrap();
            let mut parms = bucket.parms();
            prop_assert_eq!(parms.len(), PARMS_BYTES);
            let wrapped = u32::try_from(bucket.ticks() & u128::from(u32::MAX)).unwrap();
            parms[28..32].copy_from_slice(&wrapped.to_ne_bytes());
            let rate64 = Some(bucket.rate_bytes());
            prop_assert!(bucket.is(&parms, rate64));
            prop_assert!(!bucket.is(&parms, Some(bucket.rate_bytes() + 1)));
            prop_assert!(!bucket.is(&parms[..PARMS_BYTES - 1], rate64));
            let _ = bucket.is(&bytes, None);
        }
    }
}
