//! The daemon's settings: environment variables in, one checked value out, and everything that is to be said about them.
//!
//! ```text
//!   environment --Reader, by the table--> Settings + [Row]     (what holds)
//!                                      +-> [Finding]           (what was not taken, and why)
//! ```
//!
//! Names, defaults and parsers are the reference's. A value outside the accepted set does what it does there, refuse or fall
//! back to the default, with one difference: nothing falls back in silence.

pub mod finding;
pub mod parse;
mod reader;
mod spelling;
pub mod table;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use vpc_aws::{Ec2Settings, ImdsSettings, SettingError};
use vpc_hostnet::{HostLayout, HostSettings, SnatRandom};
use vpc_model::{Millis, VethPrefix};

pub use finding::{Finding, Verdict};
use reader::Reader;
pub use reader::{Env, Origin, Row};
use table as var;
pub use values::{AwsSettings, ConflistSettings, EniTags, LogLevel, LogSettings, LogTo, PoolSettings, Settings};

/// How long an ADD may wait at most, in seconds: the plugin gives up after 60 and needs time to wire and to undo.
pub const LONGEST_ADD_WAIT: i64 = 45;

/// Settings with all that is to be said about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What holds. With a fatal finding it is only good for looking at.
    pub settings: Settings,
    /// What was found, in the order of reading.
    pub findings: Vec<Finding>,
    /// What holds, variable by variable, in the table's order.
    pub rows: Vec<Row>,
}

impl Checked {
    /// Whether the daemon may start.
    #[must_use]
    pub fn may_start(&self) -> bool {
        !self.findings.iter().any(Finding::is_fatal)
    }

    /// Whether the node will be exactly what was written.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.findings.iter().any(Finding::is_bad)
    }
}

/// Reads and checks all settings.
#[must_use]
pub fn check(env: &Env) -> Checked {
    let mut reader = Reader::new(env);
    refuse_features(&mut reader);
    check_family(&mut reader);
    let host = host(&mut reader);
    let settings = Settings {
        node_name: reader.text(&var::MY_NODE_NAME),
        pool: pool(&mut reader),
        conflist: conflist(&mut reader, &host),
        host,
        disable_tcp_early_demux: reader.boolean(&var::DISABLE_TCP_EARLY_DEMUX),
        log: log(&mut reader),
        checkpoint: reader.text(&var::BACKING_STORE).into(),
        aws: aws(&mut reader),
        tags: EniTags { cluster: cluster(&mut reader), more: eni_tags(&mut reader) },
        network_policy_mode: network_policy_mode(&mut reader),
    };
    note_what_has_no_effect(&mut reader);
    spelling::find_misspelt(&mut reader);
    reader.rows.sort_by_key(|row| var::ALL.iter().position(|v| v.name == row.name));
    Checked { settings, findings: reader.findings, rows: reader.rows }
}

fn refuse_features(reader: &mut Reader<'_>) {
    for (feature, what) in var::NOT_IN_THIS_RELEASE {
        if reader.boolean(feature) {
            reader.find(
                feature,
                Verdict::Refused,
                format!("{what} is not in this release; expected `false` or not set"),
            );
        }
    }
}

/// Exactly one family. Where neither variable is present the node is IPv4: the documented default, not the reference's.
fn check_family(reader: &mut Reader<'_>) {
    let v4 = reader.boolean(&var::ENABLE_IPV4);
    let v6 = reader.is_on(&var::ENABLE_IPV6);
    if reader.raw(&var::ENABLE_IPV4).is_none() && reader.raw(&var::ENABLE_IPV6).is_none() {
        reader.amend("true", Origin::Default);
        reader.find(&var::ENABLE_IPV4, Verdict::Note, "neither it nor ENABLE_IPv6 is; the node is IPv4");
    } else if v4 == v6 {
        let matter = format!("exactly one of ENABLE_IPv4 and ENABLE_IPv6 must be true, both are {v4}");
        reader.find(&var::ENABLE_IPV4, Verdict::Refused, matter);
    }
}

fn pool(reader: &mut Reader<'_>) -> PoolSettings {
    let not_negative = |n: i64| n >= 0;
    let warm_enis = reader.integer(&var::WARM_ENI_TARGET, not_negative);
    let max_enis = reader.optional_integer(&var::MAX_ENI, |n| n >= 1);
    let cooldown = reader.integer(&var::IP_COOLDOWN_PERIOD, not_negative);
    PoolSettings {
        warm_enis: small(warm_enis),
        max_enis: max_enis.map(small),
        cooldown: Millis::seconds(small(cooldown).into()),
        add_wait: add_wait(reader),
        manage_untagged: reader.boolean(&var::MANAGE_UNTAGGED_ENI),
    }
}

