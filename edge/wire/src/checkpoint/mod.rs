//! What must outlive the daemon: who holds which address, what the pool holds, which addresses rest.
//!
//! ```text
//!   ipam.json --load--> Checkpoint --(agent changes it)--> store --> temporary file, fsync, rename, fsync of the folder
//!                 \--LoadError--> keep_aside: ipam.json.bad-1
//! ```
//!
//! The file is the reference's (`vpc-cni-ipam/1`), written byte for byte as its encoder would, followed in each object by fields
//! of ours that an older reader ignores. A file the reference wrote is read as a checkpoint without pool and cool-downs.

mod document;
mod file;
mod go_json;
mod text;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use vpc_model::{
    CardIndex, DeviceIndex, EniId, Mac, PodRef, Prefix28, RouteTable, SandboxKey, Slot, SubnetId, WallTime,
};

pub use document::ParseError;
pub use file::{
    KeepAsideError, LoadError, StoreError, StoreStep, clean_leftovers, keep_aside, load, store, store_text,
    store_text_in_steps,
};
pub use text::Text;

/// The only version there is, of the reference and of us.
pub const VERSION: &str = "vpc-cni-ipam/1";

/// Where the reference keeps it: on a tmpfs, so that a reboot, which takes all pods, takes the promises too.
pub const PATH: &str = "/var/run/aws-node/ipam.json";

/// Everything that must outlive the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Who holds which address.
    pub allocations: Vec<Allocation>,
    /// What the pool holds. `None` in a file that the reference wrote.
    pub pool: Option<Vec<PoolEni>>,
    /// Which free addresses rest, and since when.
    pub cooling: Vec<Cooling>,
    /// Counts writes over the life of the file; 0 in a file that the reference wrote.
    pub generation: u64,
}

/// One promise: this address belongs to this sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Whose it is.
    pub key: SandboxKey,
    /// The address.
    pub address: IpAddr,
    /// When it was given.
    pub since: WallTime,
    /// The pod behind the sandbox; both parts empty if the runtime named none.
    pub pod: PodRef,
    /// How many interfaces the pod has; 0 in old files, which means 1.
    pub interfaces: u32,
    /// What only we write.
    pub extra: AllocationExtra,
}

/// What we know of an allocation beyond the reference's fields. All of it absent in a file the reference wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocationExtra {
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// Path of the pod's network namespace.
    pub netns: Option<String>,
    /// The ENI the address belongs to.
    pub eni: Option<EniId>,
    /// That ENI's device index.
    pub device: Option<DeviceIndex>,
    /// That ENI's route table on the host.
    pub table: Option<RouteTable>,
}

/// An ENI as the pool knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEni {
    /// Its id.
    pub id: EniId,
    /// Its hardware address.
    pub mac: Mac,
    /// Its device index.
    pub device: DeviceIndex,
    /// Its network card.
    pub card: CardIndex,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// That subnet's id; absent in files of earlier releases.
    pub subnet_id: Option<SubnetId>,
    /// Its primary address, which no pod gets.
    pub primary: Ipv4Addr,
    /// Its secondary addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Its delegated prefixes.
    pub prefixes: Vec<Prefix28>,
    /// What of it is being given back and belongs to nobody; not among the addresses and prefixes. Absent in files of earlier releases.
    pub leaving: Vec<Slot>,
    /// What was given back lately, and may still be shown on it. Absent in files of earlier releases.
    pub gone: Vec<Slot>,
    /// The ENI itself is being given back. Absent in files of earlier releases.
    pub going: bool,
}

/// A free address that rests after its last pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// The address.
    pub address: Ipv4Addr,
    /// When its last pod gave it back.
    pub released: WallTime,
}

/// Why a well-formed file can not be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// An allocation has an empty container id, interface or network name.
    #[error("the allocation of {address} names no {missing}")]
    Nameless {
        /// The address.
        address: IpAddr,
        /// The key that is empty.
        missing: &'static str,
    },
    /// One sandbox is listed twice. (A pod with interfaces on several cards has one entry in the file of each card.)
    #[error("sandbox {0} is listed twice")]
    SandboxTwice(SandboxKey),
    /// Two sandboxes hold one address.
    #[error("address {0} is given to two sandboxes")]
    AddressTwice(IpAddr),
    /// An address is held by a pod and rests at the same time.
    #[error("address {0} is given to a sandbox and cooling at the same time")]
    HeldAndCooling(Ipv4Addr),
    /// An address rests twice.
    #[error("address {0} is listed as cooling twice")]
    CoolingTwice(Ipv4Addr),
    /// An ENI is listed twice.
    #[error("{0} is listed twice in the pool")]
    EniTwice(EniId),
    /// An address or prefix belongs to two ENIs, or twice to one.
    #[error("{what} is listed twice in the pool, the second time on {eni}")]
    SlotTwice {
        /// The address or prefix.
        what: Ipv4Net,
        /// Where it was met again.
        eni: EniId,
    },
}

impl Checkpoint {
    /// Finds what can not be true: a sandbox, address, ENI or slot listed twice; an address both held and resting.
    pub fn check(&self) -> Result<(), Impossible> {
        let held = self.check_allocations()?;
        self.check_cooling(&held)?;
        self.check_pool()
    }

    fn check_allocations(&self) -> Result<BTreeSet<IpAddr>, Impossible> {
        let mut keys = BTreeSet::new();
        let mut held = BTreeSet::new();
        for Allocation { key, address, .. } in &self.allocations {
            for (missing, value) in
                [("networkName", &key.network), ("containerID", &key.container), ("ifName", &key.interface)]
            {
                if value.is_empty() {
                    return Err(Impossible::Nameless { address: *address, missing });
                }
            }
            if !keys.insert(key) {
                return Err(Impossible::SandboxTwice(key.clone()));
            }
            if !held.insert(*address) {
                return Err(Impossible::AddressTwice(*address));
            }
        }
        Ok(held)
    }

    fn check_cooling(&self, held: &BTreeSet<IpAddr>) -> Result<(), Impossible> {
        let mut seen = BTreeSet::new();
        for Cooling { address, .. } in &self.cooling {
            if held.contains(&IpAddr::V4(*address)) {
                return Err(Impossible::HeldAndCooling(*address));
            }
            if !seen.insert(*address) {
                return Err(Impossible::CoolingTwice(*address));
            }
        }
        Ok(())
    }

    fn check_pool(&self) -> Result<(), Impossible> {
        let mut enis = BTreeSet::new();
        let mut slots = BTreeSet::new();
        for eni in self.pool.iter().flatten() {
            if !enis.insert(&eni.id) {
                return Err(Impossible::EniTwice(eni.id.clone()));
            }
            let single = |address: &Ipv4Addr| Ipv4Net::from(*address);
            let own = std::iter::once(single(&eni.primary))
                .chain(eni.addresses.iter().map(single))
                .chain(eni.prefixes.iter().map(|prefix| prefix.net()))
                .chain(eni.leaving.iter().map(|slot| match slot {
                    Slot::Address(address) => single(address),
                    Slot::Prefix(prefix) => prefix.net(),
                }));
            for what in own {
                if !slots.insert(what) {
                    return Err(Impossible::SlotTwice { what, eni: eni.id.clone() });
                }
            }
        }
        Ok(())
    }
}
