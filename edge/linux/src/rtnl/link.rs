//! Links: veth pairs and ENIs, their names, MACs, MTU, aliases, groups, and their per-link IPv4 settings.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vpc_model::{LinkName, Mac};

use super::Rtnl;
use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::{Attributes, Incoming, text_of, u32_of};
use crate::netlink::{NetlinkError, Request};
use crate::netns::Netns;

/// Bytes of `struct ifinfomsg`.
const IFINFO: usize = 16;
/// Leave counters out of answers (`RTEXT_FILTER_SKIP_STATS`): they are most of the work.
const SKIP_STATS: u32 = 1 << 3;
/// The group of links that are being deleted together ([`Rtnl::delete_links_as_group`]); "vpcd".
const DOOMED_GROUP: u32 = 0x7670_6364;
const IFLA_INET_CONF: u16 = 1;
/// (linux/if_link.h.)
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_EUI64: u8 = 0;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// Queues of each end of a veth pair, for sending and for receiving. One is what the kernel uses of a pair for which no number is given;
/// but it then makes room for one queue for each processor, and waits for all of them twice while it goes back to one
/// (`veth_init_queues`: `synchronize_net` within the lock that all changes of links wait for).
const QUEUES: u32 = 1;
const VETH_INFO_PEER: u16 = 1;

/// Which link is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkRef {
    /// By kernel index.
    Index(u32),
    /// By name; looked up by the kernel.
    Name(LinkName),
}

impl From<u32> for LinkRef {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl From<&LinkName> for LinkRef {
    fn from(name: &LinkName) -> Self {
        Self::Name(name.clone())
    }
}

impl std::fmt::Display for LinkRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: LinkName,
    /// Hardware address, where it is an Ethernet one.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// There is a carrier too (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// What kind of virtual link (`veth`, `bridge` …); `None` for devices and `lo`.
    pub kind: Option<String>,
    /// Alias (`IFLA_IFALIAS`).
    pub alias: Option<String>,
    /// Group.
    pub group: u32,
    /// The other end's index, for a veth (in the other end's namespace).
    pub peer_index: Option<u32>,
    /// The other end is in another namespace (`IFLA_LINK_NETNSID`).
    pub peer_elsewhere: bool,
    /// The bridge (or the like) it is a port of.
    pub master: Option<u32>,
    /// Its IPv4 settings.
    pub conf: Ipv4Conf,
}

/// A per-link IPv4 setting: `net.ipv4.conf.<link>.…`, by the kernel's number (`IPV4_DEVCONF_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum ConfKey {
    Forwarding = 1,
    ProxyArp = 3,
    AcceptRedirects = 4,
    SecureRedirects = 5,
    SendRedirects = 6,
    RpFilter = 8,
    AcceptSourceRoute = 9,
    LogMartians = 11,
    ArpFilter = 13,
    ArpAnnounce = 18,
    ArpIgnore = 19,
    PromoteSecondaries = 20,
    ArpAccept = 21,
    ArpNotify = 22,
    AcceptLocal = 23,
    SrcValidMark = 24,
    ProxyArpPvlan = 25,
    RouteLocalnet = 26,
}

/// IPv4 settings of a link as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Conf(Vec<u32>);

impl Ipv4Conf {
    /// The value, where the kernel gave one.
    #[must_use]
    pub fn get(&self, key: ConfKey) -> Option<u32> {
        self.0.get(usize::from(key as u16) - 1).copied()
    }
}

/// The end of a veth pair that is made in another namespace.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    /// Name.
    pub name: LinkName,
    /// Hardware address; chosen by the kernel if `None`.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// The namespace it is made in, directly; `None`: the same one.
    pub netns: Option<&'a Netns>,
}

/// A veth pair to be made.
#[derive(Clone, Debug)]
pub struct VethSpec<'a> {
    /// Name of the end in the conversation's namespace.
    pub name: LinkName,
    /// Its index; chosen by the kernel if `None`. Ends whose indexes differ carry packets at once when the second comes up, see
    /// [`Rtnl::settle_link`].
    pub index: Option<u32>,
    /// Its hardware address; chosen by the kernel if `None`.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Bring it up at once. (The peer can not be made up: the kernel opens it before the pair is tied, `ENOTCONN`.)
    pub up: bool,
    /// Its alias.
    pub alias: Option<String>,
    /// IPv6 gives it a link-local address when it has carrier, as it does to any link.
    pub link_local: bool,
    /// The other end.
    pub peer: VethPeer<'a>,
}

