//! Where the API server is, how it proves who it is, and how we prove who we are.
//!
//! ```text
//!   KUBECONFIG ---------------------------------------> server, CA, token or certificate
//!   KUBERNETES_SERVICE_HOST + the pod's own secrets --> server, CA, token      (files: read again for each connection)
//!   CLUSTER_ENDPOINT ---------------------------------> in place of either's server
//! ```
//!
//! The empty text of a variable means that it is not set (the reference takes an empty `CLUSTER_ENDPOINT` for this machine).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::kubeconfig;

/// Where a pod finds its service account's files.
pub const SECRETS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The namespace of the daemon set, unless the pod's own secrets say otherwise.
const NAMESPACE: &str = "kube-system";

/// What the environment says about the API server. Empty = not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `KUBECONFIG`: paths separated by colons; the first that exists is read.
    pub kubeconfig: String,
    /// `KUBERNETES_SERVICE_HOST`.
    pub service_host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub service_port: String,
    /// `CLUSTER_ENDPOINT`: `https://host:port`, or without the scheme; `http://` is taken, too.
    pub endpoint: String,
    /// The folder of the pod's service account.
    pub secrets: PathBuf,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            kubeconfig: String::new(),
            service_host: String::new(),
            service_port: String::new(),
            endpoint: String::new(),
            secrets: PathBuf::from(SECRETS),
        }
    }
}

/// Why the API server can not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// An address is none.
    #[error("{variable}=`{value}` is no address of an API server: expected `https://host:port`")]
    Address {
        /// Which variable, or field of a kubeconfig.
        variable: String,
        /// What it says.
        value: String,
    },
    /// A file can not be read.
    #[error("{} can not be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A kubeconfig says something that can not be used.
    #[error("KUBECONFIG {}: {what}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        what: String,
    },
    /// Certificates or a key are of no use.
    #[error("{whose} can not be used: {what}")]
    Certificate {
        /// Where they come from.
        whose: String,
        /// What is wrong.
        what: String,
    },
}

/// The API server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path before every other path; empty or beginning with a slash.
    pub(crate) prefix: String,
    /// Without TLS: a proxy on this machine, say.
    pub(crate) plain: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, prefix, plain } = self;
        let scheme = if *plain { "http" } else { "https" };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{prefix}")
        } else {
            write!(f, "{scheme}://{host}:{port}{prefix}")
        }
    }
}

impl Server {
    /// `variable` is named when the text is no address.
    pub(crate) fn parse(variable: &str, text: &str) -> Result<Self, AccessError> {
        let wrong = || AccessError::Address { variable: variable.to_owned(), value: text.to_owned() };
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = whole.trim().parse().map_err(|_| wrong())?;
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(wrong()),
        };
        if uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        // Nobody's name before the host, and after it a port or nothing.
        let rest = uri.authority().and_then(|authority| authority.as_str().strip_prefix(host)).ok_or_else(wrong)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| wrong())?,
            None if rest.is_empty() => {
                if plain {
                    80
                } else {
                    443
                }
            }
            None => return Err(wrong()),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            plain,
        })
    }
}

/// Whose signature the server's certificate bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Certificates in a PEM file.
    File(PathBuf),
    /// Certificates in PEM form.
    Pem(Vec<u8>),
    /// Whomever this system trusts.
    System,
}

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A token in a file, which may change.
    TokenFile(PathBuf),
    /// A token.
    Token(String),
    /// A certificate and its key, in PEM form.
    Certificate(Vec<u8>, Vec<u8>),
    /// Nobody.
    Nobody,
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenFile(_) => "TokenFile",
            Self::Token(_) => "Token",
            Self::Certificate(..) => "Certificate",
            Self::Nobody => "Nobody",
        })
    }
}

/// How the API server is reached. Cheap to clone; clones share one set-up of TLS, so that sessions are taken up again.
#[derive(Clone, Debug)]
pub struct Access {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    pub(crate) credentials: Credentials,
    /// The name the server's certificate is for, if it is not its host's.
    pub(crate) server_name: Option<String>,
    pub(crate) namespace: String,
    pub(crate) tls: Arc<Mutex<Option<Made>>>,
}

