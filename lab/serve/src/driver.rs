//! Runs the model in real time: one task carries it from one due moment to the next, delivers to the fabric, then answers.
//!
//! The model stands behind a mutex that is never held across an `.await`. Everybody who changes it wakes the driver.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab_cloud::{
    ActiveFault, ApiError, CallId, Caller, Cloud, CloudFault, FabricEvent, FaultError, FaultId, Identity, ImdsAnswer,
    ImdsArrival, NetworkPlan, Output, OutsideEvent, Setup, Snapshot, WorldError, WorldSpec,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse};
use vpc_model::{InstanceId, Time, WallTime};

use crate::record::{CallFilter, CallRecord, Ring, Service};

/// Deliveries on their way to the fabric at most.
const FABRIC_QUEUE: usize = 64;
/// How long the fabric may take to make a change before answers no longer wait for it.
const FABRIC_PATIENCE: Duration = Duration::from_secs(10);

/// Changes for the fabric. EC2's answers wait until it is dropped (or [`Delivery::done`] is called), at most 10 s, so that
/// whoever gets an address from EC2 can use it at once. Until then nothing else is answered: whoever makes the changes
/// must not wait for an answer of the cloud meanwhile.
#[derive(Debug)]
pub struct Delivery {
    /// The changes, in order.
    pub events: Vec<FabricEvent>,
    _done: oneshot::Sender<()>,
}

impl Delivery {
    /// The changes are made.
    pub fn done(self) {}
}

/// The running cloud: ask it, look into it, switch its instances. Cheap to clone; the cloud ends with its last handle.
#[derive(Clone, Debug)]
pub struct CloudHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something was changed or asked: the driver looks again.
    changed: Notify,
    started: Instant,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The answer; `None`: it is lost, the connection ends without one.
    pub(crate) result: Option<Result<Box<AnyResponse>, ApiError>>,
    /// Faults that had a hand in it.
    pub(crate) faults: Vec<FaultId>,
}

#[derive(Debug)]
struct State {
    cloud: Cloud,
    waiting: HashMap<CallId, oneshot::Sender<Answered>>,
    ring: Ring,
    /// Whoever waits until the fabric has made what was decided up to now.
    settling: Vec<oneshot::Sender<()>>,
}

/// Starts a cloud. The receiver gets every change the fabric must make, beginning with the start of each instance; drop it
/// if there is no fabric. The calendar is the machine's own, whatever `setup` says: clients sign with real times. Must be
/// called inside a tokio runtime.
///
/// # Errors
/// What EC2 would not take in the description.
pub fn start(spec: WorldSpec, setup: Setup) -> Result<(CloudHandle, mpsc::Receiver<Delivery>), WorldError> {
    let setup = Setup { wall: wall_now(), ..setup };
    let state =
        State { cloud: Cloud::new(spec, setup)?, waiting: HashMap::new(), ring: Ring::default(), settling: Vec::new() };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), started: Instant::now() });
    let (to_fabric, fabric) = mpsc::channel(FABRIC_QUEUE);
    tokio::spawn(drive(Arc::downgrade(&shared), to_fabric));
    Ok((CloudHandle { shared }, fabric))
}

async fn drive(shared: Weak<Shared>, fabric: mpsc::Sender<Delivery>) {
    /// How often to look whether anybody still holds a handle.
    const ALIVE: Duration = Duration::from_millis(500);
    while let Some(shared) = shared.upgrade() {
        let (outputs, due, settled) = {
            let mut state = shared.lock();
            let now = shared.now();
            (state.cloud.advance(now), state.cloud.next_due(), std::mem::take(&mut state.settling))
        };
        deliver(&shared, &fabric, outputs).await;
        settled.into_iter().for_each(|waiting| _ = waiting.send(()));
        let due = due.map(|due| shared.started + Duration::from_millis(due.0));
        let latest = Instant::now() + ALIVE;
        let changed = shared.changed.notified();
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(due.unwrap_or(latest).min(latest)) => {}
        }
    }
}

