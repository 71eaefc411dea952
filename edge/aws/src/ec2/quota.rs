//! How often a client may try again, all its calls together.

use std::sync::Mutex;

use super::error::ErrorClass;

/// The budget for attempts beyond the first, shared by all calls of a client: while EC2 is down, it keeps every call from
/// being made three times. Sizes are those of AWS's SDKs.
#[derive(Debug)]
pub(crate) struct Quota(Mutex<u32>);

impl Quota {
    const FULL: u32 = 500;
    const COST: u32 = 5;
    const TIMEOUT_COST: u32 = 10;

    pub(crate) fn new() -> Self {
        Self(Mutex::new(Self::FULL))
    }

    fn change(&self, change: impl FnOnce(u32) -> Option<u32>) -> bool {
        let mut left = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = change(*left);
        *left = next.unwrap_or(*left);
        next.is_some()
    }

    /// Takes what another attempt after such a failure costs; false if there is not enough.
    pub(crate) fn take(&self, class: &ErrorClass) -> bool {
        self.change(|left| left.checked_sub(Self::cost(class)))
    }

    /// A call has succeeded, the last retry having followed a failure of `class` (`None`: at the first attempt).
    pub(crate) fn refund(&self, class: Option<&ErrorClass>) {
        let back = class.map_or(1, Self::cost);
        self.change(|left| Some((left + back).min(Self::FULL)));
    }

    fn cost(class: &ErrorClass) -> u32 {
        if *class == ErrorClass::Timeout { Self::TIMEOUT_COST } else { Self::COST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_runs_out_and_comes_back_with_success() {
        let quota = Quota::new();
        let taken = std::iter::repeat_with(|| quota.take(&ErrorClass::Throttled)).take_while(|ok| *ok).count();
        assert_eq!(taken, 100);
        assert!(!quota.take(&ErrorClass::Timeout));
        quota.refund(Some(&ErrorClass::Timeout));
        assert!(quota.take(&ErrorClass::Timeout));
        quota.refund(None);
        assert!(!quota.take(&ErrorClass::Throttled));
    }
}
