//! Every kind of fault with its keys: what people may write, what help says, what errors name.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::FaultSyntax;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Where it belongs.
    pub group: Group,
    /// What goes wrong.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// It happens once; there is nothing to lift.
    pub once: bool,
}

/// Where a kind belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// EC2's API.
    Ec2,
    /// The metadata service.
    Imds,
    /// A node.
    Node,
    /// A node's kernel.
    Kernel,
    /// Somebody outside.
    Event,
}

/// A key of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub form: Form,
    /// It has to be there.
    pub needed: bool,
    /// What it is.
    pub about: &'static str,
}

/// Values of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text that is not empty.
    Text,
    /// A whole number, 0 or more.
    Number,
    /// A whole number.
    Signed,
    /// `true` or `false`.
    Flag,
    /// Texts with commas between them.
    List,
    /// An IPv4 network or address.
    Network,
    /// An IPv4 address.
    Address,
    /// One of these.
    OneOf(&'static [&'static str]),
}

const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, needed: false, about }
}

const fn must(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, needed: true, about }
}

const fn lasting(name: &'static str, group: Group, about: &'static str, keys: &'static [Key]) -> Kind {
    Kind { name, group, about, keys, once: false }
}

const fn once(name: &'static str, group: Group, about: &'static str, keys: &'static [Key]) -> Kind {
    Kind { name, group, about, keys, once: true }
}

const ACTIONS: Key = key("action", Form::Text, "which actions, with * and ?; default *");
const ACTION: Key = must("action", Form::Text, "which actions, with * and ?");
const CALLER: Key = key("node", Form::Text, "whose calls; default everybody's");
const OWNER: Key = key("node", Form::Text, "whose; default everybody's");
const SUBNET: Key = must("subnet", Form::Text, "name or id");
const NODE: Key = must("node", Form::Text, "node");
const NODES: Key = must("node", Form::Text, "node; * for all of them");
const BY_MS: Key = must("by_ms", Form::Number, "by so many milliseconds");
const TABLE: Key = key("table", Form::Number, "routing table; default 254 (main)");
const ENI: Key = key("eni", Form::Text, "which ENI, by id");
const OF_NODE: Key = key("node", Form::Text, "or the one of this node");
const DEVICE: Key = key("device", Form::Number, "with this device number; default 1");

