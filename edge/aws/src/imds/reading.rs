//! What the values of IMDS mean, apart from how they are had: whoever has read some is told what is still lacking, or what they say.
//!
//! ```text
//!   Reading::walk / node --> Lacks(paths) --read them, all at once--> Reading::put --> walk / node --> ... --> Whole(result)
//! ```
//!
//! The client reads what is lacking over HTTP, a simulator from a model.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use vpc_model::{CardIndex, DeviceIndex, EniId, Mac, Prefix28, Subnet};

use super::error::{ImdsError, ImdsFailure, failed, parse};
use super::node::{NodeMetadata, REGION, eni_path};
use super::walk::{EniMetadata, SickEni, Walk};
use crate::ec2::shapes::scalar::Scalar;

/// The list of ENIs.
const MACS: &str = "network/interfaces/macs/";

/// Values that have been read, by path below `/latest/meta-data/`.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    values: BTreeMap<String, Result<Option<String>, ImdsError>>,
}

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// These paths below `/latest/meta-data/` must be read first.
    Lacks(BTreeSet<String>),
    /// All of it, or what could not be read.
    Whole(Result<T, ImdsError>),
}

impl<T> Known<T> {
    /// What must be read first.
    #[must_use]
    pub fn lacking(self) -> BTreeSet<String> {
        match self {
            Self::Lacks(paths) => paths,
            Self::Whole(_) => BTreeSet::new(),
        }
    }
}

/// Why a part of it is not known.
#[derive(Clone, Debug)]
enum Gap {
    /// It has not been read.
    Lacking,
    Failed(ImdsError),
}

type Part<T> = Result<T, Gap>;

impl Reading {
    /// Takes in a value; `None` if there is no such value (404).
    pub fn put(&mut self, path: String, value: Result<Option<String>, ImdsError>) {
        self.values.insert(path, value);
    }

    /// All ENIs, or what else to read. A list that could not be read fails it; what is wrong with one ENI is in [`Walk::sick`].
    #[must_use]
    pub fn walk(&self) -> Known<Walk> {
        self.look(|values| {
            let (primary, macs) = (values.value::<Mac>("mac"), values.macs());
            let (primary, macs) = (primary?, macs?);
            let read: Vec<(Mac, Part<EniMetadata>)> =
                macs.into_iter().map(|mac| (mac, values.eni(mac, mac == primary))).collect();
            let mut walk = Walk { primary, enis: Vec::new(), sick: Vec::new() };
            for (mac, eni) in read {
                match eni {
                    Ok(eni) => walk.enis.push(eni),
                    Err(Gap::Failed(error)) => {
                        let eni_id = values.value(&eni_path(mac, "interface-id")).ok();
                        walk.sick.push(SickEni { mac, eni_id, error });
                    }
                    Err(Gap::Lacking) => {}
                }
            }
            walk.enis.sort_by_key(|eni| (eni.card, eni.device_index, eni.mac));
            walk.sick.sort_by_key(|sick| sick.mac);
            Ok(walk)
        })
    }

    /// What a node needs to know of itself, or what else to read. A region that could not be read here may be in
    /// the identity document.
    #[must_use]
    pub fn node(&self) -> Known<NodeMetadata> {
        self.look(|values| {
            let own = (
                values.value::<String>(REGION),
                values.value("placement/availability-zone"),
                values.value("instance-id"),
                values.value("instance-type"),
                values.value("local-ipv4"),
            );
            let mac: Mac = values.value("mac")?;
            let of_eni = (
                values.value(&eni_path(mac, "subnet-id")),
                values.value(&eni_path(mac, "vpc-id")),
                values.filled(&eni_path(mac, "security-group-ids")),
                values.filled(&eni_path(mac, "vpc-ipv4-cidr-blocks")),
            );
            Ok(NodeMetadata {
                region: own.0.and_then(|region| if region.is_empty() { Err(absent(REGION)) } else { Ok(region) })?,
                availability_zone: own.1?,
                instance_id: own.2?,
                instance_type: own.3?,
                local_ipv4: own.4?,
                mac,
                subnet_id: of_eni.0?,
                vpc_id: of_eni.1?,
                security_groups: of_eni.2?,
                vpc_ipv4_cidrs: of_eni.3?,
            })
        })
    }

    /// A list that is never empty, such as an ENI's security groups or the networks of its VPC.
    #[must_use]
    pub fn filled<T: Scalar>(&self, mac: Mac, field: &str) -> Known<Vec<T>> {
        self.look(|values| values.filled(&eni_path(mac, field)))
    }

    fn look<T>(&self, what: impl FnOnce(&Values<'_>) -> Part<T>) -> Known<T> {
        let values = Values { read: &self.values, lacking: RefCell::default() };
        let found = what(&values);
        let lacking = values.lacking.into_inner();
        match found {
            Err(Gap::Failed(error)) => Known::Whole(Err(error)),
            Ok(found) if lacking.is_empty() => Known::Whole(Ok(found)),
            Ok(_) | Err(Gap::Lacking) => Known::Lacks(lacking),
        }
    }
}

/// The values, and the paths of those that were looked for in vain.
struct Values<'a> {
    read: &'a BTreeMap<String, Result<Option<String>, ImdsError>>,
    lacking: RefCell<BTreeSet<String>>,
}

