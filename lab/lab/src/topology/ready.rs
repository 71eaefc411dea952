//! Topologies that come with the program, by name.

/// A topology that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it is for, on one line.
    pub about: &'static str,
    /// The file.
    pub text: &'static str,
}

/// All of them; the first is the one that is taken when none is asked for.
pub const READY: [Ready; 5] = [
    Ready {
        name: "three-zones",
        about: "three nodes in private subnets of three zones, behind a NAT gateway",
        text: include_str!("../../topologies/three-zones.toml"),
    },
    Ready {
        name: "public-subnets",
        about: "two nodes with public addresses of their own, no NAT gateway",
        text: include_str!("../../topologies/public-subnets.toml"),
    },
    Ready {
        name: "custom-networking",
        about: "nodes in small subnets, and large ones for pods in a second CIDR",
        text: include_str!("../../topologies/custom-networking.toml"),
    },
    Ready {
        name: "small-subnet",
        about: "two nodes that share a subnet of eleven addresses",
        text: include_str!("../../topologies/small-subnet.toml"),
    },
    Ready {
        name: "ten-nodes",
        about: "ten nodes in three zones",
        text: include_str!("../../topologies/ten-nodes.toml"),
    },
];

impl Ready {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        READY.iter().find(|ready| ready.name == name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::topology::TopologyFile;

    #[test]
    fn every_file_in_the_folder_is_offered_and_keeps_its_own_rules() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<_> = files.collect();
        let offered: BTreeSet<_> = READY.iter().map(|ready| format!("{}.toml", ready.name)).collect();
        assert_eq!(files, offered);
        for ready in READY {
            let topology = TopologyFile::parse(ready.text).unwrap().resolve();
            assert!(topology.is_ok_and(|topology| topology.nodes.len() >= 2), "{}", ready.name);
        }
    }
}
