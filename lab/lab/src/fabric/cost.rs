//! What the fabric costs: the same sockets through it, and through a plain router between two veth pairs.
//!
//! ```text
//!   fabric:   node-a eth0 ---- p-…  router (two passes)  p-… ---- eth0 node-b        the built-in topology, its default group
//!   control:  a      eth0 ---- left     router     right ---- eth0 b                 one look-up, no filter
//! ```
//!
//! Both live in the calling process, on the same kernel, and are measured in turns.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use lab_cloud::{AttachedEni, Cloud, FabricEvent, Output, Setup};
use serde::{Deserialize, Serialize};
use vpc_linux::{Address, Netns, RouteSpec, Rtnl};
use vpc_model::{GatewayOf, RouteTable, Time};

use super::error::Context;
use super::links::{NEXT_HOP, Tie, link_name, link_up, new_network};
use super::{Fabric, FabricError, VPC_MTU};
use crate::topology::Topology;

/// The only link of each end.
const LINK: &str = "eth0";
/// Ends of the control: addresses for examples.
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
/// Bytes written at once.
const PIECE: usize = 256 << 10;
/// For anything that can fail to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct CostOptions {
    /// Turns; the median counts.
    pub rounds: usize,
    /// Round trips in each.
    pub round_trips: usize,
    /// How long a stream runs in each.
    pub stream: Duration,
}

/// What a path takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PathFigures {
    /// A byte there and back over an open TCP connection, in microseconds.
    pub round_trip_micros: f64,
    /// A TCP stream, in Gbit/s.
    pub gigabits: f64,
}

/// Both paths.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FabricCost {
    /// Through the fabric.
    pub fabric: PathFigures,
    /// Through a plain router.
    pub control: PathFigures,
}

/// Measures. The calling process must be root of its network namespace, which becomes a router.
///
/// # Errors
/// The step that failed.
pub fn measure(options: CostOptions) -> Result<FabricCost, FabricError> {
    let lab = lab_path()?;
    let control = control_path()?;
    let (mut by_fabric, mut by_control) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds.max(1) {
        by_fabric.take(&lab.ends, options)?;
        by_control.take(&control.ends, options)?;
    }
    Ok(FabricCost { fabric: by_fabric.figures(), control: by_control.figures() })
}

/// Two ends that reach each other, and what is between them.
struct Path {
    ends: [(Netns, Ipv4Addr); 2],
    _fabric: Option<Fabric>,
    _router: Option<Netns>,
}

/// The first two nodes of the built-in topology.
fn lab_path() -> Result<Path, FabricError> {
    let topology = Topology::built_in().context("read the built-in topology")?;
    let fabric = Fabric::build(&topology)?;
    let mut cloud = Cloud::new(topology.world(), Setup::default()).context("build a cloud")?;
    let plan = cloud.network();
    fabric.set_network(&plan)?;
    let primary = |output| match output {
        Output::Fabric(FabricEvent::InstanceStarted { enis, .. }) => enis.into_iter().next(),
        _ => None,
    };
    let mut enis = cloud.advance(Time(0)).into_iter().filter_map(primary);
    let mut end = || {
        let eni = enis.next().ok_or_else(|| FabricError::unknown("node with an ENI", &"another"))?;
        let subnet = plan.subnets.get(&eni.subnet).ok_or_else(|| FabricError::unknown("subnet", &eni.subnet))?;
        attach(&fabric, &eni, subnet.cidr)
    };
    let ends = [end()?, end()?];
    Ok(Path { ends, _fabric: Some(fabric), _router: None })
}

fn attach(fabric: &Fabric, eni: &AttachedEni, subnet: vpc_model::Subnet) -> Result<(Netns, Ipv4Addr), FabricError> {
    let network = Netns::create().context("make a network namespace")?;
    fabric.attach(eni, &network, &link_name(LINK)?)?;
    link_up(&network, LINK)?;
    let address = eni.addresses.primary;
    let whole = Ipv4Net::new(address, subnet.net().prefix_len()).context("an address of a subnet")?;
    configure(&network, whole, subnet.gateway(), false)?;
    Ok((network, address))
}