fn add_wait(reader: &mut Reader<'_>) -> Millis {
    let given = reader.integer(&var::ADD_WAIT, |n| n >= 0);
    if given > LONGEST_ADD_WAIT {
        let verdict = Verdict::FellBack { to: LONGEST_ADD_WAIT.to_string() };
        reader.find(
            &var::ADD_WAIT,
            verdict,
            format!("the plugin gives up after 60 s; expected {}", var::ADD_WAIT.accepted),
        );
        reader.amend(&LONGEST_ADD_WAIT.to_string(), Origin::FellBack);
    }
    Millis::seconds(given.clamp(0, LONGEST_ADD_WAIT).unsigned_abs())
}

const SNAT_WORDS: [(&str, SnatRandom); 3] =
    [("prng", SnatRandom::Prng), ("hashrandom", SnatRandom::HashRandom), ("none", SnatRandom::None)];

fn host(reader: &mut Reader<'_>) -> HostSettings {
    let layout = reader.choice(&var::HOST_LAYOUT, &[("classic", HostLayout::Classic)], HostLayout::Classic);
    reader.choice(&var::PACKET_FILTER, &[("nft", ())], ());
    HostSettings {
        layout,
        veth_prefix: veth_prefix(reader),
        eni_mtu: eni_mtu(reader),
        external_snat: reader.boolean(&var::EXTERNAL_SNAT),
        exclude_snat: reader.networks(&var::EXCLUDE_SNAT_CIDRS),
        external_services: reader.networks(&var::EXTERNAL_SERVICE_CIDRS),
        snat_random: reader.choice(&var::RANDOMIZE_SNAT, &SNAT_WORDS, SnatRandom::Prng),
        node_port: reader.boolean(&var::NODE_PORT_SUPPORT),
        mark: mark(reader),
    }
}

/// The least MTU each family gives every host (RFC 791, RFC 8200), and EC2's jumbo frame.
fn good_mtu(reader: &Reader<'_>) -> impl Fn(i64) -> bool + use<> {
    let least = if reader.is_on(&var::ENABLE_IPV6) { 1280 } else { 576 };
    move |mtu| (least..=9001).contains(&mtu)
}

fn eni_mtu(reader: &mut Reader<'_>) -> u32 {
    let good = good_mtu(reader);
    small(reader.integer(&var::ENI_MTU, good))
}

fn pod_mtu(reader: &mut Reader<'_>, eni_mtu: u32) -> u32 {
    let good = good_mtu(reader);
    let Some(mtu) = reader.optional_integer(&var::POD_MTU, good) else {
        reader.amend(&eni_mtu.to_string(), Origin::Default);
        return eni_mtu;
    };
    let mtu = small(mtu);
    if mtu > eni_mtu {
        reader.find(
            &var::POD_MTU,
            Verdict::Note,
            format!("it is more than the ENIs' {eni_mtu}: larger packets are lost"),
        );
    }
    mtu
}

