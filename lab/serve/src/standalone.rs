//! EC2 and IMDS on one listener, without a fabric: what `vpc-lab cloud` runs.

use std::net::TcpListener;

use lab_cloud::{Setup, WorldError, WorldSpec};
use vpc_model::InstanceId;

use crate::driver::{CloudHandle, start};
use crate::ec2::Ec2;
use crate::http::{Call, HangUp, Reply, Server, Service, serve};
use crate::imds::{Imds, ImdsCallers, ImdsOptions};

/// Why a cloud could not be served.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The description of the world is faulty.
    #[error(transparent)]
    World(#[from] WorldError),
    /// There is nobody IMDS could speak to.
    #[error("IMDS has no instance to speak to: {0}")]
    NoInstance(String),
    /// The listener cannot be used.
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves EC2 and IMDS on one listener: paths below `/latest/` (or another version) are IMDS as one instance sees it,
/// everything else is EC2. `instance` is the id or name of that instance; `None`: the first of the world.
///
/// # Errors
/// The world is faulty, there is no such instance, or the listener cannot be used.
pub fn standalone(
    listener: TcpListener,
    spec: WorldSpec,
    setup: Setup,
    instance: Option<&str>,
) -> Result<(CloudHandle, Server), StandaloneError> {
    let chosen = choose(&spec, instance)?;
    // Nobody takes the events: without a receiver the driver does not wait for a fabric.
    let (cloud, _) = start(spec, setup)?;
    let imds = ImdsOptions { callers: ImdsCallers::Fixed(chosen), routers_between: 0 };
    let both = Both { imds: Imds::new(cloud.clone(), imds), ec2: Ec2::new(cloud.clone()) };
    Ok((cloud, serve(listener, both)?))
}

fn choose(spec: &WorldSpec, wanted: Option<&str>) -> Result<InstanceId, StandaloneError> {
    let Some(wanted) = wanted else {
        let first = spec.instances.first().map(|instance| instance.id.clone());
        return first.ok_or_else(|| StandaloneError::NoInstance("the world has none".to_owned()));
    };
    let found = spec.instances.iter().find(|instance| instance.name == wanted || instance.id.as_str() == wanted);
    found.map(|instance| instance.id.clone()).ok_or_else(|| {
        let names: Vec<_> = spec.instances.iter().map(|instance| instance.name.as_str()).collect();
        StandaloneError::NoInstance(format!("there is no `{wanted}`, expected one of {}", names.join(", ")))
    })
}

struct Both {
    imds: Imds,
    ec2: Ec2,
}

impl Service for Both {
    async fn answer(&self, call: Call) -> Result<Reply, HangUp> {
        if Imds::has(call.uri.path()) { self.imds.answer(call).await } else { self.ec2.answer(call).await }
    }
}