/// All kinds, in the order in which help lists them.
pub const KINDS: &[Kind] = &[
    lasting(
        "latency",
        Group::Ec2,
        "calls take longer",
        &[
            must("add_ms", Form::Number, "by so many milliseconds"),
            ACTIONS,
            CALLER,
            key("jitter_ms", Form::Number, "and up to so many more, drawn from the seed"),
        ],
    ),
    lasting(
        "throttle",
        Group::Ec2,
        "token buckets are smaller (RequestLimitExceeded)",
        &[
            must("capacity", Form::Number, "requests at once"),
            must("refill_per_second", Form::Number, "requests a second after that"),
            ACTIONS,
        ],
    ),
    lasting("deny", Group::Ec2, "IAM refuses (UnauthorizedOperation)", &[ACTION, CALLER]),
    lasting(
        "error",
        Group::Ec2,
        "EC2 answers with an error, or not at all",
        &[
            ACTION,
            CALLER,
            key("code", Form::Text, "the error's code; default InternalError"),
            key("message", Form::Text, "its text; default that of the code"),
            key("status", Form::Number, "HTTP status; default that of the code"),
            key(
                "when",
                Form::OneOf(&["before", "after", "lost"]),
                "nothing is done; done all the same; done, and the answer is lost",
            ),
            key("skip", Form::Number, "let so many such calls pass first; default 0"),
            key("times", Form::Number, "then fail so many; default all"),
        ],
    ),
    lasting(
        "subnet-exhausted",
        Group::Ec2,
        "others have taken a subnet's addresses",
        &[SUBNET, key("leave", Form::Number, "addresses left free; default 0")],
    ),
    lasting(
        "subnet-fragmented",
        Group::Ec2,
        "a subnet has free addresses but no free aligned /28",
        &[SUBNET, key("leave", Form::Number, "whole /28 left free; default 0")],
    ),
    lasting("detach-slow", Group::Ec2, "detaching takes longer", &[BY_MS, OWNER]),
    lasting("attach-stuck", Group::Ec2, "attachments that begin now stay in `attaching`", &[OWNER]),
    lasting(
        "clock-skew",
        Group::Ec2,
        "the cloud's calendar is ahead, or behind if negative",
        &[must("by_ms", Form::Signed, "by so many milliseconds")],
    ),
    lasting("imds-stale", Group::Imds, "IMDS no longer learns of changes", &[NODES]),
    lasting("imds-partial", Group::Imds, "IMDS lists ENIs with their primary address only", &[NODES]),
    lasting("imds-reordered", Group::Imds, "IMDS lists MACs and addresses in another order at each look", &[NODES]),
    lasting(
        "imds-missing",
        Group::Imds,
        "IMDS does not list an attached ENI",
        &[NODES, key("device", Form::Number, "device number; default all but the primary one")],
    ),
    lasting(
        "imds-hollow",
        Group::Imds,
        "IMDS lists the MACs of secondary ENIs, and nothing below them (404)",
        &[NODES],
    ),
    lasting("imds-unauthorized", Group::Imds, "IMDS refuses tokens (401)", &[NODES]),
    lasting(
        "imds-error",
        Group::Imds,
        "IMDS answers every request with an error",
        &[NODES, key("status", Form::Number, "HTTP status, 403 or 5xx; default 500")],
    ),
    lasting("imds-slow", Group::Imds, "IMDS answers late", &[NODES, BY_MS]),
    lasting(
        "cut",
        Group::Node,
        "no packet passes between a node and something the lab serves",
        &[
            NODE,
            key("from", Form::OneOf(&["ec2", "imds", "kube", "dns", "all"]), "what from; default all"),
            key("how", Form::OneOf(&["drop", "reject"]), "silently, or with an ICMP error; default drop"),
        ],
    ),
    lasting("stop", Group::Node, "the daemon stands still (SIGSTOP)", &[NODE]),
    lasting(
        "starve",
        Group::Node,
        "the daemon runs for a while and stands still for a while, in turn",
        &[
            NODE,
            must("run_ms", Form::Number, "runs for so many milliseconds"),
            must("stop_ms", Form::Number, "then stands still for so many"),
        ],
    ),
    once(
        "kill",
        Group::Node,
        "SIGKILL to the daemon",
        &[
            NODE,
            key(
                "restart_ms",
                Form::Number,
                "started again after so many milliseconds; default as the topology's `restart`",
            ),
        ],
    ),
    once("reboot", Group::Node, "the node loses its power and gets it back", &[NODE]),
    lasting("power-cut", Group::Node, "the node has no power", &[NODE]),
    lasting("api-away", Group::Node, "the Kubernetes API answers nobody", &[]),
    lasting(
        "api-deny",
        Group::Node,
        "the Kubernetes API refuses something, as without the RBAC rule for it",
        &[
            must(
                "verb",
                Form::OneOf(&["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"]),
                "what may not be done",
            ),
            must("resource", Form::Text, "to what: pods, pods/status, cninodes.vpcresources.k8s.aws, or *"),
            key("user", Form::Text, "by whom: system:serviceaccount:kube-system:aws-node; default everybody"),
        ],
    ),
    once(
        "kernel-flush",
        Group::Kernel,
        "kernel objects of a kind are gone",
        &[
            NODE,
            must(
                "what",
                Form::OneOf(&["routes", "rules", "nft", "iptables", "addresses", "neighbours", "pod-links"]),
                "which",
            ),
        ],
    ),
    once(
        "rule-delete",
        Group::Kernel,
        "routing rules are deleted",
        &[
            NODE,
            must("priority", Form::Number, "their preference"),
            key("from", Form::Network, "only those for packets from here"),
            key("to", Form::Network, "only those for packets to here"),
        ],
    ),
    once("route-delete", Group::Kernel, "a route is deleted", &[NODE, must("to", Form::Network, "destination"), TABLE]),
    once(
        "route-replace",
        Group::Kernel,
        "a route leads somewhere else",
        &[
            NODE,
            must("to", Form::Network, "destination"),
            TABLE,
            key("link", Form::Text, "link; default nowhere (a blackhole)"),
            key("via", Form::Address, "next hop on the link"),
        ],
    ),
    lasting("link-down", Group::Kernel, "a link is down", &[NODE, must("link", Form::Text, "its name")]),
    lasting(
        "sysctl",
        Group::Kernel,
        "a switch of the kernel has another value",
        &[
            NODE,
            must("key", Form::Text, "which, below net: net.ipv4.ip_forward"),
            must("value", Form::Text, "the value"),
        ],
    ),
    once("eni-removed", Group::Event, "somebody detaches an ENI by force and deletes it", &[ENI, OF_NODE, DEVICE]),
    once(
        "address-removed",
        Group::Event,
        "somebody takes a secondary address or prefix from its ENI",
        &[
            key("address", Form::Text, "which address or prefix"),
            key("node", Form::Text, "or one of this node"),
            key("in_use", Form::Flag, "of the node's, one that a pod has; default one that nobody has"),
        ],
    ),
    once(
        "tags-removed",
        Group::Event,
        "somebody takes tags from an ENI",
        &[ENI, OF_NODE, DEVICE, key("keys", Form::List, "keys of the tags, with commas; default all")],
    ),
];

