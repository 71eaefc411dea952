//! What a node asks of its IMDS, in the words of what it wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::task::{JoinError, JoinSet};
use vpc_model::{InstanceId, Mac, SecurityGroupId, SubnetId, VpcId};

use super::client::Client;
use super::error::{ImdsError, ImdsFailure, failed};
use super::node::{IdentityDocument, NodeMetadata, REGION, eni_path};
use super::reading::{Known, Reading};
use super::walk::Walk;
use crate::ec2::shapes::scalar::Scalar;

impl Client {
    /// Reads all a node needs to know of itself, concurrently.
    ///
    /// # Errors
    /// The first value that could not be read.
    pub async fn node(&self) -> Result<NodeMetadata, ImdsError> {
        let mut reading = Reading::default();
        loop {
            match reading.node() {
                Known::Whole(Err(error)) if error.path.ends_with(REGION) => {
                    self.region_of_document(&mut reading, error).await?
                }
                Known::Whole(node) => return node,
                Known::Lacks(paths) => self.read(&mut reading, paths).await,
            }
        }
    }

    /// Reads all a node needs to know of itself and of its ENIs: session and three rounds, however many ENIs there are, as far as the
    /// bound of the settings allows. No value is read twice.
    ///
    /// # Errors
    /// The first value of the instance or of its primary ENI that could not be read. What is wrong with another ENI is in
    /// [`Walk::sick`].
    pub async fn instance(&self) -> Result<(NodeMetadata, Walk), ImdsError> {
        let mut reading = Reading::default();
        loop {
            match (reading.node(), reading.walk()) {
                (Known::Whole(Err(error)), _) if error.path.ends_with(REGION) => {
                    self.region_of_document(&mut reading, error).await?;
                }
                (Known::Whole(Err(error)), _) | (_, Known::Whole(Err(error))) => return Err(error),
                (Known::Whole(Ok(node)), Known::Whole(Ok(mut walk))) => {
                    return match walk.sick.iter().position(|sick| sick.mac == walk.primary) {
                        Some(at) => Err(walk.sick.swap_remove(at).error),
                        None => Ok((node, walk)),
                    };
                }
                (node, walk) => {
                    let lacking = node.lacking().into_iter().chain(walk.lacking()).collect();
                    self.read(&mut reading, lacking).await;
                }
            }
        }
    }

    /// Where the region has no value of its own, the identity document has it.
    async fn region_of_document(&self, reading: &mut Reading, error: ImdsError) -> Result<(), ImdsError> {
        let region = self.identity_document().await?.region;
        if region.is_empty() {
            return Err(error);
        }
        reading.put(REGION.to_owned(), Ok(Some(region)));
        Ok(())
    }

    /// The region: `placement/region`, else from the identity document.
    ///
    /// # Errors
    /// Neither could be read.
    pub async fn region(&self) -> Result<String, ImdsError> {
        match self.optional::<String>(REGION).await {
            Ok(Some(region)) if !region.is_empty() => Ok(region),
            _ => self.identity_document().await.map(|document| document.region),
        }
    }

    /// The identity document.
    ///
    /// # Errors
    /// It could not be read, or is no such document.
    pub async fn identity_document(&self) -> Result<IdentityDocument, ImdsError> {
        const PATH: &str = "dynamic/instance-identity/document";
        let failed = |failure| ImdsError { path: format!("/latest/{PATH}"), failure };
        let text = self.latest(PATH).await?.ok_or_else(|| failed(ImdsFailure::NotFound))?;
        let expected = "a JSON document with a region";
        serde_json::from_str(&text).map_err(|_| failed(ImdsFailure::BadValue { text, expected }))
    }

