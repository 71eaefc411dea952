//! The checkpoint between the agent's words and the file's, and what to do when the file is of no use.
//!
//! ```text
//!   agent::Checkpoint --to_file--> wire::Checkpoint --store--> ipam.json
//!   ipam.json --load--> wire::Checkpoint --from_file--> agent::Checkpoint
//!            \--damaged--> kept aside; the kernel's links say who has which address --from_host--> agent::Checkpoint
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use vpc_agent::{Checkpoint, CheckpointEni, Lease, Rest, Update};
use vpc_hostnet::{HostState, LinkAlias, LinkKind};
use vpc_ipam::{Allocation, EniFacts};
use vpc_model::{LinkName, PodRef, RouteTable, SandboxKey, Slot, Subnet, VethPrefix, WallTime};
use vpc_wire::checkpoint as file;

/// The interface every runtime gives a pod first. Links do not say which one they are; kubelet's pods have no other.
const POD_INTERFACE: &str = "eth0";

/// How the container of a lease begins that is known by its host link alone; the link's name follows. (A container's id never has
/// a colon.)
const NAMELESS: &str = "link:";

/// The checkpoint as the file holds it.
#[must_use]
pub fn to_file(books: &Checkpoint, generation: u64) -> file::Checkpoint {
    file::Checkpoint {
        allocations: books.leases.iter().map(|lease| allocation(lease, &books.enis)).collect(),
        pool: Some(books.enis.iter().map(pool_eni).collect()),
        cooling: books
            .rests
            .iter()
            .map(|rest| file::Cooling { address: rest.address, released: rest.released })
            .collect(),
        generation,
    }
}

/// The file's text, kept up to date with what each write changes.
#[derive(Debug, Default)]
pub struct Pages {
    text: file::Text,
    enis: Vec<CheckpointEni>,
}

impl Pages {
    /// Writes an update down.
    ///
    /// # Errors
    /// A value that JSON can not hold; none of the types used has one.
    pub fn update(&mut self, update: Update) -> Result<(), serde_json::Error> {
        match update {
            Update::Whole(books) => {
                self.text = file::Text::of(&to_file(&books, 0))?;
                self.enis = books.enis;
            }
            Update::Changed { leases, rests, free } => {
                for lease in leases {
                    self.text.hold(&allocation(&lease, &self.enis))?;
                }
                for Rest { address, released } in rests {
                    self.text.rest(&file::Cooling { address, released })?;
                }
                for address in free {
                    self.text.free(address.into());
                }
            }
        }
        Ok(())
    }

    /// The file's bytes, into `out`.
    pub fn render(&self, generation: u64, out: &mut Vec<u8>) {
        self.text.render(generation, out);
    }
}

fn allocation(lease: &Lease, enis: &[CheckpointEni]) -> file::Allocation {
    let eni = enis.iter().find(|eni| eni.slots.iter().any(|slot| slot.contains(lease.address)));
    file::Allocation {
        key: lease.key.clone(),
        address: lease.address.into(),
        since: lease.since,
        pod: lease.pod.clone(),
        interfaces: 1,
        extra: file::AllocationExtra {
            eni: eni.map(|eni| eni.facts.id.clone()),
            device: lease.allocation.map(|place| place.device),
            table: lease.allocation.map(|place| place.table),
            ..file::AllocationExtra::default()
        },
    }
}

fn pool_eni(eni: &CheckpointEni) -> file::PoolEni {
    let address = |slot: &Slot| if let Slot::Address(address) = slot { Some(*address) } else { None };
    let prefix = |slot: &Slot| if let Slot::Prefix(prefix) = slot { Some(*prefix) } else { None };
    file::PoolEni {
        id: eni.facts.id.clone(),
        mac: eni.facts.mac,
        device: eni.facts.device,
        card: eni.facts.card,
        subnet: eni.facts.subnet.net(),
        subnet_id: eni.facts.subnet_id.clone(),
        primary: eni.facts.primary,
        addresses: eni.slots.iter().filter_map(address).collect(),
        prefixes: eni.slots.iter().filter_map(prefix).collect(),
        leaving: eni.leaving.clone(),
        gone: eni.gone.clone(),
        going: eni.going,
    }
}

/// What a file says, and what of it can not be used, in words.
#[must_use]
pub fn from_file(read: file::Checkpoint) -> (Checkpoint, Vec<String>) {
    let mut unusable = Vec::new();
    let mut books = Checkpoint::default();
    for allocation in read.allocations {
        match allocation.address {
            IpAddr::V4(address) => books.leases.push(lease(allocation, address)),
            IpAddr::V6(address) => {
                unusable.push(format!("{address} of {}: IPv6 is not in this release", allocation.key))
            }
        }
    }
    for eni in read.pool.unwrap_or_default() {
        match Subnet::try_from(eni.subnet) {
            Ok(subnet) => books.enis.push(checkpoint_eni(eni, subnet)),
            Err(error) => unusable.push(format!("{}: {error}", eni.id)),
        }
    }
    books.rests =
        read.cooling.iter().map(|cooling| Rest { address: cooling.address, released: cooling.released }).collect();
    (books, unusable)
}

