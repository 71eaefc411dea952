//! A daemon that answers the reference's contract from memory: an address of the second ENI for each ADD, taken back by its DEL. It
//! asks no cloud, writes no checkpoint and changes nothing on the host.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tonic::{Request, Response, Status};
use vpc_wire::rpc::DAEMON_SOCKET;
use vpc_wire::rpc::pb::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, IpAllocationMetadata,
    NetworkPolicyAgentConfigReply,
};
use vpc_wire::rpc::server::{CniBackend, ConfigServerBackend, listen, serve as serve_on};

/// What it prints once it listens.
pub(crate) const READY: &str = "ready";
/// The first address it gives.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 20, 64, 1);
/// How many it has: far more than a node, so that none is ever waited for.
const ADDRESSES: u32 = 8192;
/// The ENI they belong to, and its table: so each pod has the two rules of the classic layout.
const DEVICE: i32 = 1;
const TABLE: i32 = 2;

/// Serves until its standard input ends, which it does at the latest with whoever started it.
pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let book = Book::default();
    runtime.block_on(async {
        let listener = listen(Path::new(DAEMON_SOCKET))?;
        println!("{READY}");
        std::io::stdout().flush()?;
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = ended.send(());
        });
        let until = async {
            let _ = end.await;
        };
        Ok(serve_on(listener, book.clone(), book, |_| {}, until).await?)
    })
}

/// Who has which address.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    /// Addresses given so far for the first time.
    fresh: u32,
    free: Vec<Ipv4Addr>,
    /// By container.
    held: BTreeMap<String, Ipv4Addr>,
}

impl Pages {
    /// The container's address; the same one when it asks again.
    fn take(&mut self, container: &str) -> Option<Ipv4Addr> {
        if let Some(address) = self.held.get(container) {
            return Some(*address);
        }
        let address = match self.free.pop() {
            Some(address) => address,
            None if self.fresh < ADDRESSES => {
                self.fresh += 1;
                Ipv4Addr::from(u32::from(FIRST) + self.fresh - 1)
            }
            None => return None,
        };
        self.held.insert(container.to_owned(), address);
        Some(address)
    }

    fn give_back(&mut self, container: &str) -> Option<Ipv4Addr> {
        let address = self.held.remove(container)?;
        self.free.push(address);
        Some(address)
    }
}

fn entry(address: Ipv4Addr) -> IpAllocationMetadata {
    IpAllocationMetadata {
        ipv4: address.to_string(),
        ipv6: String::new(),
        device_number: DEVICE,
        route_table_id: TABLE,
    }
}

#[tonic::async_trait]
impl CniBackend for Book {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(&request.get_ref().container_id);
        Ok(Response::new(AddNetworkReply {
            success: taken.is_some(),
            allocations: taken.map(entry).into_iter().collect(),
            ..AddNetworkReply::default()
        }))
    }

    async fn del_network(&self, request: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).give_back(&request.get_ref().container_id);
        match given {
            Some(address) => Ok(Response::new(DelNetworkReply {
                success: true,
                allocations: vec![entry(address)],
                ..DelNetworkReply::default()
            })),
            // The reference's words, which its plugin looks for.
            None => Err(Status::unknown("1 error occurred:\n\t* datastore: unknown pod\n\n")),
        }
    }
}

#[tonic::async_trait]
impl ConfigServerBackend for Book {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        Ok(Response::new(NetworkPolicyAgentConfigReply::default()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_owner_who_keeps_it_until_it_gives_it_back() {
        let mut pages = Pages::default();
        let (one, two) = (pages.take("one").unwrap(), pages.take("two").unwrap());
        assert_ne!(one, two);
        assert_eq!(pages.take("one"), Some(one));
        assert_eq!((pages.give_back("one"), pages.give_back("one")), (Some(one), None));
        assert_eq!(pages.take("three"), Some(one));
    }

    #[test]
    fn what_is_used_up_is_refused() {
        let mut pages = Pages::default();
        let all: std::collections::BTreeSet<_> = (0..ADDRESSES).map(|n| pages.take(&n.to_string()).unwrap()).collect();
        assert_eq!(all.len(), ADDRESSES as usize);
        assert_eq!(pages.take("one too many"), None);
    }
}
