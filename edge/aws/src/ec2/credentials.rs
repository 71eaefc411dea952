//! Credentials: AWS's own chain (environment, profile, web identity, container, IMDS), kept until shortly before they expire.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_types::error::display::DisplayErrorContext;
use tokio::sync::Mutex;

use super::Clock;
use crate::http::{CaBundleError, Connectors, CredentialsHttp, read_ca_bundle};
use crate::settings::{Ec2Settings, ImdsSettings};

/// New credentials are fetched this long before the old ones expire; until they do, the old ones serve if the fetch fails.
const REFRESH_BEFORE: Duration = Duration::from_mins(5);

/// For one walk through the chain: it may have to ask STS and IMDS, each with attempts of its own.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// There are no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no AWS credentials: {0}; give the service account a role (IRSA or Pod Identity), the node an instance profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)]
pub struct CredentialsError(pub String);

/// AWS's default chain, with IMDS where `imds` says. Nothing is fetched yet.
///
/// # Errors
/// `AWS_CA_BUNDLE` is no bundle.
pub async fn default_chain(
    settings: &Ec2Settings,
    imds: &ImdsSettings,
    region: &str,
) -> Result<SharedCredentialsProvider, CaBundleError> {
    let bundle = settings.ca_bundle.as_deref().map(read_ca_bundle).transpose()?;
    // STS may lie behind a proxy; IMDS never does.
    let sts = SharedHttpConnector::new(Connectors::new(Duration::from_secs(3), true, bundle));
    let local = SharedHttpConnector::new(Connectors::new(imds.connect_timeout, false, None));
    let region = aws_config::Region::new(region.to_owned());
    let base = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_use_fips(Some(settings.fips))
        .with_use_dual_stack(Some(settings.dual_stack));
    let metadata = aws_config::imds::Client::builder()
        .configure(&base.clone().with_http_client(CredentialsHttp(local)))
        .connect_timeout(imds.connect_timeout)
        .max_attempts(imds.max_attempts);
    let metadata = match metadata.endpoint(&imds.endpoint) {
        Ok(builder) => builder.build(),
        // The endpoint has been checked to be a URL when the settings were read.
        Err(_) => aws_config::imds::Client::builder().configure(&base).build(),
    };
    let chain = DefaultCredentialsChain::builder()
        .region(region)
        .imds_client(metadata)
        .configure(base.with_http_client(CredentialsHttp(sts)))
        .build()
        .await;
    Ok(SharedCredentialsProvider::new(chain))
}

/// The last credentials, fetched by one caller while the others wait.
#[derive(Clone)]
pub(crate) struct CredentialCache {
    provider: SharedCredentialsProvider,
    clock: Clock,
    last: Arc<Mutex<Option<Credentials>>>,
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialCache(..)")
    }
}

impl CredentialCache {
    pub(crate) fn new(provider: SharedCredentialsProvider, clock: Clock) -> Self {
        Self { provider, clock, last: Arc::default() }
    }

    pub(crate) async fn get(&self) -> Result<Credentials, CredentialsError> {
        let mut last = self.last.lock().await;
        let now = (self.clock)();
        if let Some(fresh) = last.as_ref().filter(|c| lives_until(c, now + REFRESH_BEFORE)) {
            return Ok(fresh.clone());
        }
        match self.fetch().await {
            Ok(new) => Ok(last.insert(new).clone()),
            Err(error) => last.clone().filter(|old| lives_until(old, now)).ok_or(error),
        }
    }

    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        match tokio::time::timeout(FETCH_TIMEOUT, self.provider.provide_credentials()).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error)) => Err(CredentialsError(DisplayErrorContext(&error).to_string())),
            Err(_) => Err(CredentialsError(format!("no answer from their source in {} s", FETCH_TIMEOUT.as_secs()))),
        }
    }

    /// Forgets credentials that EC2 did not take, unless others have come in the meantime.
    pub(crate) async fn reject(&self, bad: &Credentials) {
        let mut last = self.last.lock().await;
        if last.as_ref().is_some_and(|c| c.access_key_id() == bad.access_key_id()) {
            *last = None;
        }
    }
}

fn lives_until(credentials: &Credentials, time: SystemTime) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > time)
}