fn lease(allocation: file::Allocation, address: Ipv4Addr) -> Lease {
    let place = allocation.extra.device.zip(allocation.extra.table);
    let nameless = allocation.pod == PodRef::default();
    let link = allocation.key.container.strip_prefix(NAMELESS).filter(|_| nameless).and_then(|link| link.parse().ok());
    Lease {
        link,
        key: allocation.key,
        pod: allocation.pod,
        address,
        allocation: place.map(|(device, table)| Allocation { address, device, table }),
        since: allocation.since,
    }
}

fn checkpoint_eni(eni: file::PoolEni, subnet: Subnet) -> CheckpointEni {
    let addresses = eni.addresses.into_iter().map(Slot::Address);
    CheckpointEni {
        slots: addresses.chain(eni.prefixes.into_iter().map(Slot::Prefix)).collect(),
        leaving: eni.leaving,
        gone: eni.gone,
        going: eni.going,
        facts: EniFacts {
            id: eni.id,
            mac: eni.mac,
            card: eni.card,
            device: eni.device,
            subnet,
            subnet_id: eni.subnet_id,
            primary: eni.primary,
        },
        // The file does not hold it; EC2 is asked when it is needed.
        attachment: None,
    }
}

/// What the host's links and routes say about who has which address. The alias of a pod's link names its sandbox. A link
/// without one (the reference writes none), or with a shortened one, keeps its address under a name of its own: it is not given to
/// another pod as long as the link is there.
#[must_use]
pub fn from_host(host: &HostState, prefix: &VethPrefix, now: WallTime) -> (Checkpoint, Vec<String>) {
    let mut books = Checkpoint::default();
    let mut unnamed = Vec::new();
    let mut seen = BTreeSet::new();
    let pods =
        host.links.iter().filter(|link| link.kind == LinkKind::Veth && link.name.as_str().starts_with(prefix.as_str()));
    for link in pods {
        let Some(address) = routed_to(host, &link.name) else { continue };
        if !seen.insert(address) {
            continue;
        }
        let alias =
            link.alias.as_deref().and_then(|text| text.parse::<LinkAlias>().ok()).filter(|alias| !alias.is_shortened());
        let (key, pod, by_link) = match alias {
            Some(alias) => (alias.sandbox().clone(), alias.pod().clone(), None),
            None => {
                unnamed.push(format!("{address} behind {}", link.name));
                let container = format!("{NAMELESS}{}", link.name);
                let key = SandboxKey { network: "aws-cni".to_owned(), container, interface: POD_INTERFACE.to_owned() };
                (key, PodRef::default(), Some(link.name.clone()))
            }
        };
        books.leases.push(Lease { key, pod, address, allocation: None, since: now, link: by_link });
    }
    (books, unnamed)
}

/// Adds what the kernel shows and a checkpoint does not know: one witness is not enough. A file may be old (restored, or written by
/// two daemons); a pod behind a link is there. Where both know an address and the link names its sandbox, the link is right. Says
/// what was added or changed.
pub fn heed_the_kernel(books: &mut Checkpoint, seen: Checkpoint) -> Vec<String> {
    let mut said = Vec::new();
    for lease in seen.leases {
        let known = books.leases.iter().position(|other| other.address == lease.address);
        match known {
            Some(at) if lease.link.is_some() || books.leases[at].key == lease.key => {}
            Some(at) => {
                said.push(format!("{} belongs to {}, not to {}", lease.address, lease.key, books.leases[at].key));
                books.leases.remove(at);
                books.leases.retain(|other| other.key != lease.key);
                books.leases.push(lease);
            }
            None => {
                said.push(format!("{} belongs to {}, of which the checkpoint knows nothing", lease.address, lease.key));
                books.leases.retain(|other| other.key != lease.key);
                books.leases.push(lease);
            }
        }
    }
    books.rests.retain(|rest| !books.leases.iter().any(|lease| lease.address == rest.address));
    said
}