/// TLS as it was last set up, and from which certificates.
#[derive(Debug)]
pub(crate) struct Made {
    roots: Vec<u8>,
    config: Arc<ClientConfig>,
}

impl Access {
    /// What the environment comes to; `None`: there is no API server here. Nothing is asked of the network.
    ///
    /// # Errors
    /// What is said can not be used.
    pub fn find(environment: &Environment) -> Result<Option<Self>, AccessError> {
        let endpoint = environment.endpoint.trim();
        let mut access = match first_existing(&environment.kubeconfig) {
            Some(path) => kubeconfig::read(&path)?,
            None if environment.service_host.is_empty() && endpoint.is_empty() => return Ok(None),
            None => in_cluster(environment)?,
        };
        if !endpoint.is_empty() {
            access.server = Server::parse("CLUSTER_ENDPOINT", endpoint)?;
        }
        Ok(Some(access))
    }

    /// Where the server is, for people.
    #[must_use]
    pub fn server(&self) -> String {
        self.server.to_string()
    }

    pub(crate) fn new(server: Server, authority: Authority, credentials: Credentials) -> Self {
        let (server_name, namespace) = (None, NAMESPACE.to_owned());
        Self { server, authority, credentials, server_name, namespace, tls: Arc::default() }
    }

    /// The name the server's certificate must bear.
    pub(crate) fn name(&self) -> Result<ServerName<'static>, AccessError> {
        let name = self.server_name.as_deref().unwrap_or(&self.server.host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| AccessError::Address { variable: "name of the API server".to_owned(), value: name.to_owned() })
    }

    /// The token as it is now.
    pub(crate) fn token(&self) -> Result<Option<String>, AccessError> {
        match &self.credentials {
            Credentials::Token(token) => Ok(Some(token.clone())),
            Credentials::TokenFile(path) => Ok(Some(String::from_utf8_lossy(&read(path)?).trim().to_owned())),
            Credentials::Certificate(..) | Credentials::Nobody => Ok(None),
        }
    }

    /// TLS with the certificates as they are now.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, AccessError> {
        let roots = match &self.authority {
            Authority::File(path) => read(path)?,
            Authority::Pem(pem) => pem.clone(),
            Authority::System => Vec::new(),
        };
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.as_ref().filter(|known| known.roots == roots) {
            return Ok(known.config.clone());
        }
        let config = Arc::new(self.set_up(&roots)?);
        *made = Some(Made { roots, config: config.clone() });
        Ok(config)
    }

    fn set_up(&self, pem: &[u8]) -> Result<ClientConfig, AccessError> {
        let bad = |whose: &str, what: &dyn fmt::Display| AccessError::Certificate {
            whose: whose.to_owned(),
            what: what.to_string(),
        };
        let whose = match &self.authority {
            Authority::File(path) => path.display().to_string(),
            Authority::Pem(_) => "certificate-authority-data".to_owned(),
            Authority::System => "the system's root certificates".to_owned(),
        };
        let mut roots = RootCertStore::empty();
        if self.authority == Authority::System {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|e| bad(&whose, &e))?).map_err(|e| bad(&whose, &e))?;
        }
        if roots.is_empty() {
            return Err(bad(&whose, &"there is no certificate in PEM form"));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("TLS", &e))?
            .with_root_certificates(roots);
        let Credentials::Certificate(chain, key) = &self.credentials else {
            return Ok(builder.with_no_client_auth());
        };
        let whose = "the client's certificate";
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad(whose, &e))?;
        builder.with_client_auth_cert(chain.map_err(|e| bad(whose, &e))?, key).map_err(|e| bad(whose, &e))
    }
}

