//! The machine: calls come in, time passes, answers and fabric events come out.
//!
//! A call waits in a queue for as long as the latency profile says, is then carried out at once and answered in the same
//! moment, after its effects. What happens later (the guest sees a device, IMDS catches up) waits in the same queue. The
//! queue is ordered by time and then by arrival, and every draw of chance happens on the way into it, so that the same
//! calls at the same times give the same history however often [`Cloud::advance`] is called in between.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse};
use vpc_model::{AttachmentId, EniId, InstanceId, Mac, Slot, SubnetId, Time, WallTime};

use crate::consistency::{Past, is_read};
use crate::dice::Dice;
use crate::error::{ApiError, WorldError};
use crate::event::FabricEvent;
use crate::fault::FaultId;
use crate::faults::Faults;
use crate::gate::{Ending, Verdict};
use crate::iam::Policy;
use crate::imds::Imds;
use crate::plan::NetworkPlan;
use crate::profile::{Setup, Span};
use crate::spec::WorldSpec;
use crate::throttle::{Level, Throttle};
use crate::world::{Power, Tie, World};

/// Nanoseconds in a millisecond.
const NANOS_PER_MILLI: i64 = 1_000_000;

/// A call in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct CallId(pub u64);

/// Who calls EC2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// Somebody with the account's own key.
    Account,
    /// An instance, with the credentials of its role.
    Instance(InstanceId),
}

/// What comes out of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A call is answered.
    Answer {
        /// Which.
        call: CallId,
        /// With what.
        result: Result<Box<AnyResponse>, ApiError>,
        /// Faults that had a hand in it.
        faults: Vec<FaultId>,
    },
    /// A call is carried out, but its answer is lost: the connection ends without one.
    Lost {
        /// Which.
        call: CallId,
        /// Faults that had a hand in it.
        faults: Vec<FaultId>,
    },
    /// The fabric must change.
    Fabric(FabricEvent),
}

/// Something that happens by itself at a certain time.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// A call is carried out and answered.
    Execute { call: CallId, caller: Caller, request: Box<AnyRequest>, verdict: Box<Verdict> },
    /// The guest sees its new device.
    Attached(AttachmentId),
    /// The device is gone.
    Detached(AttachmentId),
    /// IMDS lists the MAC, with the primary address only.
    ImdsMac(AttachmentId),
    /// IMDS shows the ENI as it now is.
    ImdsRefresh(EniId),
    /// IMDS no longer lists the MAC.
    ImdsDrop { instance: InstanceId, mac: Mac, attachment: AttachmentId },
    /// An instance that was launched or started is up.
    Booted(InstanceId),
    /// An instance that was told to stop, or to end, is down.
    Down(InstanceId),
    /// The status checks of an instance have passed, if it has not been off since it came up at this moment.
    Checked { instance: InstanceId, up: Time },
    /// A terminated instance is shown no longer.
    Forget(InstanceId),
    /// A CIDR of the VPC is there, or gone.
    CidrSettled(String),
}

impl Task {
    /// Whether what EC2 shows may be another after it.
    fn changes_world(&self) -> bool {
        match self {
            Self::Execute { request, .. } => !is_read(request),
            Self::ImdsMac(_) | Self::ImdsRefresh(_) | Self::ImdsDrop { .. } => false,
            _ => true,
        }
    }
}

/// A call with a client token that has been carried out.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) at: Time,
    pub(crate) request: AnyRequest,
    pub(crate) answer: AnyResponse,
}

/// A VPC in EC2.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub(crate) world: World,
    pub(crate) dice: Dice,
    pub(crate) setup: Setup,
    /// The time of what is being carried out. Never goes back.
    pub(crate) now: Time,
    pub(crate) imds: Imds,
    /// Calls by action and client token.
    pub(crate) tokens: BTreeMap<(String, String), Remembered>,
    /// Token buckets that somebody has taken from, by name.
    pub(crate) buckets: BTreeMap<String, Level>,
    pub(crate) faults: Faults,
    /// What roles may do; a role that is not here may do everything.
    pub(crate) policies: BTreeMap<String, Policy>,
    /// Older worlds, for reads that lag.
    pub(crate) past: Past,
    /// Faults that had a hand in what is being carried out.
    pub(crate) touched: Vec<FaultId>,
    queue: BTreeMap<(Time, u64), Task>,
    /// The network as the fabric last heard of it.
    told: NetworkPlan,
    outputs: VecDeque<Output>,
    sequence: u64,
}