/// The pod behind a link: the one address of main's host route to it.
fn routed_to(host: &HostState, link: &LinkName) -> Option<Ipv4Addr> {
    let mut routes = host
        .routes
        .iter()
        .filter(|route| route.link == *link && route.table == RouteTable::MAIN && route.to.prefix_len() == 32);
    routes.next().map(|route| route.to.addr())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use vpc_hostnet::{Link, Route};
    use vpc_model::{CardIndex, DeviceIndex, Mac};

    use super::*;

    fn key(container: &str) -> SandboxKey {
        SandboxKey { network: "aws-cni".into(), container: container.into(), interface: "eth0".into() }
    }

    fn pod(name: &str) -> PodRef {
        PodRef { namespace: "default".into(), name: name.into() }
    }

    fn books() -> Checkpoint {
        let facts = EniFacts {
            id: "eni-0a1".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            card: CardIndex(0),
            device: DeviceIndex(1),
            subnet: Subnet::try_from("10.20.0.0/24".parse::<vpc_model::Ipv4Net>().unwrap()).unwrap(),
            subnet_id: Some("subnet-0a".parse().unwrap()),
            primary: "10.20.0.10".parse().unwrap(),
        };
        let address = "10.20.0.11".parse().unwrap();
        let place = Allocation { address, device: DeviceIndex(1), table: RouteTable(2) };
        Checkpoint {
            leases: vec![Lease {
                key: key("c1"),
                pod: pod("web-0"),
                address,
                allocation: Some(place),
                since: WallTime(7),
                link: None,
            }],
            rests: vec![Rest { address: "10.20.0.12".parse().unwrap(), released: WallTime(9) }],
            enis: vec![CheckpointEni {
                facts,
                attachment: None,
                slots: vec![Slot::Address(address), Slot::Address("10.20.0.12".parse().unwrap())],
                leaving: vec![Slot::Address("10.20.0.13".parse().unwrap())],
                gone: vec![Slot::Address("10.20.0.14".parse().unwrap())],
                going: true,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = to_file(&books(), 3);
        assert_eq!(file.check(), Ok(()));
        assert_eq!(file.allocations[0].extra.eni, Some("eni-0a1".parse().unwrap()));
        assert_eq!(from_file(file), (books(), vec![]));
    }

    #[test]
    fn pages_changed_address_by_address_are_the_whole() {
        let mut whole = books();
        let mut pages = Pages::default();
        pages.update(Update::Whole(whole.clone())).unwrap();
        let (pod_11, rest_12) = (whole.leases[0].clone(), whole.rests[0]);
        let lease_12 = Lease { key: key("c2"), address: rest_12.address, ..pod_11.clone() };
        let rest_11 = Rest { address: pod_11.address, released: WallTime(20) };
        for update in [
            Update::Changed { leases: vec![lease_12], rests: vec![rest_11], free: vec![] },
            Update::Changed { leases: vec![], rests: vec![], free: vec![pod_11.address] },
            Update::Changed { leases: vec![pod_11], rests: vec![], free: vec![rest_12.address] },
        ] {
            whole.update(update.clone());
            pages.update(update).unwrap();
            let mut bytes = Vec::new();
            pages.render(4, &mut bytes);
            assert_eq!(String::from_utf8(bytes), String::from_utf8(to_file(&whole, 4).to_bytes().unwrap()));
        }
        assert_eq!(whole.leases.len(), 1, "{whole:?}");
    }

    #[test]
    fn a_file_of_the_reference_says_less_and_is_enough() {
        let mut file = to_file(&books(), 0);
        file.pool = None;
        file.cooling.clear();
        file.allocations[0].extra = file::AllocationExtra::default();
        let (read, unusable) = from_file(file);
        assert_eq!((read.leases[0].allocation, read.enis.len(), unusable.len()), (None, 0, 0));
        assert_eq!(read.leases[0].key, key("c1"));
    }

    #[test]
    fn an_ipv6_allocation_is_named_and_left() {
        let mut file = to_file(&books(), 0);
        file.allocations[0].address = "2001:db8::1".parse().unwrap();
        let (read, unusable) = from_file(file);
        assert!(read.leases.is_empty());
        assert!(unusable[0].contains("2001:db8::1"), "{unusable:?}");
    }

    fn link(index: u32, name: &str, alias: Option<String>) -> Link {
        Link {
            index,
            name: name.parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 1, 1]),
            mtu: 9001,
            up: true,
            kind: LinkKind::Veth,
            alias,
            addresses: BTreeSet::new(),
            rp_filter: None,
        }
    }

    #[test]
    fn the_kernel_s_links_say_who_has_which_address() {
        let ours = LinkAlias::of(&key("c1"), &pod("web-0")).to_string();
        let routes = [
            ("10.20.0.11/32", "eni111"),
            ("10.20.0.12/32", "eni222"),
            ("10.20.0.13/32", "other"),
            ("10.20.0.0/24", "eni333"),
        ];
        let host = HostState {
            links: vec![
                link(5, "eni111", Some(ours)),
                link(6, "eni222", None),
                link(7, "other", None),
                link(8, "eni333", None),
            ],
            routes: routes
                .iter()
                .map(|(to, dev)| Route::on_link(RouteTable::MAIN, to.parse().unwrap(), dev.parse().unwrap()))
                .collect(),
            ..HostState::default()
        };
        let (read, unnamed) = from_host(&host, &VethPrefix::default(), WallTime(5));
        assert_eq!(read.leases.len(), 2);
        assert_eq!((&read.leases[0].key, &read.leases[0].pod), (&key("c1"), &pod("web-0")));
        assert_eq!(read.leases[1].key, key("link:eni222"));
        assert_eq!(read.leases[1].address, "10.20.0.12".parse::<Ipv4Addr>().unwrap());
        assert_eq!(unnamed, ["10.20.0.12 behind eni222"]);
    }
}
