//! A cloud driven by hand in made-up time.

#![allow(dead_code, reason = "each test program uses its own part")]

use lab_cloud::{ApiError, Caller, Cloud, FabricEvent, InstanceSpec, Output, Profile, Setup, WorldSpec, id_for};
use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, AssignPrivateIpAddresses, AssignPrivateIpAddressesResponse, AttachNetworkInterface,
    CreateNetworkInterface, DescribeNetworkInterfaces, NetworkInterface,
};
use vpc_model::{AttachmentId, DeviceIndex, EniId, InstanceId, Millis, SubnetId, Time};

/// A cloud and its clock.
pub(crate) struct Lab {
    pub(crate) cloud: Cloud,
    pub(crate) now: Time,
    /// Events so far.
    pub(crate) events: Vec<FabricEvent>,
}

impl Lab {
    pub(crate) fn new(spec: WorldSpec, profile: Profile, seed: u64) -> Self {
        let cloud = Cloud::new(spec, Setup { profile, seed, ..Setup::default() }).unwrap();
        let mut lab = Self { cloud, now: Time(0), events: Vec::new() };
        lab.pass(0);
        lab
    }

    /// The default world, everything at once.
    pub(crate) fn instant() -> Self {
        Self::new(WorldSpec::default_topology(), Profile::instant(), 1)
    }

    /// Lets milliseconds pass.
    pub(crate) fn pass(&mut self, millis: u64) -> Vec<Output> {
        self.now = self.now + Millis(millis);
        let outputs = self.cloud.advance(self.now);
        self.events.extend(outputs.iter().filter_map(|output| match output {
            Output::Fabric(event) => Some(event.clone()),
            Output::Answer { .. } | Output::Lost { .. } => None,
        }));
        outputs
    }

    /// Calls and lets time pass until the answer.
    pub(crate) fn call(&mut self, request: impl Into<AnyRequest>) -> Result<AnyResponse, ApiError> {
        let call = self.cloud.submit(self.now, &Caller::Account, request.into());
        loop {
            let due = self.cloud.next_due().expect("a call in flight is due some time");
            for output in self.pass(due.since(self.now).0) {
                if let Output::Answer { call: answered, result, .. } = output
                    && answered == call
                {
                    return result.map(|answer| *answer);
                }
            }
        }
    }

    /// Lets time pass until nothing more happens by itself.
    pub(crate) fn settle(&mut self) {
        while let Some(due) = self.cloud.next_due() {
            self.pass(due.since(self.now).0);
        }
    }

    /// Lets time pass step by step, so that all that happens by itself happens at its time.
    pub(crate) fn settle_for(&mut self, millis: u64) {
        let end = self.now + Millis(millis);
        while let Some(due) = self.cloud.next_due().filter(|due| *due <= end) {
            self.pass(due.since(self.now).0);
        }
        self.pass(end.since(self.now).0);
    }

    pub(crate) fn create(&mut self, request: CreateNetworkInterface) -> Result<NetworkInterface, ApiError> {
        match self.call(request)? {
            AnyResponse::CreateNetworkInterface(answer) => Ok(answer.network_interface),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attach(&mut self, eni: &EniId, node: &str, device: u8) -> Result<AttachmentId, ApiError> {
        let request = AttachNetworkInterface {
            network_interface_id: eni.clone(),
            instance_id: instance(node),
            device_index: DeviceIndex(device),
            network_card_index: None,
            dry_run: None,
        };
        match self.call(request)? {
            AnyResponse::AttachNetworkInterface(answer) => Ok(answer.attachment_id),
            other => panic!("{other:?}"),
        }
    }

    /// A new ENI on `node-1`.
    pub(crate) fn attached(&mut self, device: u8) -> (EniId, AttachmentId) {
        let eni = self.create(CreateNetworkInterface::new(subnet("private-a"))).unwrap().network_interface_id;
        let attachment = self.attach(&eni, "node-1", device).unwrap();
        (eni, attachment)
    }

    pub(crate) fn assign(
        &mut self,
        request: AssignPrivateIpAddresses,
    ) -> Result<AssignPrivateIpAddressesResponse, ApiError> {
        match self.call(request)? {
            AnyResponse::AssignPrivateIpAddresses(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn describe(&mut self, request: DescribeNetworkInterfaces) -> Result<Vec<NetworkInterface>, ApiError> {
        match self.call(request)? {
            AnyResponse::DescribeNetworkInterfaces(answer) => Ok(answer.network_interfaces),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn show(&mut self, id: &EniId) -> NetworkInterface {
        let ids = vec![id.clone()];
        let request = DescribeNetworkInterfaces { network_interface_ids: ids, ..DescribeNetworkInterfaces::default() };
        self.describe(request).unwrap().remove(0)
    }

    pub(crate) fn free(&mut self, name: &str) -> u32 {
        let id: SubnetId = id_for(name);
        self.cloud.snapshot(self.now).subnets.iter().find(|subnet| subnet.id == id).unwrap().free
    }

    pub(crate) fn primary(&mut self, node: &str) -> EniId {
        let snapshot = self.cloud.snapshot(self.now);
        snapshot.instances.iter().find(|i| i.name == node).unwrap().enis[0].clone()
    }

    pub(crate) fn imds(&mut self, node: &str, path: &str) -> Option<String> {
        self.cloud.metadata(self.now, &instance(node), path)
    }
}

pub(crate) fn instance(name: &str) -> InstanceId {
    id_for(name)
}

pub(crate) fn subnet(name: &str) -> SubnetId {
    id_for(name)
}

/// The default world with `private-a` cut down to some network.
pub(crate) fn small_subnet(cidr: &str) -> WorldSpec {
    let mut spec = WorldSpec::default_topology();
    let net: ipnet::Ipv4Net = cidr.parse().unwrap();
    spec.subnets.iter_mut().find(|subnet| subnet.name == "private-a").unwrap().cidr = net.try_into().unwrap();
    spec
}

/// The default world with one more instance.
pub(crate) fn with_instance(name: &str, instance_type: &str, place: &str) -> WorldSpec {
    let mut spec = WorldSpec::default_topology();
    spec.instances.push(InstanceSpec::new(name, instance_type, subnet(place)));
    spec
}