fn configure(network: &Netns, address: Ipv4Net, gateway: Ipv4Addr, onlink: bool) -> Result<(), FabricError> {
    let step = "configure an end";
    let mut inside = Rtnl::open_in(network).context(step)?;
    let link = inside.link(&link_name(LINK)?).context(step)?.index;
    inside.add_address(&Address::new(link, address)).context(step)?;
    let everywhere = RouteSpec::through(RouteTable::MAIN, Ipv4Net::default(), gateway, link);
    inside.replace_route(&RouteSpec { onlink, ..everywhere }).context(step)
}

fn control_path() -> Result<Path, FabricError> {
    let router = new_network()?;
    let end = |name: &str, address: Ipv4Addr| {
        let network = new_network()?;
        let (link, _) = Tie { mtu: VPC_MTU, ends: [(&router, name), (&network, LINK)] }.make()?;
        let to_it = RouteSpec::through(RouteTable::MAIN, address.into(), NEXT_HOP, link);
        let mut inside = Rtnl::open_in(&router).context("open the control's router")?;
        inside.replace_route(&RouteSpec { onlink: true, ..to_it }).context("route to an end")?;
        configure(&network, address.into(), NEXT_HOP, true)?;
        Ok::<_, FabricError>((network, address))
    };
    let ends = [end("left", ENDS[0])?, end("right", ENDS[1])?];
    Ok(Path { ends, _fabric: None, _router: Some(router) })
}

#[derive(Default)]
struct Samples {
    micros: Vec<f64>,
    gigabits: Vec<f64>,
}

impl Samples {
    fn take(&mut self, ends: &[(Netns, Ipv4Addr); 2], options: CostOptions) -> Result<(), FabricError> {
        self.micros.push(round_trip(ends, options.round_trips)?);
        self.gigabits.push(stream(ends, options.stream)?);
        Ok(())
    }

    fn figures(&self) -> PathFigures {
        PathFigures { round_trip_micros: median(&self.micros), gigabits: median(&self.gigabits) }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A connection, its far end served by a thread.
fn connect<T: Send + 'static>(
    ends: &[(Netns, Ipv4Addr); 2],
    serve: impl FnOnce(TcpStream) -> std::io::Result<T> + Send + 'static,
) -> Result<(TcpStream, JoinHandle<std::io::Result<T>>), FabricError> {
    let [(here, _), (there, address)] = ends;
    let listener = there.enter(|| TcpListener::bind((*address, 0))).context("enter an end")?.context("listen")?;
    let port = listener.local_addr().context("listen")?.port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        serve(stream)
    });
    let to = SocketAddr::from((*address, port));
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let stream = here.enter(connect).context("enter an end")?.context("connect")?;
    stream.set_nodelay(true).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE)).context("connect")?;
    Ok((stream, server))
}

/// The median of so many.
fn round_trip(ends: &[(Netns, Ipv4Addr); 2], count: usize) -> Result<f64, FabricError> {
    let echo = |mut stream: TcpStream| {
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Ok(())
    };
    let (mut stream, server) = connect(ends, echo)?;
    let mut micros = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(b"x").context("send")?;
        stream.read_exact(&mut [0]).context("hear an echo")?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    drop(stream);
    server.join().map_or(Ok(()), |done| done.context("echo"))?;
    Ok(median(&micros))
}

/// What arrives in so long, in Gbit/s.
fn stream(ends: &[(Netns, Ipv4Addr); 2], duration: Duration) -> Result<f64, FabricError> {
    let sink = |mut stream: TcpStream| {
        let mut buffer = vec![0; PIECE];
        let (start, mut bytes) = (Instant::now(), 0);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(bytes as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9),
                count => bytes += count as u64,
            }
        }
    };
    let (mut stream, server) = connect(ends, sink)?;
    let piece = vec![0; PIECE];
    let start = Instant::now();
    while start.elapsed() < duration {
        stream.write_all(&piece).context("send")?;
    }
    drop(stream);
    server.join().map_or(Ok(f64::NAN), |done| done.context("receive"))
}