fn mark(reader: &mut Reader<'_>) -> u32 {
    let understand = |text: &str| parse::integer_any_base(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    reader.take(&var::CONNMARK, understand, |mark| format!("{mark:#x}"), 0x80)
}

fn veth_prefix(reader: &mut Reader<'_>) -> VethPrefix {
    let understand = |text: &str| text.parse().ok().filter(|_| !matches!(text, "eth" | "lo" | "vlan"));
    let prefix =
        reader.take(&var::VETH_PREFIX, understand, |p: &VethPrefix| p.as_str().to_owned(), VethPrefix::default());
    if prefix.as_str().is_empty() {
        let matter = "every link of the host counts as a pod's in the packet filter; a prefix such as `eni` is safer";
        reader.find(&var::VETH_PREFIX, Verdict::Note, matter);
    }
    prefix
}

fn conflist(reader: &mut Reader<'_>, host: &HostSettings) -> ConflistSettings {
    let modes = [("strict", "strict"), ("standard", "standard")];
    ConflistSettings {
        bin_dir: directory(reader, &var::HOST_CNI_BIN_PATH),
        conf_dir: directory(reader, &var::HOST_CNI_CONFDIR_PATH),
        veth_prefix: host.veth_prefix.clone(),
        mtu: pod_mtu(reader, host.eni_mtu),
        enforcing_mode: reader.choice(&var::SG_ENFORCING_MODE, &modes, "strict").to_owned(),
        plugin_log_file: plugin_log(reader, &var::PLUGIN_LOG_FILE),
        plugin_log_level: plugin_log_level(reader),
        egress_log_file: plugin_log(reader, &var::EGRESS_V6_LOG_FILE),
        randomize_snat: SNAT_WORDS
            .iter()
            .find(|(_, v)| *v == host.snat_random)
            .map_or("prng", |(word, _)| word)
            .to_owned(),
        v6_egress: reader.boolean(&var::ENABLE_V6_EGRESS),
        bandwidth: reader.boolean(&var::ENABLE_BANDWIDTH_PLUGIN),
        disable_pod_v6: reader.boolean(&var::DISABLE_POD_V6),
    }
}

/// The empty text names the root directory, as it does for the reference (`"" + "/" + file`).
fn directory(reader: &mut Reader<'_>, var: &'static table::Variable) -> PathBuf {
    let text = reader.text(var);
    if text.is_empty() {
        reader.find(var, Verdict::Note, "the root directory is meant");
        return PathBuf::from("/");
    }
    text.into()
}

/// Standard output is the runtime's channel for the CNI result: a log line there breaks every pod, in whatever case it is spelled.
fn plugin_log(reader: &mut Reader<'_>, var: &'static table::Variable) -> String {
    let understand = |text: &str| Some(text.to_owned()).filter(|text| !text.eq_ignore_ascii_case("stdout"));
    reader.take(var, understand, String::clone, String::new())
}

fn plugin_log_level(reader: &mut Reader<'_>) -> String {
    let understand = |text: &str| log_level(text).map(|_| text.to_owned());
    reader.take(&var::PLUGIN_LOG_LEVEL, understand, String::clone, String::new())
}

fn log_level(text: &str) -> Option<LogLevel> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Some(LogLevel::Debug),
        "info" => Some(LogLevel::Info),
        "warn" => Some(LogLevel::Warn),
        "error" => Some(LogLevel::Error),
        "fatal" => Some(LogLevel::Fatal),
        _ => None,
    }
}

fn log(reader: &mut Reader<'_>) -> LogSettings {
    let level = reader.take(&var::LOG_LEVEL, log_level, |level| format!("{level:?}"), LogLevel::Debug);
    let to = match reader.text(&var::LOG_FILE) {
        text if text.eq_ignore_ascii_case("stdout") => LogTo::Stdout,
        text if text.eq_ignore_ascii_case("stderr") => LogTo::Stderr,
        text => LogTo::File(text.into()),
    };
    LogSettings { level, to }
}

/// The standard AWS variables are read where they are obeyed; what that reader has to say is said here.
fn aws(reader: &mut Reader<'_>) -> AwsSettings {
    let timeout = Duration::from_secs(small(reader.integer(&var::HTTP_TIMEOUT, |n| n >= 10)).into());
    reader.text(&var::EC2_ENDPOINT);
    let mut fallbacks = Vec::new();
    let ec2 = Ec2Settings::read(&|name| reader.environment_value(name), &mut fallbacks);
    let imds = ImdsSettings::read(&|name| reader.environment_value(name), &mut fallbacks);
    // The timeout has been read by the table, and said.
    for fallback in fallbacks.into_iter().filter(|fallback| fallback.variable != var::HTTP_TIMEOUT.name) {
        reader.findings.push(Finding {
            variable: fallback.variable.to_owned(),
            value: Some(fallback.value),
            matter: format!("expected {}", fallback.expected),
            verdict: Verdict::FellBack { to: fallback.used },
        });
    }
    AwsSettings {
        ec2: Ec2Settings { attempt_timeout: timeout, ..or_refuse(reader, ec2) },
        imds: or_refuse(reader, imds),
        version: reader.text(&var::VPC_CNI_VERSION),
    }
}

fn or_refuse<T: Default>(reader: &mut Reader<'_>, read: Result<T, SettingError>) -> T {
    read.unwrap_or_else(|SettingError { variable, value, expected }| {
        reader.findings.push(Finding {
            variable: variable.to_owned(),
            value: Some(value),
            matter: format!("expected {expected}"),
            verdict: Verdict::Refused,
        });
        T::default()
    })
}

