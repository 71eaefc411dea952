//! What the node should hold.

use vpc_model::Millis;

/// How much the pool keeps ready beyond what pods use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmTarget {
    /// `WARM_ENI_TARGET`: as many free addresses as so many full ENIs have. 0 = one free address at least.
    Enis(u32),
}

/// The settings and limits that decide how many ENIs and addresses the node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Target {
    /// What to keep ready.
    pub warm: WarmTarget,
    /// ENIs the instance may have: the type's limit, or `MAX_ENI` if lower. The primary one and foreign ones count.
    pub max_enis: u32,
    /// Secondary positions of one ENI (its IPv4 limit less the primary address).
    pub slots_per_eni: u32,
    /// Addresses beyond which nothing is fetched ahead of demand (pods the node may run). `None` = only the ENIs limit it.
    /// A pod that already waits is served beyond it.
    pub max_pods: Option<u32>,
    /// How long an address rests after its pod has gone (`IP_COOLDOWN_PERIOD`).
    pub cool_down: Millis,
    /// An ENI younger than this is never given back (the reference's 60 s).
    pub min_eni_age: Millis,
}

impl Target {
    /// Free addresses below which the pool is too low.
    #[must_use]
    pub fn floor(&self) -> u32 {
        match self.warm {
            // The reference grows at 0 free addresses even for a target of 0, so that the next pod does not wait.
            WarmTarget::Enis(0) => 1,
            WarmTarget::Enis(enis) => enis.saturating_mul(self.slots_per_eni),
        }
    }

    /// How many secondary addresses one request should bring.
    #[must_use]
    pub fn chunk(&self) -> u32 {
        match self.warm {
            WarmTarget::Enis(_) => self.slots_per_eni,
        }
    }
}
