//! The daemon's settings: environment variables in, one checked value out, and everything that is to be said about them.
//!
//! ```text
//!   environment, file --Reader, by the table--> Settings + [Row]     (what holds)
//!                                            +-> [Finding]           (what was not taken, what contradicts what)
//! ```
//!
//! Names, defaults and parsers are the reference's. A value outside the accepted set does what it does there, refuse or fall
//! back to the default, with one difference: nothing falls back in silence.

mod contradictions;
pub mod file;
pub mod finding;
mod kubernetes;
pub mod parse;
mod pool;
mod reader;
pub mod sections;
mod spelling;
pub mod table;
mod tags;
mod values;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use vpc_aws::{Ec2Settings, ImdsSettings, SettingError};
use vpc_hostnet::{HostLayout, HostSettings, SnatRandom};
use vpc_model::VethPrefix;
use vpc_wire::cni::Version;

pub use file::FileValues;
pub use finding::{Finding, Verdict};
pub use pool::LONGEST_ADD_WAIT;
use reader::Reader;
pub use reader::{Env, Origin, Row};
use table as var;
pub use values::{
    AwsSettings, ConflistSettings, EniTags, KubernetesSettings, LogLevel, LogSettings, LogTo, PoolSettings, Settings,
};

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

/// Reads and checks all settings of an environment without a file.
#[must_use]
pub fn check(env: &Env) -> Checked {
    check_with(env, &FileValues::default())
}

/// Reads and checks all settings. Those of the file go before those of the environment.
#[must_use]
pub fn check_with(env: &Env, file: &FileValues) -> Checked {
    let mut merged = env.clone();
    merged.extend(file.values.clone());
    let mut reader = Reader::new(&merged, file);
    reader.findings.extend(file.findings.iter().cloned());
    refuse_features(&mut reader);
    check_family(&mut reader);
    let host = host(&mut reader);
    let settings = Settings {
        kubernetes: kubernetes::read(&mut reader),
        pool: pool::read(&mut reader),
        conflist: conflist(&mut reader, &host),
        host,
        disable_tcp_early_demux: reader.boolean(&var::DISABLE_TCP_EARLY_DEMUX),
        log: log(&mut reader),
        checkpoint: reader.text(&var::BACKING_STORE).into(),
        aws: aws(&mut reader),
        tags: tags::read(&mut reader),
        network_policy_mode: network_policy_mode(&mut reader),
        file: Some(reader.text(&var::CONFIG_FILE)).filter(|path| !path.is_empty()).map(PathBuf::from),
    };
    contradictions::find(&mut reader, &settings);
    read_what_has_no_effect(&mut reader);
    spelling::find_misspelt(&mut reader);
    reader.rows.sort_by_key(|row| sections::all().position(|v| v.name == row.name));
    Checked { settings, findings: reader.findings, rows: reader.rows }
}

fn refuse_features(reader: &mut Reader<'_>) {
    for (feature, what) in sections::NOT_IN_THIS_RELEASE {
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

/// Versions the conflist may have.
const VERSIONS: [(&str, Version); 2] = [("0.4.0", Version::V0_4_0), ("1.1.0", Version::V1_1_0)];

fn conflist(reader: &mut Reader<'_>, host: &HostSettings) -> ConflistSettings {
    let modes = [("strict", "strict"), ("standard", "standard")];
    ConflistSettings {
        bin_dir: directory(reader, &var::HOST_CNI_BIN_PATH),
        conf_dir: directory(reader, &var::HOST_CNI_CONFDIR_PATH),
        version: reader.choice(&var::CONF_VERSION, &VERSIONS, Version::V0_4_0),
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

/// Checked without regard to case, passed on as written. Empty is not the same as not set: it is refused.
fn network_policy_mode(reader: &mut Reader<'_>) -> String {
    let known = |text: &str| ["none", "standard", "strict"].iter().any(|mode| text.eq_ignore_ascii_case(mode));
    let understand = |text: &str| Some(text.to_owned()).filter(|text| known(text));
    reader.take(&var::NETWORK_POLICY_MODE, understand, String::clone, String::new())
}

/// Reads the variables nothing in this release acts on: none of them asks for more than its default.
fn read_what_has_no_effect(reader: &mut Reader<'_>) {
    reader.boolean(&var::DISABLE_METRICS);
    reader.boolean(&var::DISABLE_INTROSPECTION);
    reader.text(&var::INTROSPECTION_BIND_ADDRESS);
}

/// A number of ENIs, bytes or seconds. More than a thousand million are as good as a thousand million.
fn small(n: i64) -> u32 {
    u32::try_from(n.clamp(0, 1_000_000_000)).unwrap_or(0)
}