/// Changes of a link; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// New name (the link must be down on older kernels).
    pub name: Option<LinkName>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Alias; empty removes it.
    pub alias: Option<String>,
    /// Group.
    pub group: Option<u32>,
    /// Bridge to be a port of, by index; 0 = none.
    pub master: Option<u32>,
    /// Namespace to move to.
    pub netns: Option<&'a Netns>,
    /// Whether IPv6 gives it a link-local address (`IFLA_INET6_ADDR_GEN_MODE`): from what it has of the link, or none.
    pub link_local: Option<bool>,
    /// IPv4 settings.
    pub conf: Vec<(ConfKey, u32)>,
}

impl LinkChange<'_> {
    /// Brings it up.
    #[must_use]
    pub fn up() -> Self {
        Self { up: Some(true), ..Self::default() }
    }

    /// Changes IPv4 settings.
    #[must_use]
    pub fn conf(settings: &[(ConfKey, u32)]) -> Self {
        Self { conf: settings.to_vec(), ..Self::default() }
    }
}

/// `struct ifinfomsg`: the link and the flags that are to be as given.
fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; IFINFO] {
    let mut head = [0; IFINFO];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&change.to_ne_bytes());
    head
}

fn about(kind: u16, flags: u16, link: &LinkRef, up: Option<bool>) -> Message {
    let mask = if up.is_some() { libc::IFF_UP as u32 } else { 0 };
    let state = if up == Some(true) { mask } else { 0 };
    let message = Message::new(kind, flags);
    match link {
        LinkRef::Index(index) => message.fixed(&ifinfo(*index, state, mask)),
        LinkRef::Name(name) => message.fixed(&ifinfo(0, state, mask)).text(libc::IFLA_IFNAME, name.as_str()),
    }
}

/// Asks for one link. Since kernel 6.8 the answer also means that the link is ready: see [`Rtnl::settle_link`].
#[must_use]
pub fn get(link: &LinkRef) -> Request {
    let message = about(libc::RTM_GETLINK, 0, link, None).u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    Request::new("get link", link.to_string(), message)
}

/// Creates a veth pair. The kernel does not take an alias with it: [`Rtnl::add_veth`] sends that along.
#[must_use]
pub fn add_veth(spec: &VethSpec<'_>) -> Request {
    let up = if spec.up { libc::IFF_UP as u32 } else { 0 };
    let peer = &spec.peer;
    let message = Message::new(libc::RTM_NEWLINK, flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ECHO))
        .fixed(&ifinfo(spec.index.unwrap_or(0), up, up))
        .text(libc::IFLA_IFNAME, spec.name.as_str())
        .maybe(spec.mac, |m, mac| m.bytes(libc::IFLA_ADDRESS, &mac.0))
        .maybe(spec.mtu, |m, mtu| m.u32(libc::IFLA_MTU, mtu))
        .u32(libc::IFLA_NUM_TX_QUEUES, QUEUES)
        .u32(libc::IFLA_NUM_RX_QUEUES, QUEUES)
        .nest(libc::IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.fixed(&ifinfo(0, 0, 0))
                        .text(libc::IFLA_IFNAME, peer.name.as_str())
                        .maybe(peer.mac, |m, mac| m.bytes(libc::IFLA_ADDRESS, &mac.0))
                        .maybe(peer.mtu, |m, mtu| m.u32(libc::IFLA_MTU, mtu))
                        .u32(libc::IFLA_NUM_TX_QUEUES, QUEUES)
                        .u32(libc::IFLA_NUM_RX_QUEUES, QUEUES)
                        .maybe(peer.netns, |m, netns| m.bytes(libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes()))
                })
            })
        });
    Request::new("create veth pair", format!("{} - {}", spec.name, peer.name), message)
}

/// All that makes a veth pair, for one send, so that nobody sees it for long before it is whole. What the kernel does not take with the
/// pair comes before the link is up: a change of a link that is up and has no carrier makes the kernel walk all IPv6 routes
/// (`addrconf_notify`: `rt6_sync_down_dev`) and tell everybody who listens.
fn veth_requests(spec: &VethSpec<'_>) -> Vec<Request> {
    let named = LinkRef::from(&spec.name);
    let alias = spec.alias.clone().map(|alias| LinkChange { alias: Some(alias), ..LinkChange::default() });
    let silent = (!spec.link_local).then(|| LinkChange { link_local: Some(false), ..LinkChange::default() });
    if alias.is_none() && silent.is_none() {
        return vec![add_veth(spec)];
    }
    let mut requests = vec![add_veth(&VethSpec { up: false, ..spec.clone() })];
    requests.extend(alias.map(|change| set(&named, &change)));
    // A kernel without IPv6, or an MTU too small for it.
    requests.extend(silent.map(|change| set(&named, &change).tolerating(&[Errno::EAFNOSUPPORT])));
    requests.extend(spec.up.then(|| set(&named, &LinkChange::up())));
    requests
}