impl Kind {
    /// The kind of that name.
    ///
    /// # Errors
    /// [`FaultSyntax::Kind`] with all there are.
    pub fn named(name: &str) -> Result<&'static Self, FaultSyntax> {
        KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| FaultSyntax::Kind {
            kind: name.to_owned(),
            known: KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Its keys, for errors: `node`, `from` (ec2 | imds | ...).
    pub(super) fn keys_text(&self) -> String {
        if self.keys.is_empty() {
            return "no keys".to_owned();
        }
        self.keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
    }

    fn key(&self, name: &str) -> Result<&Key, FaultSyntax> {
        self.keys.iter().find(|key| key.name == name).ok_or_else(|| FaultSyntax::Key {
            kind: self.name.to_owned(),
            key: name.to_owned(),
            known: self.keys_text(),
        })
    }

    /// A typed value as what it stands for.
    pub(super) fn typed(&self, name: &str, text: &str) -> Result<Value, FaultSyntax> {
        let key = self.key(name)?;
        let value = match key.form {
            Form::Number => text.parse::<u64>().ok().map(Value::from),
            Form::Signed => text.parse::<i64>().ok().map(Value::from),
            Form::Flag => text.parse::<bool>().ok().map(Value::from),
            Form::List => Some(text.split(',').filter(|piece| !piece.is_empty()).collect()),
            Form::Text | Form::OneOf(_) | Form::Network | Form::Address => Some(Value::from(text)),
        };
        value.ok_or_else(|| self.refused(key, text.to_owned()))
    }

    fn refused(&self, key: &Key, value: String) -> FaultSyntax {
        FaultSyntax::Value {
            kind: self.name.to_owned(),
            key: key.name.to_owned(),
            value,
            expected: key.form.expected(),
        }
    }

    /// Whether the keys are known and there, and the values of the right form. Networks lose their host bits.
    pub(super) fn check(&self, map: &mut Map<String, Value>) -> Result<(), FaultSyntax> {
        for (name, value) in map.iter_mut() {
            let key = self.key(name)?;
            if !key.form.fits(value) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                return Err(self.refused(key, text));
            }
            if let (Form::Network, Some(net)) = (key.form, value.as_str().and_then(network)) {
                *value = Value::from(net.to_string());
            }
        }
        match self.keys.iter().find(|key| key.needed && !map.contains_key(key.name)) {
            Some(key) => Err(FaultSyntax::Missing {
                kind: self.name.to_owned(),
                key: key.name.to_owned(),
                about: format!("{} ({})", key.about, key.form.expected()),
            }),
            None => Ok(()),
        }
    }
}

fn network(text: &str) -> Option<ipnet::Ipv4Net> {
    let single = || text.parse::<std::net::Ipv4Addr>().map(ipnet::Ipv4Net::from).ok();
    text.parse::<ipnet::Ipv4Net>().ok().map(|net| net.trunc()).or_else(single)
}

