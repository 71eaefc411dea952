//! What a node needs to know of itself, most of it once.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use vpc_model::{InstanceId, Mac, SecurityGroupId, SubnetId, VpcId};

use super::client::{Client, ImdsError, ImdsFailure};
use super::reading::{Known, Reading};
use super::walk::Walk;

/// Where the region is.
pub(super) const REGION: &str = "placement/region";

/// The parts of the identity document that matter here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityDocument {
    /// The region.
    pub region: String,
    /// The account, twelve digits.
    pub account_id: Option<String>,
    /// The zone.
    pub availability_zone: Option<String>,
    /// The instance.
    pub instance_id: Option<String>,
    /// Its type.
    pub instance_type: Option<String>,
}

/// What a node reads of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMetadata {
    /// The region.
    pub region: String,
    /// The zone.
    pub availability_zone: String,
    /// The instance.
    pub instance_id: InstanceId,
    /// Its type (`m5.large`).
    pub instance_type: String,
    /// The primary address.
    pub local_ipv4: Ipv4Addr,
    /// The primary ENI.
    pub mac: Mac,
    /// The primary ENI's subnet.
    pub subnet_id: SubnetId,
    /// The VPC.
    pub vpc_id: VpcId,
    /// The primary ENI's security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// The VPC's IPv4 networks, the primary one first.
    pub vpc_ipv4_cidrs: Vec<Ipv4Net>,
}

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
        let text = self.get(PATH).await?.ok_or_else(|| super::client::failed(PATH, ImdsFailure::NotFound))?;
        let mac = |entry: &str| {
            let text = entry.trim_end_matches('/');
            let bad = || ImdsFailure::BadValue { text: text.to_owned(), expected: "a MAC address" };
            text.parse().map_err(|_| super::client::failed(PATH, bad()))
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
    async fn filled<T: crate::ec2::shapes::scalar::Scalar>(&self, path: &str) -> Result<Vec<T>, ImdsError> {
        let list = self.list(path).await?;
        if list.is_empty() { Err(super::client::failed(path, ImdsFailure::NotFound)) } else { Ok(list) }
    }
}

/// The path of a value of an ENI.
pub(super) fn eni_path(mac: Mac, field: &str) -> String {
    format!("network/interfaces/macs/{mac}/{field}")
}