/// Creates a bridge, down.
#[must_use]
pub fn add_bridge(name: &LinkName) -> Request {
    let message = Message::new(libc::RTM_NEWLINK, flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL))
        .fixed(&ifinfo(0, 0, 0))
        .text(libc::IFLA_IFNAME, name.as_str())
        .nest(libc::IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
    Request::new("create bridge", name.to_string(), message)
}

/// Changes a link. A link named by name can not be renamed in the same request.
#[must_use]
pub fn set(link: &LinkRef, change: &LinkChange<'_>) -> Request {
    let message = about(libc::RTM_NEWLINK, 0, link, change.up)
        .maybe(change.mtu, |m, mtu| m.u32(libc::IFLA_MTU, mtu))
        .maybe(change.name.as_ref().filter(|_| matches!(link, LinkRef::Index(_))), |m, name| {
            m.text(libc::IFLA_IFNAME, name.as_str())
        })
        .maybe(change.mac, |m, mac| m.bytes(libc::IFLA_ADDRESS, &mac.0))
        .maybe(change.alias.as_ref(), |m, alias| m.bytes(libc::IFLA_IFALIAS, alias.as_bytes()))
        .maybe(change.group, |m, group| m.u32(libc::IFLA_GROUP, group))
        .maybe(change.master, |m, master| m.u32(libc::IFLA_MASTER, master))
        .maybe(change.netns, |m, netns| m.bytes(libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes()))
        .maybe(families(change), |m, of_family| m.nest(libc::IFLA_AF_SPEC, of_family));
    Request::new("change link", link.to_string(), message)
}

/// What of a change belongs to an address family.
fn families<'a>(change: &'a LinkChange<'_>) -> Option<impl FnOnce(Message) -> Message + 'a> {
    let LinkChange { link_local, conf, .. } = change;
    (link_local.is_some() || !conf.is_empty()).then_some(move |m: Message| {
        m.maybe((!conf.is_empty()).then_some(conf), |m, conf| {
            m.nest(libc::AF_INET as u16, |m| {
                m.nest(IFLA_INET_CONF, |m| conf.iter().fold(m, |m, (key, value)| m.u32(*key as u16, *value)))
            })
        })
        .maybe(*link_local, |m, wanted| {
            let mode = if wanted { IN6_ADDR_GEN_MODE_EUI64 } else { IN6_ADDR_GEN_MODE_NONE };
            m.nest(libc::AF_INET6 as u16, |m| m.bytes(IFLA_INET6_ADDR_GEN_MODE, &[mode]))
        })
    })
}

/// Deletes a link, and its peer if it has one.
#[must_use]
pub fn delete(link: &LinkRef) -> Request {
    Request::new("delete link", link.to_string(), about(libc::RTM_DELLINK, 0, link, None))
}

/// Deletes all links of a group at once: 50 cost hardly more than one.
#[must_use]
pub fn delete_group(group: u32) -> Request {
    let message = Message::new(libc::RTM_DELLINK, 0).fixed(&ifinfo(0, 0, 0)).u32(libc::IFLA_GROUP, group);
    Request::new("delete links of group", format!("{group:#x}"), message)
}

