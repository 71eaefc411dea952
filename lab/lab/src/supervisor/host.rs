//! The lab's doors on the host: EC2 (and the Kubernetes API) for programs that people start outside of the lab.
//!
//! A socket belongs for ever to the network it was made in. So the listeners are made before the supervisor leaves the host's
//! network, and its server threads, which live in the lab's, answer on them all the same.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use lab_serve::{CloudHandle, serve_ec2};
use tokio::runtime::Runtime;

use crate::control::HostEndpoints;
use crate::fault::ApiSeat;

/// Listeners on the host's loopback that nobody serves yet.
#[derive(Debug)]
pub(super) struct HostDoors {
    ec2: std::io::Result<TcpListener>,
    kube: std::io::Result<TcpListener>,
}

/// A listener that somebody can reach: where the loopback is down, the kernel lets one listen all the same.
fn door() -> std::io::Result<TcpListener> {
    /// On a loopback that works it takes no time.
    const PATIENCE: Duration = Duration::from_secs(1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    // What just knocked is gone; nobody has to answer it.
    listener.accept()?;
    Ok(listener)
}

impl HostDoors {
    /// Opens them, as far as the host has a loopback. To be called on the host.
    pub(super) fn open() -> Self {
        Self { ec2: door(), kube: door() }
    }

    /// Serves EC2, and says where. The other door comes back, for whoever serves the Kubernetes API.
    ///
    /// # Errors
    /// The server can not be started.
    pub(super) fn serve(self, runtime: &Runtime, cloud: &CloudHandle) -> Result<(HostEndpoints, ApiSeat), String> {
        let _inside = runtime.enter();
        let seat = ApiSeat::new(self.kube.ok());
        let listener = match self.ec2 {
            Ok(listener) => listener,
            Err(e) => {
                let problem =
                    format!("programs of this machine can not reach the lab: listen on {}: {e}", Ipv4Addr::LOCALHOST);
                tracing::warn!("{problem}");
                return Ok((HostEndpoints { problem: Some(problem), ..HostEndpoints::default() }, seat));
            }
        };
        let server = serve_ec2(cloud.clone(), listener).map_err(|e| format!("serve EC2 on the host: {e}"))?;
        let ec2 = Some(server.address());
        // It lives as long as the process.
        std::mem::forget(server);
        Ok((HostEndpoints { ec2, kube: None, problem: None }, seat))
    }
}
