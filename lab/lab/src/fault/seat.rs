//! The place of the Kubernetes API in a lab: whoever serves it sits down here, and faults send it away.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A Kubernetes API server that can be told to be away.
pub trait ApiServer: Send + Sync + std::fmt::Debug {
    /// Where nodes reach it.
    fn address(&self) -> Ipv4Addr;

    /// From now on (`true`) nobody gets an answer and open watches end; or everything is as before (`false`).
    fn set_away(&self, away: bool);
}

/// Where the Kubernetes API is served from. It is empty until somebody takes it.
#[derive(Debug, Default)]
pub struct ApiSeat(Mutex<Seat>);

#[derive(Debug, Default)]
struct Seat {
    door: Option<TcpListener>,
    server: Option<Arc<dyn ApiServer>>,
}

impl ApiSeat {
    /// An empty seat. `door` is a listener on the host's loopback, if it has one.
    #[must_use]
    pub fn new(door: Option<TcpListener>) -> Self {
        Self(Mutex::new(Seat { door, server: None }))
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listener on the host's loopback, once.
    #[must_use]
    pub fn take_door(&self) -> Option<TcpListener> {
        self.seat().door.take()
    }

    /// This is the server from now on.
    pub fn sit(&self, server: Arc<dyn ApiServer>) {
        self.seat().server = Some(server);
    }

    /// Where nodes reach the server, if there is one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.seat().server.as_ref().map(|server| server.address())
    }

    /// Sends the server away or has it back. `false`: there is none.
    #[must_use]
    pub fn set_away(&self, away: bool) -> bool {
        let server = self.seat().server.clone();
        server.map(|server| server.set_away(away)).is_some()
    }
}