/// Reads an `RTM_NEWLINK` (or `RTM_DELLINK`). `None` for what is no link message, or has a name that is no name.
pub(crate) fn read(kind: u16, body: &[u8]) -> Option<LinkInfo> {
    if kind != libc::RTM_NEWLINK && kind != libc::RTM_DELLINK {
        return None;
    }
    let incoming = Incoming { kind, flags: 0, sequence: 0, body };
    let (head, attributes) = incoming.split(IFINFO)?;
    // Bridges speak of their ports in messages of the same kind: "gone" means there "no longer a port".
    if i32::from(head[0]) != libc::AF_UNSPEC {
        return None;
    }
    let flags = u32_of(&head[8..12])?;
    let mut found = LinkInfo {
        index: u32_of(&head[4..8])?,
        name: text_of(attributes.get(libc::IFLA_IFNAME)?).parse().ok()?,
        mac: None,
        mtu: 0,
        up: flags & libc::IFF_UP as u32 != 0,
        carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
        kind: None,
        alias: None,
        group: 0,
        peer_index: None,
        peer_elsewhere: false,
        master: None,
        conf: Ipv4Conf::default(),
    };
    for (kind, payload) in attributes {
        match kind {
            libc::IFLA_ADDRESS => found.mac = payload.try_into().ok().map(Mac),
            libc::IFLA_MTU => found.mtu = u32_of(payload)?,
            libc::IFLA_IFALIAS => found.alias = Some(text_of(payload)).filter(|text| !text.is_empty()),
            libc::IFLA_GROUP => found.group = u32_of(payload)?,
            libc::IFLA_LINK_NETNSID => found.peer_elsewhere = true,
            libc::IFLA_LINK => found.peer_index = u32_of(payload).filter(|index| *index != 0),
            libc::IFLA_MASTER => found.master = u32_of(payload),
            libc::IFLA_LINKINFO => found.kind = Attributes(payload).get(IFLA_INFO_KIND).map(text_of),
            libc::IFLA_AF_SPEC => found.conf = read_conf(Attributes(payload)),
            _ => {}
        }
    }
    Some(found)
}

fn read_conf(families: Attributes<'_>) -> Ipv4Conf {
    let values = families.inside(libc::AF_INET as u16).get(IFLA_INET_CONF).unwrap_or_default();
    Ipv4Conf(values.chunks_exact(4).filter_map(u32_of).collect())
}

impl Rtnl {
    /// One link, by name or index. No dump.
    ///
    /// # Errors
    /// `ENODEV` when there is none; see [`Rtnl::find_link`].
    pub fn link(&mut self, link: impl Into<LinkRef>) -> Result<LinkInfo, NetlinkError> {
        let link = link.into();
        let reply = self.one(get(&link))?;
        let found = reply.answer.and_then(|(kind, body)| read(kind, &body));
        found.ok_or_else(|| NetlinkError::new("get link", link.to_string(), Errno::EBADMSG))
    }

