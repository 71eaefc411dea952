//! What clients find on a disk: a kubeconfig, or the files a pod's service account is mounted as.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// Where the files of [`InCluster`] lie in a pod.
pub const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The text of a kubeconfig with one cluster, one user and one context named `lab`. It is JSON, which is YAML too.
///
/// `server`: the API's address, `https://HOST:PORT`; `ca_pem`: [`crate::ClusterCa::pem`]; `token`: whoever it is for;
/// `namespace`: where kubectl looks if it is not told.
#[must_use]
pub fn kubeconfig(server: &str, ca_pem: &str, token: &str, namespace: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": namespace}}],
    });
    format!("{config:#}\n")
}

/// The files of in-cluster configuration. Beside them a client needs `KUBERNETES_SERVICE_HOST` and
/// `KUBERNETES_SERVICE_PORT` in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InCluster {
    /// `token`.
    pub token: String,
    /// `ca.crt`.
    pub ca_pem: String,
    /// `namespace`.
    pub namespace: String,
}

impl InCluster {
    /// The files by name.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [("token", &self.token), ("ca.crt", &self.ca_pem), ("namespace", &self.namespace)]
    }

    /// Writes the files into a folder, which is made if it is missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        self.files().iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
    }
}