impl Form {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.as_str().is_some_and(|text| !text.is_empty()),
            // Every number that a fault takes fits 32 bits: 49 days in milliseconds.
            Self::Number => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
            Self::Signed => value.as_i64().is_some(),
            Self::Flag => value.is_boolean(),
            Self::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Self::Network => value.as_str().and_then(network).is_some(),
            Self::Address => value.as_str().is_some_and(|text| text.parse::<std::net::Ipv4Addr>().is_ok()),
            Self::OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Number => format!("a whole number, 0 to {}", u32::MAX),
            Self::Signed => "a whole number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::List => "texts with commas between them".to_owned(),
            Self::Network => "an IPv4 network or address, such as 10.20.8.0/22".to_owned(),
            Self::Address => "an IPv4 address".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// All kinds with their keys, for people.
#[must_use]
pub fn help() -> String {
    let groups = [
        (Group::Ec2, "EC2"),
        (Group::Imds, "IMDS"),
        (Group::Node, "Nodes and what they depend on"),
        (Group::Kernel, "A node's kernel"),
        (Group::Event, "From outside"),
    ];
    let mut out = "Kinds (keys in brackets may be left out; ! happens once, and is not lifted)\n".to_owned();
    for (group, title) in groups {
        let _ = writeln!(out, "\n{title}:");
        for kind in KINDS.iter().filter(|kind| kind.group == group) {
            let mark = if kind.once { "!" } else { " " };
            let _ = writeln!(out, " {mark}{:<18} {}", kind.name, kind.about);
            for key in kind.keys {
                let (open, close) = if key.needed { ("", "") } else { ("[", "]") };
                let values = match key.form {
                    Form::OneOf(words) => format!("={}", words.join("|")),
                    _ => String::new(),
                };
                let _ = writeln!(out, "      {open}{}{values}{close}: {}", key.name, key.about);
            }
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    /// A value that the key accepts.
    fn sample(key: &Key) -> String {
        match (key.form, key.name) {
            (Form::Text, "eni") => "eni-0123456789abcdef0".to_owned(),
            (Form::Text | Form::List, _) => "x".to_owned(),
            (Form::Number, "status") => "503".to_owned(),
            (Form::Number, _) => "7".to_owned(),
            (Form::Signed, _) => "-7".to_owned(),
            (Form::Flag, _) => "true".to_owned(),
            (Form::Network, _) => "10.0.0.0/8".to_owned(),
            (Form::Address, _) => "10.0.0.1".to_owned(),
            (Form::OneOf(words), _) => words.last().unwrap().to_string(),
        }
    }

    #[test]
    fn every_kind_can_be_written_and_reads_as_it_was_written() {
        for kind in KINDS {
            let all: Vec<_> = kind.keys.iter().map(|key| format!("{}={}", key.name, sample(key))).collect();
            let needed = kind.keys.iter().filter(|key| key.needed);
            let needed: Vec<_> = needed.map(|key| format!("{}={}", key.name, sample(key))).collect();
            for words in [&all, &needed] {
                let fault = Fault::from_words(kind.name, words).unwrap_or_else(|e| unreachable!("{e}"));
                assert_eq!((fault.kind().as_str(), fault.happens_once()), (kind.name, kind.once));
                let written: Vec<_> = fault.keys().iter().map(|(key, value)| format!("{key}={value}")).collect();
                assert!(words.iter().all(|word| written.contains(word)), "{words:?} {written:?}");
                let wire = serde_json::to_string(&fault).unwrap();
                assert_eq!(serde_json::from_str::<Fault>(&wire).unwrap(), fault, "{wire}");
            }
            assert!(help().contains(&format!("{} ", kind.name)));
        }
    }

    #[test]
    fn every_value_of_a_choice_is_accepted() {
        for kind in KINDS {
            for key in kind.keys {
                let Form::OneOf(words) = key.form else { continue };
                for word in words {
                    let others = kind.keys.iter().filter(|other| other.needed && other.name != key.name);
                    let mut all: Vec<_> = others.map(|key| format!("{}={}", key.name, sample(key))).collect();
                    all.push(format!("{}={word}", key.name));
                    assert!(Fault::from_words(kind.name, &all).is_ok(), "{} {all:?}", kind.name);
                }
            }
        }
    }

    #[test]
    fn what_is_not_accepted_is_named_with_what_is() {
        for (kind, words, wanted) in [
            ("flood", vec![], vec!["`flood`", "imds-stale", "kernel-flush"]),
            ("cut", vec!["node=a", "form=ec2"], vec!["cut", "`form`", "`from`", "`how`"]),
            ("cut", vec!["from=ec2"], vec!["cut", "`node` is missing"]),
            ("cut", vec!["node=a", "from=moon"], vec!["cut", "from", "`moon`", "ec2, imds, kube, dns, all"]),
            ("cut", vec!["node"], vec!["cut", "`node`", "KEY=VALUE"]),
            ("error", vec!["action=x", "times=many"], vec!["error", "times", "`many`", "whole number"]),
            ("error", vec!["action=x", "times=5000000000"], vec!["error", "times", "4294967295"]),
            ("rule-delete", vec!["node=a", "priority=1", "from=x"], vec!["from", "`x`", "10.20.8.0/22"]),
            ("api-away", vec!["node=a"], vec!["api-away", "no keys"]),
            ("imds-stale", vec!["node="], vec!["imds-stale", "node", "a text"]),
        ] {
            let error = Fault::from_words(kind, &words).unwrap_err().to_string();
            assert!(wanted.iter().all(|piece| error.contains(piece)), "{wanted:?} not in: {error}");
        }
    }
}