    /// One link, by name or index, or `None`.
    ///
    /// # Errors
    /// Whatever is not "no such link".
    pub fn find_link(&mut self, link: impl Into<LinkRef>) -> Result<Option<LinkInfo>, NetlinkError> {
        match self.link(link) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a link of that name. Cheaper than [`Rtnl::find_link`]: the kernel takes no lock for it.
    ///
    /// # Errors
    /// Whatever is not "no such link".
    pub fn has_link(&mut self, name: &LinkName) -> Result<bool, NetlinkError> {
        match self.socket.index_of_link(name.as_str()) {
            Ok(_) => Ok(true),
            Err(Errno::ENODEV) => Ok(false),
            Err(errno) => Err(NetlinkError::new("look for link", name.to_string(), errno)),
        }
    }

    /// Makes sure that packets can be sent through a link whose carrier has just come on.
    ///
    /// When the second end of a veth pair comes up, the first one drops packets until the kernel's link watcher has run: some
    /// milliseconds, up to a second when both ends have the same index. Being asked about the link, kernels since 6.8 run it at once.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link.
    pub fn settle_link(&mut self, link: impl Into<LinkRef>) -> Result<(), NetlinkError> {
        self.one(get(&link.into())).map(drop)
    }

    /// All links, without counters.
    ///
    /// # Errors
    /// `EAGAIN` when the list kept changing while it was read.
    pub fn links(&mut self) -> Result<Vec<LinkInfo>, NetlinkError> {
        let message = Message::new(libc::RTM_GETLINK, 0).fixed(&ifinfo(0, 0, 0)).u32(libc::IFLA_EXT_MASK, SKIP_STATS);
        self.socket.dump("list", "links", &message, |m| read(m.kind, m.body))
    }

    /// Makes a veth pair; gives the indexes of our end and of the peer (each in its own namespace).
    ///
    /// One send where the kernel echoes new links (since 6.2), otherwise one more question by name. The peer's index is `None` only
    /// where the kernel did not tell it.
    ///
    /// # Errors
    /// `EEXIST` when either name is taken. Nothing is left behind when the pair could not be made.
    pub fn add_veth(&mut self, spec: &VethSpec<'_>) -> Result<(u32, Option<u32>), NetlinkError> {
        // The alias goes by name: it must not hit a link that was there before.
        if spec.alias.is_some() && self.find_link(&spec.name)?.is_some() {
            let object = format!("{} - {}", spec.name, spec.peer.name);
            return Err(NetlinkError::new("create veth pair", object, Errno::EEXIST));
        }
        self.add_veth_unseen(spec)
    }

    /// [`Rtnl::add_veth`] for a name that has just been seen to be free.
    pub(crate) fn add_veth_unseen(&mut self, spec: &VethSpec<'_>) -> Result<(u32, Option<u32>), NetlinkError> {
        let mut replies = self.socket.run(veth_requests(spec)).into_iter();
        let created =
            replies.next().ok_or_else(|| NetlinkError::new("create veth pair", spec.name.as_str(), Errno::EBADMSG))?;
        created.result?;
        let echoed = created.answer.and_then(|(kind, body)| read(kind, &body));
        let made = match echoed {
            Some(link) => link,
            None => self.link(&spec.name)?,
        };
        if let Some(error) = replies.find_map(|reply| reply.result.err()) {
            self.delete_link(made.index).ok();
            return Err(error);
        }
        Ok((made.index, made.peer_index))
    }

    /// Makes a bridge, down; gives its index.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken.
    pub fn add_bridge(&mut self, name: &LinkName) -> Result<u32, NetlinkError> {
        self.one(add_bridge(name))?;
        Ok(self.link(name)?.index)
    }

    /// Changes a link.
    ///
    /// # Errors
    /// `ENODEV` when there is none, or whatever the kernel has against the change.
    pub fn set_link(&mut self, link: impl Into<LinkRef>, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        self.one(set(&link.into(), change)).map(drop)
    }

    /// Renames a link.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EBUSY` on kernels before 6.2 when the link is up.
    pub fn rename_link(&mut self, index: u32, name: &LinkName) -> Result<(), NetlinkError> {
        self.set_link(index, &LinkChange { name: Some(name.clone()), ..LinkChange::default() })
    }

    /// Changes per-link IPv4 settings.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link.
    pub fn set_conf(&mut self, link: impl Into<LinkRef>, settings: &[(ConfKey, u32)]) -> Result<(), NetlinkError> {
        self.set_link(link, &LinkChange::conf(settings))
    }

    /// Per-link IPv4 settings as they are.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link.
    pub fn conf(&mut self, link: impl Into<LinkRef>) -> Result<Ipv4Conf, NetlinkError> {
        Ok(self.link(link)?.conf)
    }

    /// Deletes a link and its peer. Takes about 20 ms: the kernel waits for every CPU. Several: [`Rtnl::delete_links_as_group`].
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn delete_link(&mut self, link: impl Into<LinkRef>) -> Result<(), NetlinkError> {
        self.one(delete(&link.into())).map(drop)
    }

    /// Deletes links (and their peers) in one go; those that are gone already are fine.
    ///
    /// # Errors
    /// Whatever is not "no such link", for the first link it happened to.
    pub fn delete_links_as_group(&mut self, indexes: &[u32]) -> Result<(), NetlinkError> {
        const GONE: &[Errno] = &[Errno::ENODEV];
        if let [index] = indexes {
            return self.run(vec![delete(&LinkRef::Index(*index)).tolerating(GONE)]);
        }
        let grouped = |group| {
            let change = LinkChange { group: Some(group), ..LinkChange::default() };
            indexes.iter().map(|index| set(&LinkRef::Index(*index), &change).tolerating(GONE)).collect()
        };
        if indexes.is_empty() {
            return Ok(());
        }
        let deleted =
            self.run(grouped(DOOMED_GROUP)).and_then(|()| self.run(vec![delete_group(DOOMED_GROUP).tolerating(GONE)]));
        if deleted.is_err() {
            // One link that can not be deleted (a device) spares them all; it must not stay in the way of the next time.
            self.run(grouped(0)).ok();
        }
        deleted
    }

    /// Indexes of links by name, each looked up once. For batches that name links many times.
    pub(crate) fn index_of(
        &mut self,
        name: &LinkName,
        known: &mut BTreeMap<LinkName, u32>,
    ) -> Result<u32, NetlinkError> {
        if let Some(index) = known.get(name) {
            return Ok(*index);
        }
        let index = self.link(name)?.index;
        known.insert(name.clone(), index);
        Ok(index)
    }

    /// Moves a link to another namespace.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link; `EEXIST` when the name is taken there.
    pub fn move_link(&mut self, link: impl Into<LinkRef>, netns: &Netns) -> Result<(), NetlinkError> {
        self.set_link(link, &LinkChange { netns: Some(netns), ..LinkChange::default() })
    }
}