/// Hands events to the fabric, waits for it, then answers.
async fn deliver(shared: &Shared, fabric: &mpsc::Sender<Delivery>, outputs: Vec<Output>) {
    let mut events = Vec::new();
    let mut answers = Vec::new();
    for output in outputs {
        match output {
            Output::Fabric(event) => events.push(event),
            Output::Answer { call, result, faults } => answers.push((call, Answered { result: Some(result), faults })),
            Output::Lost { call, faults } => answers.push((call, Answered { result: None, faults })),
        }
    }
    if !events.is_empty() {
        let (done, made) = oneshot::channel();
        let delivered = fabric.send(Delivery { events, _done: done }).await.is_ok();
        if delivered && tokio::time::timeout(FABRIC_PATIENCE, made).await.is_err() {
            tracing::warn!(
                seconds = FABRIC_PATIENCE.as_secs(),
                "the fabric has not made a change in time; EC2 answers without it"
            );
        }
    }
    for (call, answered) in answers {
        if let Some(waiting) = shared.lock().waiting.remove(&call) {
            // A caller that has hung up misses its answer, as on AWS.
            let _ = waiting.send(answered);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl CloudHandle {
    /// Milliseconds since the cloud started.
    #[must_use]
    pub fn now(&self) -> Time {
        self.shared.now()
    }

    /// Calls EC2 without HTTP. The answer comes when EC2 would give it.
    ///
    /// # Errors
    /// EC2's refusal; `Unavailable` if the answer is lost.
    pub async fn call(&self, caller: &Caller, request: impl Into<AnyRequest>) -> Result<AnyResponse, ApiError> {
        let answered = self.ask(caller, request.into()).await;
        answered.result.unwrap_or_else(|| Err(lost())).map(|answer| *answer)
    }

    /// Makes something go wrong in the cloud until it is lifted.
    ///
    /// # Errors
    /// A node, subnet or action that does not exist, or a value that is not accepted.
    pub async fn inject(&self, fault: CloudFault) -> Result<FaultId, FaultError> {
        self.change(|cloud, now| cloud.inject(now, fault)).await
    }

    /// Ends a fault and waits until the fabric has followed.
    ///
    /// # Errors
    /// There is no such fault.
    pub async fn lift(&self, fault: FaultId) -> Result<(), FaultError> {
        self.change(|cloud, now| cloud.lift(now, fault)).await
    }

    /// A number for a fault that is not the cloud's own, so that all faults of a lab are numbered in one row.
    #[must_use]
    pub fn reserve_fault(&self) -> FaultId {
        self.shared.lock().cloud.reserve_fault()
    }

    /// Writes something that was done to the lab down among the calls.
    pub fn note(&self, what: &str, parameters: Vec<(String, String)>, outcome: &str, faults: Vec<FaultId>) {
        self.record(CallRecord {
            number: 0,
            at_ms: self.now().0,
            took_us: 0,
            service: Service::Lab,
            caller: None,
            caller_name: None,
            action: what.to_owned(),
            parameters,
            status: 0,
            error: None,
            answer: outcome.to_owned(),
            request_id: String::new(),
            faults,
        });
    }

    /// The faults that hold now, oldest first.
    #[must_use]
    pub fn faults(&self) -> Vec<ActiveFault> {
        self.shared.lock().cloud.faults()
    }

    /// Lets somebody outside do something, and waits until the fabric has followed.
    ///
    /// # Errors
    /// There is no such ENI, address or tag, or EC2 would not let it happen.
    pub async fn outside(&self, event: OutsideEvent) -> Result<(), FaultError> {
        self.change(|cloud, now| cloud.outside(now, event)).await
    }

    /// What IMDS answers to an instance for a path below `/latest/` (`meta-data/mac`).
    #[must_use]
    pub fn metadata(&self, instance: &InstanceId, path: &str) -> Option<String> {
        let answer = self.shared.lock().cloud.metadata(self.now(), instance, path);
        self.shared.changed.notify_one();
        answer
    }

    /// The world as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.shared.lock().cloud.snapshot(self.now());
        self.shared.changed.notify_one();
        snapshot
    }

    /// The network around the ENIs as it is now.
    #[must_use]
    pub fn network(&self) -> NetworkPlan {
        self.shared.lock().cloud.network()
    }

    /// The calls that pass a filter, oldest first.
    #[must_use]
    pub fn calls(&self, filter: &CallFilter) -> Vec<CallRecord> {
        self.shared.lock().ring.select(filter)
    }

    /// Switches an instance on or off and waits until the fabric has followed. Off keeps ENIs and addresses.
    ///
    /// # Errors
    /// There is no such instance, or it is terminated.
    pub async fn power(&self, instance: &InstanceId, on: bool) -> Result<(), ApiError> {
        self.change(|cloud, now| cloud.power(now, instance, on)).await
    }

    /// Terminates an instance and waits until the fabric has followed.
    ///
    /// # Errors
    /// There is no such instance.
    pub async fn terminate(&self, instance: &InstanceId) -> Result<(), ApiError> {
        self.change(|cloud, now| cloud.terminate(now, instance)).await
    }

    /// Maps a public address to a private one, or takes the mapping away, and waits until the fabric has followed.
    ///
    /// # Errors
    /// No ENI has the private address, or somebody else has the public one.
    pub async fn map_public(&self, private: Ipv4Addr, public: Option<Ipv4Addr>) -> Result<(), ApiError> {
        self.change(|cloud, now| cloud.map_public(now, private, public)).await
    }

    /// Waits until the fabric has made everything that was decided up to now.
    pub async fn settle(&self) {
        let (settled, waiting) = oneshot::channel();
        self.shared.lock().settling.push(settled);
        self.shared.changed.notify_one();
        // An error means that the driver has ended: there is nothing to wait for.
        let _ = waiting.await;
    }

    /// The instance with an ENI that holds a private address, alone or in a prefix.
    #[must_use]
    pub fn instance_at(&self, address: Ipv4Addr) -> Option<InstanceId> {
        self.shared.lock().cloud.instance_at(address)
    }

    /// The instance of that name.
    #[must_use]
    pub fn instance_named(&self, name: &str) -> Option<InstanceId> {
        self.shared.lock().cloud.instance_named(name)
    }

    /// The description the world was built from.
    #[must_use]
    pub fn spec(&self) -> WorldSpec {
        self.shared.lock().cloud.spec().clone()
    }

    // -- below: used by the servers ------------------------------------------------------------------------------------

    pub(crate) async fn ask(&self, caller: &Caller, request: AnyRequest) -> Answered {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            let call = state.cloud.submit(self.now(), caller, request);
            state.waiting.insert(call, answer);
        }
        self.shared.changed.notify_one();
        let gone = || Answered { result: Some(Err(gone())), faults: Vec::new() };
        answered.await.unwrap_or_else(|_| gone())
    }

    pub(crate) fn checks_signatures(&self) -> bool {
        self.shared.lock().cloud.setup().check_signatures
    }

    pub(crate) fn skew_ms(&self) -> i64 {
        self.shared.lock().cloud.skew_ms()
    }

    pub(crate) fn skew_for_signature(&self) -> (i64, Vec<FaultId>) {
        self.shared.lock().cloud.skew_for_signature()
    }

    pub(crate) fn imds_arrival(&self, instance: &InstanceId, asks_token: bool) -> ImdsArrival {
        let arrival = self.shared.lock().cloud.imds_arrival(self.now(), instance, asks_token);
        self.shared.changed.notify_one();
        arrival
    }

    pub(crate) fn imds_answer(&self, instance: &InstanceId, path: &str) -> ImdsAnswer {
        let answer = self.shared.lock().cloud.imds_answer(self.now(), instance, path);
        self.shared.changed.notify_one();
        answer
    }

    pub(crate) fn tokens_required(&self, instance: &InstanceId) -> bool {
        self.shared.lock().cloud.tokens_required(instance)
    }

    pub(crate) fn hop_limit(&self, instance: &InstanceId) -> Option<u8> {
        self.shared.lock().cloud.hop_limit(instance)
    }

    pub(crate) fn identify(&self, access_key: &str) -> Option<Identity> {
        self.shared.lock().cloud.identify(self.now(), access_key)
    }

    pub(crate) fn record(&self, call: CallRecord) {
        self.shared.lock().ring.push(call);
    }

    /// Name of the calling instance.
    pub(crate) fn name_of(&self, caller: Option<&Caller>) -> Option<String> {
        let Some(Caller::Instance(id)) = caller else { return None };
        self.shared.lock().cloud.name_of(id)
    }

    async fn change<T, E>(&self, change: impl FnOnce(&mut Cloud, Time) -> Result<T, E>) -> Result<T, E> {
        let result = change(&mut self.shared.lock().cloud, self.now());
        self.settle().await;
        result
    }
}

fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn lost() -> ApiError {
    ApiError { code: "Unavailable".into(), message: "The answer was lost on its way.".to_owned(), status: 503 }
}

fn gone() -> ApiError {
    ApiError { code: "InternalError".into(), message: "The cloud is shutting down.".to_owned(), status: 500 }
}