impl Cloud {
    /// A world at `Time(0)`. The first [`Cloud::advance`] gives a [`FabricEvent::Network`] and an [`FabricEvent::InstanceStarted`] for each instance.
    ///
    /// # Errors
    /// What EC2 would not take in the description.
    pub fn new(spec: WorldSpec, setup: Setup) -> Result<Self, WorldError> {
        let mut dice = Dice::new(setup.seed);
        let world = World::new(spec, &mut dice)?;
        let mut cloud = Self {
            imds: Imds::of(&world),
            world,
            dice,
            setup,
            now: Time(0),
            tokens: BTreeMap::new(),
            buckets: BTreeMap::new(),
            faults: Faults::default(),
            policies: BTreeMap::new(),
            past: Past::default(),
            touched: Vec::new(),
            queue: BTreeMap::new(),
            told: NetworkPlan::default(),
            outputs: VecDeque::new(),
            sequence: 0,
        };
        for role in &cloud.world.spec.roles {
            if let Some(policy) = role.policy()? {
                cloud.policies.insert(role.name.clone(), policy);
            }
        }
        cloud.network_changed();
        for id in cloud.world.instances.keys().cloned().collect::<Vec<_>>() {
            cloud.announce(&id);
        }
        Ok(cloud)
    }

    /// The description the world was built from.
    #[must_use]
    pub fn spec(&self) -> &WorldSpec {
        &self.world.spec
    }

    /// The network around the ENIs as it is now: what the last [`FabricEvent::Network`] said, or will say.
    #[must_use]
    pub fn network(&self) -> NetworkPlan {
        self.world.plan()
    }

    /// What the world was started with.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The account has these token buckets from now on, all of them full.
    pub fn set_throttle(&mut self, throttle: Throttle) {
        self.setup.throttle = throttle;
        self.buckets.clear();
    }

    /// What the calendar shows at `now`, skewed if a fault skews it.
    #[must_use]
    pub fn wall(&self, now: Time) -> WallTime {
        let WallTime(nanos) = self.setup.wall + now.since(Time(0));
        WallTime(nanos.saturating_add(self.skew_ms().saturating_mul(NANOS_PER_MILLI)))
    }

    /// Takes in a call. The answer comes out of a later (or, in the profile `instant`, the next) [`Cloud::advance`].
    pub fn submit(&mut self, now: Time, caller: &Caller, request: AnyRequest) -> CallId {
        self.catch_up(now);
        let verdict = self.judge(caller, &request);
        // Whoever has no token is told so as fast as EC2 answers anything.
        let span = if verdict.throttled { self.setup.profile.describe } else { self.latency(&request) };
        let call = CallId(self.sequence);
        self.later(
            span.longer(verdict.delay),
            Task::Execute { call, caller: caller.clone(), request: Box::new(request), verdict: Box::new(verdict) },
        );
        call
    }

    /// Lets time pass. Returns everything that came out since the last time, in order; effects before answers.
    pub fn advance(&mut self, now: Time) -> Vec<Output> {
        self.catch_up(now);
        self.outputs.drain(..).collect()
    }

