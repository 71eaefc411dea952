//! Acts in words. The node is not named: it stands before them where they are shown.

use std::fmt;

use lab_cloud::{CloudFault, ErrorWhen};
use vpc_model::Millis;

use super::{Act, Blind, Kill, Outsider, Settings, Warm};

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { pod, .. } => write!(f, "pod {pod} comes"),
            Self::Delete { pod, .. } => write!(f, "pod {pod} is deleted"),
            Self::LoseSandbox { pod, .. } => write!(f, "the sandbox of {pod} ends without a DEL"),
            Self::AddAgain { pod, .. } => write!(f, "the runtime asks again for the sandbox that {pod} has"),
            Self::DeleteOld { pod, .. } => write!(f, "the runtime deletes the sandbox {pod} had before, once more"),
            Self::DeleteGone { .. } => f.write_str("the runtime deletes a sandbox that is gone, once more"),
            Self::Collect { late_ms: 0, .. } => f.write_str("the runtime collects garbage (GC)"),
            Self::Collect { late_ms, .. } => {
                write!(f, "the runtime collects garbage (GC), {} after it made its list", Millis(*late_ms))
            }
            Self::Inquire { pod, .. } => write!(f, "the runtime asks for STATUS, and CHECKs {pod}"),
            Self::FailWiring { times: 1, .. } => f.write_str("the next plugin fails after it was given an address"),
            Self::FailWiring { times, .. } => {
                write!(f, "the next {times} plugins fail after they were given an address")
            }
            Self::Kill { after: 0, when, away_ms, .. } => {
                write!(f, "the daemon is to be killed {when} its next effect, and is away for {}", Millis(*away_ms))
            }
            Self::Kill { after, when, away_ms, .. } => write!(
                f,
                "the daemon is to be killed {when} an effect, {after} others from now, and is away for {}",
                Millis(*away_ms)
            ),
            Self::Terminate { away_ms, .. } => {
                write!(f, "the daemon is asked to end, and is away for {}", Millis(*away_ms))
            }
            Self::Reboot { .. } => f.write_str("the machine starts anew"),
            Self::Clock { by_ms } => {
                let way = if *by_ms < 0 { "back" } else { "ahead" };
                write!(f, "every node's calendar jumps {way} by {}", Millis(by_ms.unsigned_abs()))
            }
            Self::Fault { fault, for_ms } => write!(f, "for {}: {}", Millis(*for_ms), Wrong(fault)),
            Self::Outside { what, pick, .. } => write!(f, "somebody else {what} (number {pick})"),
            Self::Settings { settings, .. } => write!(f, "settings are now {settings}"),
            Self::Api { answers: true } => f.write_str("the API server answers"),
            Self::Api { answers: false } => f.write_str("the API server is away"),
            Self::NodeObject { unschedulable, max_pods, .. } => {
                let pods = max_pods.map_or("no number of".to_owned(), |pods| pods.to_string());
                let takes = if *unschedulable { "is cordoned" } else { "takes pods" };
                write!(f, "the node object {takes} and names {pods} pods")
            }
            Self::DiskFull { for_ms, .. } => write!(f, "for {} the disk takes nothing", Millis(*for_ms)),
            Self::DiskLost { .. } => f.write_str("the checkpoint is lost"),
            Self::HostFails { how: Blind::Whole, for_ms, .. } => {
                write!(f, "for {} the host's network can not be looked at or changed", Millis(*for_ms))
            }
            Self::HostFails { how: Blind::Changes, for_ms, .. } => {
                write!(f, "for {} the host's network can not be changed", Millis(*for_ms))
            }
            Self::RulesLost { every: 1, .. } => f.write_str("somebody removes all rules of pods and ENIs"),
            Self::RulesLost { every, .. } => write!(f, "somebody removes one in {every} rules of pods and ENIs"),
        }
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Begun => "in the middle of",
            Self::Done => "after",
        })
    }
}

impl fmt::Display for Outsider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TakeAddress => "takes an address or prefix from one of its ENIs",
            Self::TakeEni => "deletes one of its ENIs",
            Self::TakeTags => "takes the tags from one of its ENIs",
            Self::GiveAddress => "gives one of its ENIs another address",
            Self::ChangeGroups => "gives one of its ENIs other security groups",
        })
    }
}

/// What differs from the defaults.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differing = self.fields().into_iter().zip(Self::default().fields()).filter(|(own, plain)| own != plain);
        let words: Vec<String> = differing.map(|((name, value), _)| format!("{name} {value}")).collect();
        match words.is_empty() {
            true => f.write_str("the defaults"),
            false => f.write_str(&words.join(", ")),
        }
    }
}

