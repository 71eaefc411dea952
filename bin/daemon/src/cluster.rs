//! Kubernetes beside the agent: news in through the door, events out. Nothing waits for it: while the API server is away, what it said
//! last holds, and events wait or are lost.
//!
//! ```text
//!   Cluster (watches) --ClusterNews--> door --Input::Cluster--> Agent --Notice--> Shell --its event--> Events --> the API
//! ```

use std::env;

use tokio::sync::mpsc;
use vpc_agent::{ClusterNews, Config, Input, NodeView};
use vpc_cluster::{Access, Cluster, Environment, Identity, Pace, Wanted};

use crate::door::Door;
use crate::settings::KubernetesSettings;

/// News that may wait for the door.
const ROOM: usize = 8;

/// What is needed to speak to the API server.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// Where it is and who we are to it.
    pub access: Access,
    /// Who we are in the cluster.
    pub identity: Identity,
}

impl Kubernetes {
    /// What settings and environment (`KUBECONFIG`, `KUBERNETES_SERVICE_HOST` and `_PORT`) come to. Without an API server the daemon
    /// does all it can without; that is said here.
    #[must_use]
    pub fn find(settings: &KubernetesSettings, version: &str) -> Option<Self> {
        let text = |name: &str| env::var(name).unwrap_or_default();
        let environment = Environment {
            kubeconfig: text("KUBECONFIG"),
            service_host: text("KUBERNETES_SERVICE_HOST"),
            service_port: text("KUBERNETES_SERVICE_PORT"),
            endpoint: settings.endpoint.clone().unwrap_or_default(),
            ..Environment::default()
        };
        let access = match Access::find(&environment) {
            Ok(Some(access)) => access,
            Ok(None) => {
                tracing::info!(
                    "no Kubernetes API here (KUBERNETES_SERVICE_HOST, KUBECONFIG and CLUSTER_ENDPOINT are not set): no events, no \
                     look-ahead, no ENIConfigs"
                );
                return None;
            }
            Err(error) => {
                tracing::error!("the Kubernetes API is not asked: {error}; no events, no look-ahead, no ENIConfigs");
                return None;
            }
        };
        tracing::info!(node = settings.node_name, "the Kubernetes API is looked for at {}", access.server());
        let identity = Identity {
            node: settings.node_name.clone(),
            pod: settings.pod_name.clone(),
            user_agent: format!("aws-k8s-agent-{version}"),
        };
        Some(Self { access, identity })
    }

    /// Starts the watches; their news come through the door.
    pub(crate) fn start(&self, config: &Config, door: Door) -> Cluster {
        let (tell, mut news) = mpsc::channel(ROOM);
        let cluster = Cluster::start(&self.access, &self.identity, wanted(config), Pace::default(), tell);
        // It ends with the watches.
        tokio::spawn(async move {
            while let Some(news) = news.recv().await {
                log(&news);
                door.tell(Input::Cluster(news)).await;
            }
        });
        cluster
    }
}

/// News as people see them in the log. Pods come and go too often to be told above debug.
fn log(news: &ClusterNews) {
    match news {
        ClusterNews::Node(node) => {
            let NodeView { max_pods, unschedulable, .. } = node;
            tracing::info!(max_pods, unschedulable, "the node object");
        }
        ClusterNews::EniConfigs(configs) => {
            let named: Vec<_> = configs.iter().map(|config| format!("{} ({})", config.name, config.subnet)).collect();
            tracing::info!("ENIConfigs: {}", if named.is_empty() { "none".to_owned() } else { named.join(", ") });
        }
        ClusterNews::Nodes(count) => tracing::info!(count, "nodes of the cluster"),
        ClusterNews::Pods(pods) => tracing::debug!(count = pods.len(), "pods bound to this node"),
        // Told where it is found out, with its reason.
        ClusterNews::Reachable(_) => {}
    }
}

/// What of the cluster the settings need.
pub(crate) fn wanted(config: &Config) -> Wanted {
    Wanted { pods: config.look_ahead, eni_configs: config.placing.custom.is_some() }
}