    /// The zone.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn availability_zone(&self) -> Result<String, ImdsError> {
        self.value("placement/availability-zone").await
    }

    /// The instance's id.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn instance_id(&self) -> Result<InstanceId, ImdsError> {
        self.value("instance-id").await
    }

    /// The instance's type.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn instance_type(&self) -> Result<String, ImdsError> {
        self.value("instance-type").await
    }

    /// The primary address.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn local_ipv4(&self) -> Result<Ipv4Addr, ImdsError> {
        self.value("local-ipv4").await
    }

    /// The primary IPv6 address.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn ipv6(&self) -> Result<Option<Ipv6Addr>, ImdsError> {
        self.optional("ipv6").await
    }

    /// The primary ENI.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn mac(&self) -> Result<Mac, ImdsError> {
        self.value("mac").await
    }

    /// All ENIs. Entries end with a slash on EC2.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn macs(&self) -> Result<Vec<Mac>, ImdsError> {
        const PATH: &str = "network/interfaces/macs/";
        let text = self.get(PATH).await?.ok_or_else(|| failed(PATH, ImdsFailure::NotFound))?;
        let mac = |entry: &str| {
            let text = entry.trim_end_matches('/');
            let bad = || ImdsFailure::BadValue { text: text.to_owned(), expected: "a MAC address" };
            text.parse().map_err(|_| failed(PATH, bad()))
        };
        text.split_whitespace().map(mac).collect()
    }

    /// An ENI's subnet.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn subnet_id(&self, mac: Mac) -> Result<SubnetId, ImdsError> {
        self.value(&eni_path(mac, "subnet-id")).await
    }

    /// An ENI's VPC.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn vpc_id(&self, mac: Mac) -> Result<VpcId, ImdsError> {
        self.value(&eni_path(mac, "vpc-id")).await
    }

    /// An ENI's security groups; at least one.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn security_groups(&self, mac: Mac) -> Result<Vec<SecurityGroupId>, ImdsError> {
        self.filled(&eni_path(mac, "security-group-ids")).await
    }

    /// The IPv4 networks of an ENI's VPC, the primary one first; at least one.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn vpc_ipv4_cidrs(&self, mac: Mac) -> Result<Vec<Ipv4Net>, ImdsError> {
        self.filled(&eni_path(mac, "vpc-ipv4-cidr-blocks")).await
    }

    /// The IPv6 networks of an ENI's VPC.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn vpc_ipv6_cidrs(&self, mac: Mac) -> Result<Vec<Ipv6Net>, ImdsError> {
        self.list(&eni_path(mac, "vpc-ipv6-cidr-blocks")).await
    }

    /// A list that is never empty.
    async fn filled<T: Scalar>(&self, path: &str) -> Result<Vec<T>, ImdsError> {
        let list = self.list(path).await?;
        if list.is_empty() { Err(failed(path, ImdsFailure::NotFound)) } else { Ok(list) }
    }

    /// Reads all ENIs, concurrently within the bound of the settings.
    ///
    /// # Errors
    /// The list of ENIs, or which is the primary one, could not be read. What is wrong with one ENI is in
    /// [`Walk::sick`].
    pub async fn walk(&self) -> Result<Walk, ImdsError> {
        let mut reading = Reading::default();
        loop {
            match reading.walk() {
                Known::Whole(walk) => return walk,
                Known::Lacks(paths) => self.read(&mut reading, paths).await,
            }
        }
    }

    /// Reads values at the same time.
    pub(super) async fn read(&self, reading: &mut Reading, paths: BTreeSet<String>) {
        let mut under_way = JoinSet::new();
        let mut tasks = BTreeMap::new();
        for path in paths {
            let (client, own) = (self.clone(), path.clone());
            let task = under_way.spawn(async move { client.get(&own).await });
            tasks.insert(task.id(), path);
        }
        while let Some(read) = under_way.join_next_with_id().await {
            let (id, value) = match read {
                Ok((id, value)) => (id, value),
                Err(broken) => (broken.id(), Err(interrupted(tasks.get(&broken.id()), &broken))),
            };
            if let Some(path) = tasks.remove(&id) {
                reading.put(path, value);
            }
        }
    }
}

/// A read that did not come to its end.
fn interrupted(path: Option<&String>, why: &JoinError) -> ImdsError {
    let failure = ImdsFailure::Transport(format!("the read was interrupted: {why}"));
    failed(path.map_or("", String::as_str), failure)
}
