//! What the node should hold.

use vpc_model::{Millis, Prefix28, Slot};

/// In what the pool grows: one secondary position of an ENI holds one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A secondary address.
    Address,
    /// A /28 prefix (`ENABLE_PREFIX_DELEGATION`).
    Prefix,
}

impl Unit {
    /// Addresses in one position.
    #[must_use]
    pub fn size(self) -> u32 {
        match self {
            Self::Address => 1,
            Self::Prefix => Prefix28::SIZE,
        }
    }

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Address => Self::Prefix,
            Self::Prefix => Self::Address,
        }
    }

    /// The unit a slot is of.
    #[must_use]
    pub fn of(slot: Slot) -> Self {
        match slot {
            Slot::Address(_) => Self::Address,
            Slot::Prefix(_) => Self::Prefix,
        }
    }
}

/// How much the pool keeps ready beyond what pods use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmTarget {
    /// `WARM_ENI_TARGET`: as many free addresses as so many full ENIs have. 0 = one free address at least.
    Enis(u32),
    /// `WARM_PREFIX_TARGET`: as many free addresses as so many prefixes have. 0 = one free address at least.
    Prefixes(u32),
    /// `WARM_IP_TARGET` and `MINIMUM_IP_TARGET`: so many free, and so many in all. At least one of them is not 0.
    Addresses {
        /// Free addresses kept ready.
        warm: u32,
        /// Addresses held in all, free or not.
        minimum: u32,
    },
}

/// The settings and limits that decide how many ENIs and addresses the node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Target {
    /// In what the pool grows.
    pub unit: Unit,
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
    /// Least time between two rounds of giving surplus addresses or prefixes back (the reference's 30 s).
    pub release_every: Millis,
}

impl Target {
    /// Addresses one full ENI carries.
    #[must_use]
    pub fn addresses_per_eni(&self) -> u32 {
        self.slots_per_eni.saturating_mul(self.unit.size())
    }

    /// Free addresses below which the pool is too low.
    #[must_use]
    pub fn floor(&self) -> u32 {
        match self.warm {
            // The reference grows at 0 free addresses even for a target of 0, so that the next pod does not wait.
            WarmTarget::Enis(0) | WarmTarget::Prefixes(0) => 1,
            WarmTarget::Enis(enis) => enis.saturating_mul(self.addresses_per_eni()),
            WarmTarget::Prefixes(prefixes) => prefixes.saturating_mul(Prefix28::SIZE),
            WarmTarget::Addresses { warm, .. } => warm,
        }
    }
}
