//! A Kubernetes API for one test, with a disk's worth of configuration for clients, and `kubectl` as one of them.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lab_kube::{ClusterCa, InCluster, KubeHandle, KubeSettings, Resource, Server, User, kubeconfig, serve_kube};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A running API on a port of the loopback interface.
#[derive(Debug)]
pub struct Api {
    /// The API from within.
    pub handle: KubeHandle,
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// A kubeconfig of an administrator, and home of clients that want one.
    pub folder: TempDir,
    ca_pem: String,
    tools: PathBuf,
    _server: Server,
    runtime: Runtime,
}

/// What a program said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code was 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

#[expect(clippy::expect_used, reason = "a crate of tests")]
impl Api {
    /// Starts one; `tools` is where the programs of `tests/strangers/kube` lie.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(tools: PathBuf, settings: KubeSettings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
        let handle = KubeHandle::start(settings).expect("an API");
        let ca = ClusterCa::new().expect("a CA");
        let tls = ca.serving(&[], &["127.0.0.1".parse().expect("an address")]).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = serve_kube(handle.clone(), listener, tls).expect("a server");
        let address = server.address();
        let folder = tempfile::tempdir().expect("a folder");
        let text = kubeconfig(&format!("https://{address}"), ca.pem(), &handle.user_token(&User::admin()), "default");
        fs::write(folder.path().join("kubeconfig"), text).expect("a file");
        drop(_inside);
        Self { handle, address, folder, ca_pem: ca.pem().to_owned(), tools, _server: server, runtime }
    }

    /// `kubectl ARGUMENTS`, with something to read on its standard input.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self.begin_kubectl(arguments);
        // A program that wants to read nothing may have ended.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        said(child)
    }

    /// `kubectl ARGUMENTS` that goes on; its three streams are pipes.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn begin_kubectl(&self, arguments: &[&str]) -> Child {
        self.command("kubectl")
            .arg("--kubeconfig")
            .arg(self.folder.path().join("kubeconfig"))
            .args(arguments)
            .spawn()
            .expect("kubectl runs")
    }

    /// One of the strangers, with pipes for its streams, and nothing in its environment but a home.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.tools.join(program));
        command.env_clear().env("HOME", self.folder.path()).env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Writes the files of in-cluster configuration for a service account, which is made if it is missing.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn in_cluster(&self, namespace: &str, account: &str) -> PathBuf {
        // It may be there already.
        let object = json!({"metadata": {"name": account}});
        let _ = self.handle.create(&Resource::SERVICE_ACCOUNTS, namespace, object);
        let token = self.handle.token(namespace, account).expect("a token");
        let folder = self.folder.path().join(format!("{namespace}-{account}"));
        let files = InCluster { token, ca_pem: self.ca_pem.clone(), namespace: namespace.to_owned() };
        files.write(&folder).expect("files");
        folder
    }

    /// Runs something that waits, for example for a watch.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// An object that must be there.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn object(&self, resource: &Resource, namespace: &str, name: &str) -> Value {
        self.handle.get(resource, namespace, name).expect("the object")
    }
}

/// Waits for a program's end.
///
/// # Panics
/// When its output cannot be read.
#[must_use]
#[expect(clippy::expect_used, reason = "a crate of tests")]
pub fn said(child: Child) -> Said {
    let output = child.wait_with_output().expect("its output");
    Said {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