impl Values<'_> {
    fn get(&self, path: &str) -> Part<Option<&str>> {
        match self.read.get(path) {
            Some(Ok(value)) => Ok(value.as_deref()),
            Some(Err(error)) => Err(Gap::Failed(error.clone())),
            None => {
                self.lacking.borrow_mut().insert(path.to_owned());
                Err(Gap::Lacking)
            }
        }
    }

    fn optional<T: Scalar>(&self, path: &str) -> Part<Option<T>> {
        self.get(path)?.map(|text| parse(path, text.trim())).transpose().map_err(Gap::Failed)
    }

    fn value<T: Scalar>(&self, path: &str) -> Part<T> {
        self.optional(path)?.ok_or_else(|| absent(path))
    }

    fn list<T: Scalar>(&self, path: &str) -> Part<Vec<T>> {
        let text = self.get(path)?.unwrap_or_default();
        text.split_whitespace().map(|entry| parse(path, entry)).collect::<Result<_, _>>().map_err(Gap::Failed)
    }

    fn filled<T: Scalar>(&self, path: &str) -> Part<Vec<T>> {
        let list = self.list(path)?;
        if list.is_empty() { Err(absent(path)) } else { Ok(list) }
    }

    /// All ENIs, each once whatever the list says. Entries end with a slash on EC2.
    fn macs(&self) -> Part<BTreeSet<Mac>> {
        let text = self.get(MACS)?.ok_or_else(|| absent(MACS))?;
        let mac = |entry: &str| {
            let text = entry.trim_end_matches('/');
            let bad = || ImdsFailure::BadValue { text: text.to_owned(), expected: "a MAC address" };
            text.parse().map_err(|_| Gap::Failed(failed(MACS, bad())))
        };
        text.split_whitespace().map(mac).collect()
    }

    fn eni(&self, mac: Mac, primary: bool) -> Part<EniMetadata> {
        let paths = Paths::of(mac);
        // What is there is asked at the same time as what is always there.
        let always = (
            paths.with("interface-id", |path| self.value::<EniId>(path)),
            paths.with("subnet-id", |path| self.value(path)),
            paths.with("device-number", |path| self.value::<DeviceIndex>(path)),
            paths.with("", |folder| self.get(folder).and_then(|listed| listed.ok_or_else(|| absent(folder)))),
        );
        let fields = Fields { values: self, paths: &paths, listed: always.3? };
        let rest = (
            fields.optional::<CardIndex>("network-card"),
            fields.list::<Ipv4Addr>("local-ipv4s"),
            fields.list::<Prefix28>("ipv4-prefix"),
            fields.list::<Ipv6Addr>("ipv6s"),
            fields.list::<Ipv6Net>("ipv6-prefix"),
            fields.optional::<Subnet>("subnet-ipv4-cidr-block"),
            fields.list::<Ipv6Net>("subnet-ipv6-cidr-blocks"),
        );
        Ok(EniMetadata {
            mac,
            primary,
            eni_id: always.0?,
            subnet_id: always.1?,
            device_index: always.2?,
            card: rest.0?.unwrap_or_default(),
            ipv4: rest.1?,
            ipv4_prefixes: rest.2?,
            ipv6: rest.3?,
            ipv6_prefixes: rest.4?,
            subnet: rest.5?,
            subnet_ipv6: rest.6?.first().copied(),
        })
    }
}

/// The paths of an ENI's values, one after the other in one text.
struct Paths {
    path: RefCell<String>,
    folder: usize,
}

impl Paths {
    fn of(mac: Mac) -> Self {
        let path = eni_path(mac, "");
        Self { folder: path.len(), path: RefCell::new(path) }
    }

    fn with<T>(&self, field: &str, look: impl FnOnce(&str) -> T) -> T {
        let mut path = self.path.borrow_mut();
        path.truncate(self.folder);
        path.push_str(field);
        look(&path)
    }
}

/// The values an ENI has, so that those it lacks are not asked for.
struct Fields<'a> {
    values: &'a Values<'a>,
    paths: &'a Paths,
    listed: &'a str,
}

impl Fields<'_> {
    fn has(&self, field: &str) -> bool {
        self.listed.split_ascii_whitespace().any(|entry| entry.trim_end_matches('/') == field)
    }

    fn optional<T: Scalar>(&self, field: &str) -> Part<Option<T>> {
        if self.has(field) { self.paths.with(field, |path| self.values.optional(path)) } else { Ok(None) }
    }

    fn list<T: Scalar>(&self, field: &str) -> Part<Vec<T>> {
        if self.has(field) { self.paths.with(field, |path| self.values.list(path)) } else { Ok(Vec::new()) }
    }
}

fn absent(path: &str) -> Gap {
    Gap::Failed(failed(path, ImdsFailure::NotFound))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_eni_that_is_listed_twice_is_one_eni() {
        let mut reading = Reading::default();
        let mac = "02:00:00:00:00:01";
        reading.put("mac".to_owned(), Ok(Some(mac.to_owned())));
        reading.put(MACS.to_owned(), Ok(Some(format!("{mac}/\n{mac}/"))));
        while let Known::Lacks(paths) = reading.walk() {
            for path in paths {
                reading.put(path, Ok(None));
            }
        }
        let Known::Whole(Ok(walk)) = reading.walk() else { unreachable!("nothing is lacking, and the list was read") };
        assert_eq!((walk.enis.len(), walk.sick.len()), (0, 1), "{walk:?}");
    }
}
