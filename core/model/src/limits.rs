//! How many ENIs, and how many addresses on each, an instance type may have.

use std::sync::LazyLock;

use crate::CardIndex;

/// The table as data: `core/model/data/instance-limits.tsv`.
const TABLE: &str = include_str!("../data/instance-limits.tsv");

/// The virtualisation behind an instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// AWS Nitro: delegated prefixes are available.
    Nitro,
    /// Xen: single addresses only.
    Xen,
    /// EC2 does not say (bare metal).
    Unknown,
}

/// One network card and how many ENIs it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NetworkCard {
    /// Which card.
    pub card: CardIndex,
    /// ENIs it takes, the primary one included.
    pub max_enis: u32,
}

/// The networking limits of one instance type.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InstanceLimits {
    /// Type name as EC2 spells it (`m5.large`).
    pub instance_type: String,
    /// ENIs on the default card, the primary one included.
    pub max_enis: u32,
    /// IPv4 addresses of an ENI, the primary one included; secondary slots are one less.
    pub ipv4_per_eni: u32,
    /// The card that holds the primary ENI.
    pub default_card: CardIndex,
    /// All cards.
    pub cards: Vec<NetworkCard>,
    /// The virtualisation.
    pub hypervisor: Hypervisor,
    /// Whether the instance is the bare machine.
    pub bare_metal: bool,
    /// Branch ENIs the trunk may carry; `None` = not known, `Some(0)` = the type can have no trunk.
    pub branch_enis: Option<u32>,
}

impl InstanceLimits {
    /// Secondary positions of an ENI: each holds one address or one prefix.
    #[must_use]
    pub fn slots_per_eni(&self) -> u32 {
        self.ipv4_per_eni - 1
    }

    /// Whether EC2 delegates prefixes to this type (Nitro, and bare metal built on it).
    #[must_use]
    pub fn takes_prefixes(&self) -> bool {
        self.hypervisor == Hypervisor::Nitro || self.bare_metal
    }
}

/// A table or row that breaks the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instance limits, line {line}: {what}")]
pub struct LimitsError {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

static LIMITS: LazyLock<Vec<InstanceLimits>> = LazyLock::new(|| parse(TABLE).unwrap_or_default());

/// The limits of a type; `None` for a type the table does not know (ask EC2, `DescribeInstanceTypes`).
#[must_use]
pub fn instance_limits(instance_type: &str) -> Option<&'static InstanceLimits> {
    let table = &*LIMITS;
    table.binary_search_by(|row| row.instance_type.as_str().cmp(instance_type)).ok().map(|at| &table[at])
}

/// Every type, sorted by name.
#[must_use]
pub fn all_instance_limits() -> &'static [InstanceLimits] {
    &LIMITS
}

fn parse(text: &str) -> Result<Vec<InstanceLimits>, LimitsError> {
    let mut rows: Vec<InstanceLimits> = Vec::with_capacity(1400);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).skip(1);
    for (at, line) in lines {
        let row = parse_row(line).map_err(|what| LimitsError { line: at + 1, what })?;
        if rows.last().is_some_and(|last| last.instance_type >= row.instance_type) {
            return Err(LimitsError {
                line: at + 1,
                what: format!("`{}` is not in order, or stands twice", row.instance_type),
            });
        }
        rows.push(row);
    }
    Ok(rows)
}

fn parse_row(line: &str) -> Result<InstanceLimits, String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, max_enis, ipv4, card, cards, hypervisor, metal, trunk, branch] = fields[..] else {
        return Err(format!("expected 9 fields, found {}", fields.len()));
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not a number"));
    let card_index =
        |text: &str| text.parse::<u8>().map(CardIndex).map_err(|_| format!("`{text}` is not a card index"));
    let (family, size) = name.split_once('.').ok_or_else(|| format!("`{name}` is not a type name"))?;
    if family.is_empty()
        || size.is_empty()
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    {
        return Err(format!("`{name}` is not a type name"));
    }
    let cards = cards
        .split(',')
        .map(|pair| {
            let (card, max) = pair.split_once(':').ok_or_else(|| format!("`{pair}` is not card:max"))?;
            Ok(NetworkCard { card: card_index(card)?, max_enis: number(max)? })
        })
        .collect::<Result<Vec<_>, String>>()?;
    let row = InstanceLimits {
        instance_type: name.to_owned(),
        max_enis: number(max_enis)?,
        ipv4_per_eni: number(ipv4)?,
        default_card: card_index(card)?,
        cards,
        hypervisor: match hypervisor {
            "nitro" => Hypervisor::Nitro,
            "xen" => Hypervisor::Xen,
            "unknown" => Hypervisor::Unknown,
            other => return Err(format!("`{other}` is not a hypervisor: nitro, xen or unknown")),
        },
        bare_metal: match metal {
            "yes" => true,
            "no" => false,
            other => return Err(format!("`{other}` is neither yes nor no")),
        },
        branch_enis: match (trunk, branch) {
            ("-", "-") => None,
            ("no", "0") => Some(0),
            ("yes", many) if number(many)? > 0 => Some(number(many)?),
            _ => return Err(format!("trunking `{trunk}` and branch ENIs `{branch}` disagree")),
        },
    };
    let on_default = row.cards.iter().find(|c| c.card == row.default_card).map(|c| c.max_enis);
    if on_default != Some(row.max_enis) || row.max_enis < 1 || row.ipv4_per_eni < 2 {
        return Err(format!(
            "`{name}`: max_enis {} does not agree with its cards, or a limit is too small",
            row.max_enis
        ));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_well_formed() {
        let rows = parse(TABLE).unwrap();
        assert_eq!(rows.len(), 1392);
        let count = |f: &dyn Fn(&&InstanceLimits) -> bool| rows.iter().filter(f).count();
        assert_eq!(count(&|r| r.hypervisor == Hypervisor::Nitro), 1150);
        assert_eq!(count(&|r| r.hypervisor == Hypervisor::Xen), 80);
        assert_eq!(count(&|r| r.bare_metal), 161);
        assert_eq!(count(&|r| r.branch_enis.is_none()), 228);
        assert_eq!(count(&|r| r.branch_enis == Some(0)), 104);
        assert_eq!(count(&|r| r.cards.len() > 1), 67);
        assert_eq!(rows.iter().map(|r| r.max_enis).max(), Some(24));
        assert_eq!(rows.iter().map(|r| r.ipv4_per_eni).max(), Some(64));
    }

    #[test]
    fn known_types_have_their_published_limits() {
        for (name, enis, per_eni) in [
            ("t3.small", 3, 4),
            ("m5.large", 3, 10),
            ("m5.xlarge", 4, 15),
            ("c5.4xlarge", 8, 30),
            ("p5.48xlarge", 2, 50),
        ] {
            let limits = instance_limits(name).unwrap();
            assert_eq!((limits.max_enis, limits.ipv4_per_eni), (enis, per_eni), "{name}");
        }
        assert_eq!(instance_limits("m5.larg"), None);
        assert!(!instance_limits("m4.4xlarge").unwrap().takes_prefixes());
        assert!(instance_limits("a1.metal").unwrap().takes_prefixes());
    }

    #[test]
    fn a_broken_row_is_named() {
        let bad = "# c\nheader\nm5.large\t3\t10\t0\t0:4\tnitro\tno\tyes\t9\n";
        assert_eq!(parse(bad).unwrap_err().line, 3);
    }
}