fn cluster(reader: &mut Reader<'_>) -> Option<String> {
    Some(reader.text(&var::CLUSTER_NAME)).filter(|name| !name.is_empty())
}

/// A JSON object of texts. One value that is not a text discards them all; a key in AWS's own space is left out.
fn eni_tags(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let understand = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).ok();
    let show = |tags: &BTreeMap<String, String>| serde_json::to_string(tags).unwrap_or_default();
    let all = reader.take(&var::ADDITIONAL_ENI_TAGS, understand, show, BTreeMap::new());
    let (reserved, tags): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(key, _)| key.contains("k8s.amazonaws.com"));
    if reserved.is_empty() {
        return tags;
    }
    let to = show(&tags);
    for key in reserved.keys() {
        let matter = format!("the key `{key}` is AWS's own; expected {}", var::ADDITIONAL_ENI_TAGS.accepted);
        reader.find(&var::ADDITIONAL_ENI_TAGS, Verdict::FellBack { to: to.clone() }, matter);
    }
    reader.amend(&to, Origin::FellBack);
    tags
}

/// Checked without regard to case, passed on as written. Empty is not the same as not set: it is refused.
fn network_policy_mode(reader: &mut Reader<'_>) -> String {
    let known = |text: &str| ["none", "standard", "strict"].iter().any(|mode| text.eq_ignore_ascii_case(mode));
    let understand = |text: &str| Some(text.to_owned()).filter(|text| known(text));
    reader.take(&var::NETWORK_POLICY_MODE, understand, String::clone, String::new())
}

/// Reads the variables nothing in this release acts on, and says so where someone asked for more than the default.
fn note_what_has_no_effect(reader: &mut Reader<'_>) {
    let target = |n: i64| n >= 0;
    let chosen = [
        reader.integer(&var::WARM_IP_TARGET, target),
        reader.integer(&var::MINIMUM_IP_TARGET, target),
        reader.integer(&var::WARM_PREFIX_TARGET, target),
    ];
    for (variable, value) in [&var::WARM_IP_TARGET, &var::MINIMUM_IP_TARGET].into_iter().zip(chosen) {
        if value > 0 {
            let matter = "this target is not in this release, WARM_ENI_TARGET governs the pool";
            reader.find(variable, Verdict::Ineffective, matter);
        }
    }
    // The chart sets 1 on every node; without prefix delegation the reference does not look at it either.
    if chosen[2] > 1 {
        reader.find(&var::WARM_PREFIX_TARGET, Verdict::Note, "it counts only with prefix delegation");
    }
    check_prefix_targets(reader);
    for variable in [
        &var::MANAGE_NON_SCHEDULABLE,
        &var::DISABLE_LEAKED_ENI_CLEANUP,
        &var::DISABLE_METRICS,
        &var::DISABLE_INTROSPECTION,
    ] {
        reader.boolean(variable);
    }
    reader.text(&var::INTROSPECTION_BIND_ADDRESS);
    if reader.boolean(&var::ENABLE_SUBNET_DISCOVERY) && reader.raw(&var::ENABLE_SUBNET_DISCOVERY).is_some() {
        reader.find(
            &var::ENABLE_SUBNET_DISCOVERY,
            Verdict::Note,
            "not in this release: ENIs are made in the node's own subnet",
        );
    }
}

/// With prefix delegation one of three targets must be positive. The reference compares texts byte by byte (`abc` passes, ` 1`
/// does not); whom it refuses, we refuse, and what it reads as 0 has been said by then.
fn check_prefix_targets(reader: &mut Reader<'_>) {
    let targets = [&var::WARM_PREFIX_TARGET, &var::WARM_IP_TARGET, &var::MINIMUM_IP_TARGET];
    let delegation = reader.is_on(&var::ENABLE_PREFIX_DELEGATION);
    if delegation && !targets.iter().any(|target| reader.raw(target).is_some_and(|text| text > "0")) {
        let given: Vec<_> = targets.iter().map(|t| format!("{}=`{}`", t.name, reader.raw(t).unwrap_or(""))).collect();
        let matter = format!("it needs one of these to be 1 or more: {}", given.join(", "));
        reader.find(&var::ENABLE_PREFIX_DELEGATION, Verdict::Refused, matter);
    }
}

/// A number of ENIs, bytes or seconds. More than a thousand million are as good as a thousand million.
fn small(n: i64) -> u32 {
    u32::try_from(n.clamp(0, 1_000_000_000)).unwrap_or(0)
}