    /// When something will next come out or change by itself; the past or present if something is ready now.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        if self.outputs.is_empty() { self.queue.keys().next().map(|(at, _)| *at) } else { Some(self.now) }
    }

    /// Switches an instance on or off. Off keeps its ENIs and addresses, but for an automatic public one.
    ///
    /// # Errors
    /// There is no such instance, or it is terminated.
    pub fn power(&mut self, now: Time, instance: &InstanceId, on: bool) -> Result<(), ApiError> {
        self.catch_up(now);
        let state = self.world.instances.get(instance).ok_or_else(|| ApiError::no_instance(instance))?;
        match (state.power, on) {
            (Power::Terminated | Power::ShuttingDown, _) => {
                return Err(ApiError::client(
                    "IncorrectInstanceState",
                    format!("The instance '{instance}' is not in a state from which it can be started or stopped."),
                ));
            }
            (Power::Running, true) | (Power::Stopped, false) => {}
            (_, true) => self.start(instance),
            (_, false) => self.stop(instance),
        }
        Ok(())
    }

    /// Terminates an instance: ENIs marked so go with it, the others become `available`.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn terminate(&mut self, now: Time, instance: &InstanceId) -> Result<(), ApiError> {
        self.catch_up(now);
        if !self.world.instances.contains_key(instance) {
            return Err(ApiError::no_instance(instance));
        }
        self.end_instance(instance);
        Ok(())
    }

    /// Maps a public address to a private one, or takes the mapping away.
    ///
    /// # Errors
    /// No ENI has the private address, or somebody else has the public one.
    pub fn map_public(&mut self, now: Time, private: Ipv4Addr, public: Option<Ipv4Addr>) -> Result<(), ApiError> {
        self.catch_up(now);
        let id = self.world.owner_of(private).map(|eni| eni.id.clone());
        let id = id.ok_or_else(|| ApiError::value(format!("No network interface has the address {private}.")))?;
        let current = self.world.enis.get(&id).and_then(|eni| eni.public.get(&private).copied());
        if current == public {
            return Ok(());
        }
        if let Some(wanted) = public.filter(|wanted| self.world.public.contains(wanted)) {
            return Err(ApiError::client("Resource.AlreadyAssociated", format!("The address {wanted} is in use.")));
        }
        self.set_public(&id, private, public);
        Ok(())
    }

    /// The instance with an ENI that holds a private address, alone or in a prefix.
    #[must_use]
    pub fn instance_at(&self, address: Ipv4Addr) -> Option<InstanceId> {
        Some(self.world.owner_of(address)?.attachment.as_ref()?.instance.clone())
    }

    /// How many /28 blocks a subnet could still give out as prefixes.
    #[must_use]
    pub fn free_prefixes(&self, subnet: &SubnetId) -> u32 {
        self.world.subnets.get(subnet).map_or(0, |subnet| subnet.pool.free_blocks())
    }

    /// The instance of that name.
    #[must_use]
    pub fn instance_named(&self, name: &str) -> Option<InstanceId> {
        self.world.instances.values().find(|instance| instance.spec.name == name).map(|i| i.spec.id.clone())
    }

    /// The name of an instance.
    #[must_use]
    pub fn name_of(&self, instance: &InstanceId) -> Option<String> {
        self.world.instances.get(instance).map(|instance| instance.spec.name.clone())
    }

    /// Whether IMDS wants a session token with every request of an instance.
    #[must_use]
    pub fn tokens_required(&self, instance: &InstanceId) -> bool {
        self.world.instances.get(instance).is_none_or(|instance| instance.spec.tokens_required)
    }

    /// How far IMDS token answers for an instance may travel.
    #[must_use]
    pub fn hop_limit(&self, instance: &InstanceId) -> Option<u8> {
        self.world.instances.get(instance).map(|instance| instance.spec.hop_limit)
    }

    // -- below: used by the actions ------------------------------------------------------------------------------------

    /// Plans something for later.
    pub(crate) fn later(&mut self, span: Span, task: Task) {
        let at = self.now + self.dice.span(span);
        self.queue.insert((at, self.sequence), task);
        self.sequence += 1;
    }

    pub(crate) fn emit(&mut self, event: FabricEvent) {
        self.outputs.push_back(Output::Fabric(event));
    }

    /// Puts a public address that nobody has in front of a private one of an ENI, or takes away the one that is there.
    pub(crate) fn set_public(&mut self, id: &EniId, private: Ipv4Addr, public: Option<Ipv4Addr>) {
        let Some(eni) = self.world.enis.get_mut(id) else { return };
        let before = match public {
            Some(public) => eni.public.insert(private, public),
            None => eni.public.remove(&private),
        };
        if before == public {
            return;
        }
        before.iter().for_each(|old| _ = self.world.public.remove(old));
        self.world.public.extend(public);
        self.emit(FabricEvent::PublicMappingChanged { private, public });
        self.later(self.setup.profile.imds_change, Task::ImdsRefresh(id.clone()));
    }

    /// Tells the fabric the network as it now is, if that is not what it last heard. To be called before the events of the
    /// same change.
    pub(crate) fn network_changed(&mut self) {
        let plan = self.world.plan();
        if plan != self.told {
            self.told.clone_from(&plan);
            self.emit(FabricEvent::Network(Box::new(plan)));
        }
    }

    /// Tells fabric and IMDS that addresses, groups or source check of an ENI are others now.
    pub(crate) fn eni_changed(&mut self, id: &EniId) {
        let Some(eni) = self.world.enis.get(id) else { return };
        if let (Some(instance), Some(eni)) = (eni.seen_by().cloned(), eni.attached()) {
            self.emit(FabricEvent::EniChanged { instance, eni });
        }
        self.later(self.setup.profile.imds_change, Task::ImdsRefresh(id.clone()));
    }

    /// Deletes an ENI and ends its public mappings. Routes to it lead nowhere from now on.
    pub(crate) fn remove_eni(&mut self, id: &EniId) {
        if let Some(eni) = self.world.delete_eni(id) {
            self.network_changed();
            for private in eni.public.into_keys() {
                self.emit(FabricEvent::PublicMappingChanged { private, public: None });
            }
        }
    }

    pub(crate) fn announce(&mut self, instance: &InstanceId) {
        let enis = self.world.enis_of(instance).iter().filter_map(|eni| eni.attached()).collect();
        self.emit(FabricEvent::InstanceStarted { instance: instance.clone(), enis });
    }

    /// Lets time pass without taking what comes out.
    pub(crate) fn catch_up(&mut self, now: Time) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), task) = entry.remove_entry();
            self.now = self.now.max(at);
            self.carry_out(task);
        }
        self.now = self.now.max(now);
    }

    fn carry_out(&mut self, task: Task) {
        if task.changes_world() {
            self.remember();
        }
        match task {
            Task::Execute { call, caller, request, verdict } => self.finish_call(call, &caller, *request, *verdict),
            Task::Attached(id) => self.finish_attachment(&id),
            Task::Detached(id) => self.finish_detachment(&id),
            Task::ImdsMac(id) => {
                if let Some(eni) = self.world.attached_as(&id).map(|eni| eni.id.clone()) {
                    self.imds.list(&self.world, &id, self.setup.imds.hollow_when_new);
                    self.later(self.setup.profile.imds_secondaries, Task::ImdsRefresh(eni));
                }
            }
            Task::ImdsRefresh(eni) => self.imds.refresh(&self.world, &eni),
            Task::ImdsDrop { instance, mac, attachment } => self.imds.drop_mac(&instance, mac, &attachment),
            Task::Booted(instance) => self.booted(&instance),
            Task::Down(instance) => self.went_down(&instance),
            Task::Checked { instance, up } => self.checked(&instance, up),
            Task::Forget(instance) => self.forget_instance(&instance),
            Task::CidrSettled(id) => self.cidr_settled(&id),
        }
    }

    fn finish_call(&mut self, call: CallId, caller: &Caller, request: AnyRequest, verdict: Verdict) {
        self.touched = verdict.faults;
        let result = match verdict.refused {
            Some(refused) => Err(refused),
            None => self.permit(caller, &request).and_then(|()| self.execute_late(request, verdict.lag)).map(Box::new),
        };
        let faults = std::mem::take(&mut self.touched);
        self.faults.hit(&faults);
        self.outputs.push_back(match verdict.ending {
            Ending::Answer => Output::Answer { call, result, faults },
            Ending::Error(error) => Output::Answer { call, result: Err(error), faults },
            Ending::Lost => Output::Lost { call, faults },
        });
    }

    fn finish_attachment(&mut self, id: &AttachmentId) {
        let Some(eni) = self.world.attached_as(id).map(|eni| eni.id.clone()) else { return };
        let instances = &self.world.instances;
        let Some(state) = self.world.enis.get_mut(&eni) else { return };
        let Some(attachment) = state.attachment.as_mut().filter(|attachment| attachment.tie == Tie::Attaching) else {
            return;
        };
        attachment.tie = Tie::Attached;
        let instance = attachment.instance.clone();
        let runs = instances.get(&instance).is_some_and(|instance| instance.on);
        let announced = std::mem::replace(&mut attachment.seen, runs);
        if runs
            && !announced
            && let Some(eni) = state.attached()
        {
            self.emit(FabricEvent::EniAttached { instance, eni });
        }
    }

    fn finish_detachment(&mut self, id: &AttachmentId) {
        let Some(eni) = self.world.attached_as(id).map(|eni| eni.id.clone()) else { return };
        let Some(mac) = self.world.enis.get(&eni).map(|eni| eni.mac) else { return };
        let Some(attachment) = self.world.enis.untie(&eni) else { return };
        let instance = attachment.instance;
        if attachment.seen {
            self.emit(FabricEvent::EniDetached { instance: instance.clone(), eni, mac });
        }
        if self.setup.imds.hollow_when_gone {
            self.imds.hollow(&instance, mac);
        }
        self.later(self.setup.profile.imds_drop, Task::ImdsDrop { instance, mac, attachment: attachment.id });
    }

    fn latency(&self, request: &AnyRequest) -> Span {
        let profile = &self.setup.profile;
        match request {
            AnyRequest::CreateNetworkInterface(_) => profile.create,
            AnyRequest::AttachNetworkInterface(_) => profile.attach,
            AnyRequest::DetachNetworkInterface(_) => profile.detach,
            AnyRequest::AssignIpv6Addresses(_)
            | AnyRequest::AssignPrivateIpAddresses(_)
            | AnyRequest::UnassignIpv6Addresses(_)
            | AnyRequest::UnassignPrivateIpAddresses(_) => profile.assign,
            AnyRequest::RunInstances(_) => profile.run,
            other if other.name().starts_with("Describe") || other.name().starts_with("Get") => profile.describe,
            _ => profile.modify,
        }
    }

    /// Whether an ENI holds exactly this slot as a secondary one.
    pub(crate) fn holds(&self, eni: &EniId, slot: Slot) -> bool {
        self.world.enis.get(eni).is_some_and(|eni| match slot {
            Slot::Address(address) => eni.secondary.contains(&address),
            Slot::Prefix(prefix) => eni.prefixes.contains(&prefix),
        })
    }
}