impl Settings {
    fn fields(&self) -> [(&'static str, String); 13] {
        let number = |value: Option<u32>| value.map_or("unset".to_owned(), |value| value.to_string());
        let span = |ms: u64| Millis(ms).to_string();
        [
            ("prefixes", self.prefixes.to_string()),
            ("warm", self.warm.to_string()),
            ("max-enis", number(self.max_enis)),
            ("max-pods", number(self.max_pods)),
            ("cool-down", span(self.cool_down_ms)),
            ("add-wait", span(self.add_wait_ms)),
            ("min-eni-age", span(self.min_eni_age_ms)),
            ("release-every", span(self.release_every_ms)),
            ("audit-every", span(self.audit_every_ms)),
            ("ec2", format!("{:?}", self.ec2).to_lowercase()),
            ("custom-networking", self.custom_networking.to_string()),
            ("look-ahead", self.look_ahead.to_string()),
            ("manage-untagged", self.manage_untagged.to_string()),
        ]
    }
}

impl fmt::Display for Warm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enis(enis) => write!(f, "{enis} ENIs"),
            Self::Prefixes(prefixes) => write!(f, "{prefixes} prefixes"),
            Self::Addresses { warm, minimum } => write!(f, "{warm} addresses, {minimum} in all"),
        }
    }
}

/// A fault of the cloud, in words.
struct Wrong<'a>(&'a CloudFault);

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = |node: &Option<String>| node.as_ref().map_or(String::new(), |node| format!(" of {node}"));
        match self.0 {
            CloudFault::Latency { action, node, add_ms, jitter_ms } => {
                let (least, more) = (Millis(*add_ms), Millis(*jitter_ms));
                write!(f, "{action}{} takes {least} longer, and up to {more} more", whose(node))
            }
            CloudFault::Throttle { action, capacity, refill_per_second } => {
                write!(f, "EC2 takes {capacity} of {action} at once and {refill_per_second} a second")
            }
            CloudFault::Deny { action, node } => write!(f, "{action}{} is not allowed", whose(node)),
            CloudFault::Error { action, node, code, when, skip, times, .. } => {
                let how = match when {
                    ErrorWhen::Before => "fails with",
                    ErrorWhen::After => "is carried out and answered with",
                    ErrorWhen::Lost => "is carried out and not answered, instead of",
                };
                write!(f, "{action}{} {how} {code}", whose(node))?;
                if let Some(times) = times {
                    write!(f, ", {times} times")?;
                }
                if *skip > 0 {
                    write!(f, ", after {skip} that pass")?;
                }
                Ok(())
            }
            CloudFault::SubnetExhausted { leave, .. } => write!(f, "the subnet has {leave} free addresses"),
            CloudFault::SubnetFragmented { leave, .. } => write!(f, "the subnet has {leave} free /28"),
            CloudFault::ImdsStale { node } => write!(f, "IMDS of {node} no longer learns of changes"),
            CloudFault::ImdsPartial { node } => write!(f, "IMDS of {node} shows primary addresses only"),
            CloudFault::ImdsReordered { node } => write!(f, "IMDS of {node} lists in another order each time"),
            CloudFault::ImdsMissing { node, device: Some(device) } => {
                write!(f, "IMDS of {node} does not list device {device}")
            }
            CloudFault::ImdsMissing { node, device: None } => {
                write!(f, "IMDS of {node} lists the primary ENI only")
            }
            CloudFault::ImdsHollow { node } => {
                write!(f, "IMDS of {node} lists secondary ENIs and shows nothing of them")
            }
            CloudFault::ImdsUnauthorized { node } => write!(f, "IMDS of {node} refuses tokens"),
            CloudFault::ImdsError { node, status } => write!(f, "IMDS of {node} answers {status}"),
            CloudFault::ImdsSlow { node, by_ms } => write!(f, "IMDS of {node} answers {} late", Millis(*by_ms)),
            CloudFault::DetachSlow { node, by_ms } => {
                write!(f, "detaching ENIs{} takes {} longer", whose(node), Millis(*by_ms))
            }
            CloudFault::AttachStuck { node } => write!(f, "attachments{} get stuck", whose(node)),
            CloudFault::ClockSkew { by_ms } => write!(f, "the cloud's calendar is off by {by_ms} ms"),
        }
    }
}