fn in_cluster(environment: &Environment) -> Result<Access, AccessError> {
    let secrets = &environment.secrets;
    let server = if environment.service_host.is_empty() {
        // CLUSTER_ENDPOINT alone; it is put in place by the caller.
        Server { host: String::new(), port: 443, prefix: String::new(), plain: false }
    } else {
        let host = environment.service_host.as_str();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = if environment.service_port.is_empty() { "443" } else { &environment.service_port };
        Server::parse("KUBERNETES_SERVICE_HOST:KUBERNETES_SERVICE_PORT", &format!("{host}:{port}"))?
    };
    let credentials = Credentials::TokenFile(secrets.join("token"));
    let mut access = Access::new(server, Authority::File(secrets.join("ca.crt")), credentials);
    if let Ok(namespace) = fs::read_to_string(secrets.join("namespace"))
        && !namespace.trim().is_empty()
    {
        access.namespace = namespace.trim().to_owned();
    }
    Ok(access)
}

/// The first file of a list that exists; if none does, the first, so that it is named in the error.
fn first_existing(list: &str) -> Option<PathBuf> {
    let paths: Vec<PathBuf> = list.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    paths.iter().find(|path| path.exists()).or(paths.first()).cloned()
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    fs::read(path).map_err(|error| AccessError::Unreadable { path: path.to_owned(), error })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn found(environment: &Environment) -> Access {
        Access::find(environment).unwrap().unwrap()
    }

    #[test]
    fn in_a_pod_the_service_and_the_secrets_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment {
            service_host: "10.100.0.1".into(),
            service_port: "6443".into(),
            secrets: folder.path().into(),
            ..Environment::default()
        };
        assert_eq!(found(&environment).server(), "https://10.100.0.1:6443");
        assert_eq!(found(&environment).namespace, "kube-system");
        fs::write(folder.path().join("namespace"), "networking\n").unwrap();
        fs::write(folder.path().join("token"), "one\n").unwrap();
        let access = found(&environment);
        assert_eq!((access.namespace.as_str(), access.token().unwrap().unwrap().as_str()), ("networking", "one"));
        // Tokens of pods are renewed by kubelet: the file is read each time.
        fs::write(folder.path().join("token"), "two").unwrap();
        assert_eq!(access.token().unwrap().unwrap(), "two");
        let v6 = Environment { service_host: "fd00::1".into(), service_port: String::new(), ..environment };
        assert_eq!(found(&v6).server(), "https://[fd00::1]:443");
    }

    #[test]
    fn an_endpoint_replaces_the_host_and_an_empty_one_is_none() {
        let inside = Environment { service_host: "10.100.0.1".into(), ..Environment::default() };
        assert_eq!(found(&inside).server(), "https://10.100.0.1:443");
        for (endpoint, server) in [
            ("", "https://10.100.0.1:443"),
            (" ", "https://10.100.0.1:443"),
            ("https://abc.eks.amazonaws.com", "https://abc.eks.amazonaws.com:443"),
            ("api.lab:6443", "https://api.lab:6443"),
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("https://proxy/clusters/one/", "https://proxy:443/clusters/one"),
        ] {
            let environment = Environment { endpoint: endpoint.into(), ..inside.clone() };
            assert_eq!(found(&environment).server(), server, "{endpoint:?}");
        }
        let alone = Environment { endpoint: "api.lab".into(), ..Environment::default() };
        assert_eq!(found(&alone).server(), "https://api.lab:443");
        for rubbish in ["https://", "ftp://x", "a b", "https://api.lab?x=1", "host:port"] {
            let error =
                Access::find(&Environment { endpoint: rubbish.into(), ..inside.clone() }).unwrap_err().to_string();
            assert!(error.contains("CLUSTER_ENDPOINT") && error.contains("expected `https://"), "{rubbish}: {error}");
        }
    }

    #[test]
    fn without_anything_there_is_no_api() {
        assert!(Access::find(&Environment::default()).unwrap().is_none());
    }

    #[test]
    fn certificates_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let access =
            Access::new(Server::parse("x", "api.lab").unwrap(), Authority::File(file.clone()), Credentials::Nobody);
        assert!(matches!(access.tls(), Err(AccessError::Unreadable { .. })));
        fs::write(&file, "hello").unwrap();
        assert!(access.tls().unwrap_err().to_string().contains("ca.crt"));
    }
}
