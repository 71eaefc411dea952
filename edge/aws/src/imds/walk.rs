//! All ENIs of the instance at once.
//!
//! One ENI that cannot be read (just attached, just gone, half there) is handed out beside the others and hides none of
//! them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use tokio::task::{JoinError, JoinSet};
use vpc_model::{CardIndex, DeviceIndex, EniId, Mac, Prefix28, Subnet, SubnetId};

use super::client::{Client, ImdsError, ImdsFailure};
use super::node::eni_path;

/// The instance's ENIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The primary ENI.
    pub primary: Mac,
    /// ENIs that could be read, by card and device index.
    pub enis: Vec<EniMetadata>,
    /// ENIs that could not, by MAC.
    pub sick: Vec<SickEni>,
}

/// An ENI that IMDS lists but could not describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SickEni {
    /// The ENI.
    pub mac: Mac,
    /// Its id, if at least that could be read.
    pub eni_id: Option<EniId>,
    /// The first value that could not be read.
    pub error: ImdsError,
}

/// An ENI as IMDS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniMetadata {
    /// Its MAC.
    pub mac: Mac,
    /// Whether it is the primary ENI.
    pub primary: bool,
    /// Its id.
    pub eni_id: EniId,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// Position on its network card.
    pub device_index: DeviceIndex,
    /// Its network card; 0 if IMDS does not say.
    pub card: CardIndex,
    /// Its addresses, the primary one first. Empty on an IPv6-only or EFA-only ENI.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its delegated /28s.
    pub ipv4_prefixes: Vec<Prefix28>,
    /// Its IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Its delegated IPv6 /80s.
    pub ipv6_prefixes: Vec<Ipv6Net>,
    /// Its subnet's IPv4 network.
    pub subnet: Option<Subnet>,
    /// Its subnet's IPv6 network.
    pub subnet_ipv6: Option<Ipv6Net>,
}

impl Client {
    /// Reads all ENIs, concurrently within the bound of the settings.
    ///
    /// # Errors
    /// The list of ENIs, or which is the primary one, could not be read. What is wrong with one ENI is in
    /// [`Walk::sick`].
    pub async fn walk(&self) -> Result<Walk, ImdsError> {
        let (primary, macs) = tokio::try_join!(self.mac(), self.macs())?;
        let mut reading = JoinSet::new();
        let mut tasks = BTreeMap::new();
        for mac in macs {
            let client = self.clone();
            let task = reading.spawn(async move { client.eni(mac, mac == primary).await });
            tasks.insert(task.id(), mac);
        }
        let mut walk = Walk { primary, enis: Vec::new(), sick: Vec::new() };
        while let Some(read) = reading.join_next().await {
            match read {
                Ok(Ok(eni)) => walk.enis.push(eni),
                Ok(Err(sick)) => walk.sick.push(sick),
                Err(broken) => walk.sick.extend(tasks.get(&broken.id()).map(|mac| interrupted(*mac, &broken))),
            }
        }
        walk.enis.sort_by_key(|eni| (eni.card, eni.device_index, eni.mac));
        walk.sick.sort_by_key(|sick| sick.mac);
        Ok(walk)
    }

    /// Reads one ENI.
    ///
    /// # Errors
    /// The first value that could not be read.
    pub async fn eni(&self, mac: Mac, primary: bool) -> Result<EniMetadata, SickEni> {
        let eni_id: EniId = match self.value(&eni_path(mac, "interface-id")).await {
            Ok(id) => id,
            Err(error) => return Err(SickEni { mac, eni_id: None, error }),
        };
        let rest = self.eni_rest(mac, primary, eni_id.clone()).await;
        rest.map_err(|error| SickEni { mac, eni_id: Some(eni_id), error })
    }

    async fn eni_rest(&self, mac: Mac, primary: bool, eni_id: EniId) -> Result<EniMetadata, ImdsError> {
        let listed = self.get(&eni_path(mac, "")).await?;
        let listed = listed.ok_or_else(|| super::client::failed(&eni_path(mac, ""), ImdsFailure::NotFound))?;
        let fields = Fields { client: self, mac, listed };
        let device_path = fields.path("device-number");
        let (subnet_id, device_index, card, ipv4, ipv4_prefixes, ipv6, ipv6_prefixes, subnet, subnet_ipv6) = tokio::try_join!(
            self.subnet_id(mac),
            self.value::<DeviceIndex>(&device_path),
            fields.optional::<CardIndex>("network-card"),
            fields.list::<Ipv4Addr>("local-ipv4s"),
            fields.list::<Prefix28>("ipv4-prefix"),
            fields.list::<Ipv6Addr>("ipv6s"),
            fields.list::<Ipv6Net>("ipv6-prefix"),
            fields.optional::<Subnet>("subnet-ipv4-cidr-block"),
            fields.list::<Ipv6Net>("subnet-ipv6-cidr-blocks"),
        )?;
        Ok(EniMetadata {
            mac,
            primary,
            eni_id,
            subnet_id,
            device_index,
            card: card.unwrap_or_default(),
            ipv4,
            ipv4_prefixes,
            ipv6,
            ipv6_prefixes,
            subnet,
            subnet_ipv6: subnet_ipv6.first().copied(),
        })
    }
}

/// A read that did not come to its end.
fn interrupted(mac: Mac, why: &JoinError) -> SickEni {
    let failure = ImdsFailure::Transport(format!("the read was interrupted: {why}"));
    SickEni { mac, eni_id: None, error: super::client::failed(&eni_path(mac, ""), failure) }
}

/// The values an ENI has, so that those it lacks are not asked for.
struct Fields<'a> {
    client: &'a Client,
    mac: Mac,
    listed: String,
}

impl Fields<'_> {
    fn path(&self, field: &str) -> String {
        eni_path(self.mac, field)
    }

    fn has(&self, field: &str) -> bool {
        self.listed.split_whitespace().any(|entry| entry.trim_end_matches('/') == field)
    }

    async fn optional<T: crate::ec2::shapes::scalar::Scalar>(&self, field: &str) -> Result<Option<T>, ImdsError> {
        if self.has(field) { self.client.optional(&self.path(field)).await } else { Ok(None) }
    }

    async fn list<T: crate::ec2::shapes::scalar::Scalar>(&self, field: &str) -> Result<Vec<T>, ImdsError> {
        if self.has(field) { self.client.list(&self.path(field)).await } else { Ok(Vec::new()) }
    }
}
