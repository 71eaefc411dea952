//! Interface endpoints: services of the provider at addresses of the VPC.
//!
//! An endpoint's ENI has a port like any other, subject to its security groups; beyond it is not a node but a namespace in which the
//! service answers. The plan of the network says which there are; [`Endpoints::follow`] makes it so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use lab_cloud::{AttachedEni, EniAddresses, NetworkPlan, PlannedEndpoint};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use vpc_linux::{Address, LinkChange, Netns, RouteSpec, Rtnl};
use vpc_model::{CardIndex, DeviceIndex, EniId, GatewayOf, RouteTable};

use super::error::Context;
use super::links::{link_name, link_up};
use super::world::{Responder, WorldLog, listen, serve};
use super::{Fabric, FabricError};
use crate::control::Place;

/// The endpoint's own name for its link.
const LINK: &str = "eth0";
/// How names of the provider's services begin, before the region and the service.
const SERVICE_PREFIX: &str = "com.amazonaws.";

/// All endpoints.
#[derive(Debug)]
pub struct Endpoints {
    runtime: Handle,
    log: WorldLog,
    built: Mutex<BTreeMap<EniId, Built>>,
}

#[derive(Debug)]
struct Built {
    planned: PlannedEndpoint,
    network: Netns,
    servers: Vec<AbortHandle>,
}

impl Endpoints {
    /// None yet. Services answer on that runtime, and note who asks.
    #[must_use]
    pub fn new(runtime: Handle, log: WorldLog) -> Self {
        Self { runtime, log, built: Mutex::default() }
    }

    fn built(&self) -> MutexGuard<'_, BTreeMap<EniId, Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes those that are new in the plan, and takes away those that are gone; one that has changed is made anew. The fabric
    /// must know the plan already.
    ///
    /// # Errors
    /// The step that failed; the others are done.
    pub fn follow(&self, fabric: &Fabric, plan: &NetworkPlan) -> Result<(), FabricError> {
        let mut built = self.built();
        let gone: Vec<_> = built
            .iter()
            .filter(|(_, own)| !plan.endpoints.contains(&own.planned))
            .map(|(eni, _)| eni.clone())
            .collect();
        let mut outcome = Ok(());
        for eni in gone {
            if let Some(own) = built.remove(&eni) {
                own.servers.iter().for_each(AbortHandle::abort);
                outcome = outcome.and(fabric.detach(&eni));
            }
        }
        for planned in &plan.endpoints {
            if !built.contains_key(&planned.eni) {
                match self.make(fabric, plan, planned) {
                    Ok(own) => drop(built.insert(planned.eni.clone(), own)),
                    Err(e) => outcome = outcome.and(Err(e)),
                }
            }
        }
        outcome
    }

    fn make(&self, fabric: &Fabric, plan: &NetworkPlan, planned: &PlannedEndpoint) -> Result<Built, FabricError> {
        let subnet =
            plan.subnets.get(&planned.subnet).ok_or_else(|| FabricError::unknown("subnet", &planned.subnet))?;
        let network = Netns::create().context("make an endpoint's network namespace")?;
        link_up(&network, "lo")?;
        fabric.attach(&eni_of(planned), &network, &link_name(LINK)?)?;
        let served = configure(&network, planned, subnet.cidr).and_then(|()| self.serve(&network, planned));
        match served {
            Ok(servers) => Ok(Built { planned: planned.clone(), network, servers }),
            Err(e) => {
                fabric.detach(&planned.eni).ok();
                Err(e)
            }
        }
    }

    fn serve(&self, network: &Netns, planned: &PlannedEndpoint) -> Result<Vec<AbortHandle>, FabricError> {
        let listeners = listen(network, &[planned.address]).context(format!("serve endpoint {}", planned.id))?;
        let responder = Responder {
            place: Place::Endpoint(short_name(&planned.service).to_owned()),
            name: host_of(&planned.service),
            log: self.log.clone(),
        };
        let spawn = |listener| self.runtime.spawn(serve(listener, responder.clone())).abort_handle();
        Ok(listeners.into_iter().map(spawn).collect())
    }

    /// The network of an endpoint, by its id or its service's name (the first one then).
    #[must_use]
    pub fn network(&self, name: &str) -> Option<Netns> {
        let built = self.built();
        let by_id = built.values().find(|own| own.planned.id == name);
        let own = by_id.or_else(|| built.values().find(|own| short_name(&own.planned.service) == name));
        own.map(|own| own.network.clone())
    }

    /// What [`Endpoints::network`] knows: services and ids.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let built = self.built();
        let services: BTreeSet<_> = built.values().map(|own| short_name(&own.planned.service).to_owned()).collect();
        services.into_iter().chain(built.values().map(|own| own.planned.id.clone())).collect()
    }
}

/// The name a service is known by in DNS: `sts.ap-northeast-2.amazonaws.com` for `com.amazonaws.ap-northeast-2.sts`.
#[must_use]
pub fn host_of(service: &str) -> Option<String> {
    let (region, name) = service.strip_prefix(SERVICE_PREFIX)?.split_once('.')?;
    Some(format!("{name}.{region}.amazonaws.com"))
}

/// `sts` for `com.amazonaws.ap-northeast-2.sts`.
fn short_name(service: &str) -> &str {
    service.strip_prefix(SERVICE_PREFIX).and_then(|rest| rest.split_once('.')).map_or(service, |(_, name)| name)
}

fn eni_of(planned: &PlannedEndpoint) -> AttachedEni {
    AttachedEni {
        id: planned.eni.clone(),
        mac: planned.mac,
        subnet: planned.subnet.clone(),
        device: DeviceIndex(0),
        card: CardIndex(0),
        addresses: EniAddresses {
            primary: planned.address,
            secondary: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            public: BTreeMap::new(),
        },
        groups: planned.groups.clone(),
        source_dest_check: true,
        interface_type: "vpc_endpoint".to_owned(),
    }
}

/// As DHCP would: the address with the subnet's length, everything else through the subnet's router.
fn configure(network: &Netns, planned: &PlannedEndpoint, subnet: vpc_model::Subnet) -> Result<(), FabricError> {
    let step = || format!("configure endpoint {}", planned.id);
    let mut inside = Rtnl::open_in(network).context(step())?;
    let link = inside.link(&link_name(LINK)?).context(step())?.index;
    let address = Ipv4Net::new(planned.address, subnet.net().prefix_len()).context(step())?;
    inside.set_link(link, &LinkChange::up()).context(step())?;
    inside.add_address(&Address::new(link, address)).context(step())?;
    let everywhere = RouteSpec::through(RouteTable::MAIN, Ipv4Net::default(), subnet.gateway(), link);
    inside.replace_route(&everywhere).context(step())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_a_short_name_and_a_host_name() {
        let service = "com.amazonaws.ap-northeast-2.sts";
        assert_eq!(short_name(service), "sts");
        assert_eq!(host_of(service).as_deref(), Some("sts.ap-northeast-2.amazonaws.com"));
        assert_eq!((short_name("odd"), host_of("odd")), ("odd", None));
    }
}
