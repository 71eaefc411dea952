//! The Kubernetes API in the lab: where nodes and people find it, and who is who.
//!
//! ```text
//!   kubectl on the host --https--> 127.0.0.1:PORT ----+
//!   a node's programs ---https--> 169.254.169.201 ----+--> lab-kube: objects, watches
//!        (token, CA and namespace lie where a pod has them)    |
//!                                   supervisor/cluster.rs: nodes as Node objects; pods -> scheduler -> kubelet -> status
//! ```

pub(crate) mod node_object;
pub(crate) mod pod_object;
mod role;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lab_kube::{
    ClusterCa, InCluster, KubeError, KubeHandle, KubeSettings, Resource, SERVICE_ACCOUNT_DIR, StoreSettings, User,
    kubeconfig, object, serve_kube,
};
use serde_json::{Value, json};

use crate::fabric::KUBE_ADDRESS;
use crate::fault::ApiServer;
use crate::kubelet::PodName;
use crate::topology::{Content, PlacedFile};

/// Whose token lies on the nodes: the account that the CNI's daemon set runs under.
const ACCOUNT: (&str, &str) = ("kube-system", "aws-node");
/// Port of the API for nodes.
pub const KUBE_PORT: u16 = 443;
/// Permission bits of a pod's token and what lies beside it.
const TOKEN_MODE: u32 = 0o644;

/// The running API and what the lab needs to know beside it.
#[derive(Clone, Debug)]
pub struct Cluster {
    api: KubeHandle,
    /// What people on the host write into a file; `None`: the host has no loopback to listen on.
    kubeconfig: Option<String>,
    account: InCluster,
    /// Pods that a command makes or deletes at this moment: the kubelet of the API leaves them alone.
    claims: Arc<Mutex<BTreeSet<PodName>>>,
}

/// Names of pods that belong to one command until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Mutex<BTreeSet<PodName>>>,
    pod: PodName,
}

impl Cluster {
    /// Starts the API for nodes on `inside`, and for the host on `door`. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start(seed: u64, inside: TcpListener, door: Option<TcpListener>) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("serve the Kubernetes API: {e}");
        let store = StoreSettings { seed, ..StoreSettings::default() };
        let api = KubeHandle::start(KubeSettings { store, ..KubeSettings::default() }).map_err(|e| failed(&e))?;
        let (namespace, name) = ACCOUNT;
        api.create(&Resource::SERVICE_ACCOUNTS, namespace, json!({"metadata": {"name": name}}))
            .map_err(|e| failed(&e))?;
        api.restrict(&User::service_account(namespace, name).name, Some(role::of_the_daemon_set()));
        let ca = ClusterCa::new().map_err(|e| failed(&e))?;
        let addresses = [IpAddr::V4(KUBE_ADDRESS), IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let tls = ca.serving(&[], &addresses).map_err(|e| failed(&e))?;
        let mut host = None;
        for (listener, outside) in std::iter::once((inside, false)).chain(door.map(|door| (door, true))) {
            let server = serve_kube(api.clone(), listener, tls.clone()).map_err(|e| failed(&e))?;
            host = outside.then(|| server.address()).or(host);
            // They live as long as the process.
            std::mem::forget(server);
        }
        let admin = |address: SocketAddr| {
            kubeconfig(&format!("https://{address}"), ca.pem(), &api.user_token(&User::admin()), "default")
        };
        let token = api.token(namespace, name).map_err(|e| failed(&e))?;
        Ok(Self {
            kubeconfig: host.map(admin),
            account: InCluster { token, ca_pem: ca.pem().to_owned(), namespace: namespace.to_owned() },
            api,
            claims: Arc::default(),
        })
    }

    /// The API itself.
    #[must_use]
    pub fn api(&self) -> &KubeHandle {
        &self.api
    }

    /// What `kubectl` on the host reads.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<&str> {
        self.kubeconfig.as_deref()
    }

    /// What a node's daemon finds where a pod finds it: token, CA and namespace.
    #[must_use]
    pub fn files(&self) -> Vec<PlacedFile> {
        let folder = PathBuf::from(SERVICE_ACCOUNT_DIR);
        let file = |(name, text): (&str, &str)| PlacedFile {
            path: folder.join(name),
            content: Content::Text(text.to_owned()),
            mode: TOKEN_MODE,
        };
        self.account.files().map(file).into()
    }

    /// The variables that in-cluster configuration reads, and what the daemon set's manifest has the downward API say on a node. There
    /// is a pod of that name only where the topology has it.
    #[must_use]
    pub fn variables(node: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("MY_NODE_NAME".to_owned(), node.to_owned()),
            ("MY_POD_NAME".to_owned(), format!("{}-{node}", ACCOUNT.1)),
            ("KUBERNETES_SERVICE_HOST".to_owned(), KUBE_ADDRESS.to_string()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), KUBE_PORT.to_string()),
        ])
    }

    /// Makes an object of a manifest; its namespace, if there is none of that name.
    ///
    /// # Errors
    /// There is no such kind, or the object breaks its rules.
    pub fn put(&self, object: &Value) -> Result<(), String> {
        let (api_version, kind) = (object::text(object, "/apiVersion"), object::text(object, "/kind"));
        let what = || format!("object {} of kind {kind}", object::name(object));
        let definition = self.api.definition_of(api_version, kind);
        let definition = definition.ok_or_else(|| format!("{}: the API has no such kind in {api_version}", what()))?;
        let namespace = match (definition.namespaced, object::namespace(object)) {
            (false, _) => "",
            (true, "") => "default",
            (true, own) => own,
        };
        let made = if namespace.is_empty() { Ok(()) } else { self.ensure_namespace(namespace) };
        made.and_then(|()| self.api.create(&definition.resource, namespace, object.clone()))
            .map_err(|e| format!("{}: {e}", what()))?;
        Ok(())
    }

    fn claims(&self) -> MutexGuard<'_, BTreeSet<PodName>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a pod for one command alone; `None`: somebody is at it already.
    pub(crate) fn claim(&self, pod: &PodName) -> Option<Claim> {
        let taken = self.claims().insert(pod.clone());
        taken.then(|| Claim { claims: Arc::clone(&self.claims), pod: pod.clone() })
    }

    /// Makes a namespace, unless it is there.
    pub(crate) fn ensure_namespace(&self, name: &str) -> Result<(), KubeError> {
        match self.api.create(&Resource::NAMESPACES, "", json!({"metadata": {"name": name}})) {
            Ok(_) | Err(KubeError::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

impl Claim {
    /// The pod.
    pub(crate) fn pod(&self) -> &PodName {
        &self.pod
    }
}

impl ApiServer for Cluster {
    fn address(&self) -> Ipv4Addr {
        KUBE_ADDRESS
    }

    fn set_away(&self, away: bool) {
        self.api.set_away(away);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pod);
    }
}
