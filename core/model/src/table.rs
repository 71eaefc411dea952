//! Route table numbers.

use std::fmt;

use crate::{CardIndex, DeviceIndex};

/// A kernel route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RouteTable(pub u32);

impl RouteTable {
    /// The kernel's main table.
    pub const MAIN: Self = Self(254);

    /// The table of an ENI, numbered as amazon-vpc-cni-k8s does so that a node can change hands without a pod noticing:
    /// the primary ENI uses main; on card 0 device *d* uses *d* + 1; on card *c* > 0 it is 10000 + 100·*c* + *d*.
    #[must_use]
    pub fn of_eni(card: CardIndex, device: DeviceIndex) -> Self {
        match (card.0, device.0) {
            (0, 0) => Self::MAIN,
            (0, d) => Self(u32::from(d) + 1),
            (c, d) => Self(10_000 + 100 * u32::from(c) + u32::from(d)),
        }
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAIN { f.write_str("main") } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_numbered_as_the_reference_numbers_them() {
        for (card, device, table) in
            [(0, 0, 254), (0, 1, 2), (0, 2, 3), (0, 4, 5), (1, 1, 10101), (1, 0, 10100), (2, 3, 10203)]
        {
            assert_eq!(
                RouteTable::of_eni(CardIndex(card), DeviceIndex(device)).0,
                table,
                "card {card} device {device}"
            );
        }
    }
}
