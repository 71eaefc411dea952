//! The agent's answers in the words of the gRPC contract.

use tonic::Status;
use vpc_agent::{AddReply, CloudFailure, DelReply, FailureClass, NoPlace, Outcome, Refusal};
use vpc_ipam::Allocation;
use vpc_model::SandboxKey;
use vpc_wire::rpc::pb::{AddNetworkReply, DelNetworkReply, IpAllocationMetadata};
use vpc_wire::rpc::{Cause, Refusal as WireRefusal};

/// The answer to an AddNetwork.
pub fn add(outcome: Outcome, policy_mode: &str) -> Result<AddNetworkReply, Status> {
    match outcome {
        Outcome::Added(reply) => Ok(added(&reply, policy_mode)),
        Outcome::Refused(why) => Err(refusal(&why).into_status()),
        other => Err(odd("an ADD", &other)),
    }
}

fn added(reply: &AddReply, policy_mode: &str) -> AddNetworkReply {
    AddNetworkReply {
        success: true,
        allocations: vec![place(&reply.allocation)],
        use_external_snat: reply.external_snat,
        vpc_v4_cidrs: reply.vpc_cidrs.iter().map(ToString::to_string).collect(),
        network_policy_mode: policy_mode.to_owned(),
        ..AddNetworkReply::default()
    }
}

/// The answer to a DelNetwork of `sandbox`.
pub fn del(outcome: Outcome, sandbox: &SandboxKey, policy_mode: &str) -> Result<DelNetworkReply, Status> {
    match outcome {
        Outcome::Deleted(DelReply::Released(allocation)) => Ok(DelNetworkReply {
            success: true,
            allocations: vec![place(&allocation)],
            network_policy_mode: policy_mode.to_owned(),
            ..DelNetworkReply::default()
        }),
        // No address is free: there is nothing to be unwired.
        Outcome::Deleted(DelReply::Kept(_)) => Ok(DelNetworkReply {
            success: true,
            network_policy_mode: policy_mode.to_owned(),
            ..DelNetworkReply::default()
        }),
        Outcome::Deleted(DelReply::UnknownPod) => Err(WireRefusal::unknown_pod(sandbox).into_status()),
        Outcome::Refused(why) => Err(refusal(&why).into_status()),
        other => Err(odd("a DEL", &other)),
    }
}

/// An answer to another question than was asked.
pub(crate) fn odd(asked: &str, outcome: &Outcome) -> Status {
    let answered = match outcome {
        Outcome::Added(_) => "an ADD",
        Outcome::Deleted(_) => "a DEL",
        Outcome::Refused(_) => "an ADD that was refused",
        Outcome::Status(_) => "a STATUS",
        Outcome::Found(_) => "a question for a lease",
        Outcome::Collected(_) => "a GC",
    };
    Status::internal(format!("{asked} was answered as {answered}: please report this"))
}

fn place(allocation: &Allocation) -> IpAllocationMetadata {
    IpAllocationMetadata {
        ipv4: allocation.address.to_string(),
        ipv6: String::new(),
        device_number: allocation.device.0.into(),
        route_table_id: i32::try_from(allocation.table.0).unwrap_or(i32::MAX),
    }
}

/// A refusal with its cause and numbers, as it travels.
#[must_use]
pub fn refusal(why: &Refusal) -> WireRefusal {
    let said = WireRefusal::new(cause(why), why.to_string());
    let said = numbers(why).into_iter().fold(said, |said, (name, value)| said.number(name, value));
    match why.retry_after() {
        Some(span) => said.retry_after(span),
        None => said,
    }
}

fn cause(why: &Refusal) -> Cause {
    match why {
        Refusal::Warming { .. } => Cause::Warming,
        Refusal::NotSchedulable { .. } => Cause::NotSchedulable,
        Refusal::Full { .. } => Cause::AddressLimit,
        Refusal::Cooling { .. } => Cause::Cooling,
        Refusal::SubnetExhausted { .. } => Cause::SubnetExhausted,
        Refusal::Fragmented { .. } => Cause::SubnetFragmented,
        Refusal::Throttled { .. } => Cause::Throttled,
        Refusal::Denied { .. } => Cause::Unauthorized,
        Refusal::NoPlace { why: NoPlace::AllRefused { .. }, .. } => Cause::SubnetExhausted,
        Refusal::NoPlace { why: NoPlace::Listing, .. } => Cause::Warming,
        Refusal::NoPlace { .. } => Cause::NoPlace,
        Refusal::Unconfirmed { .. } => Cause::Unconfirmed,
        Refusal::CloudOff { .. } => Cause::CloudOff,
        Refusal::Cloud { failure: CloudFailure { class, .. }, .. } => match class {
            FailureClass::SubnetExhausted => Cause::SubnetExhausted,
            FailureClass::Fragmented => Cause::SubnetFragmented,
            FailureClass::EniLimit => Cause::EniLimit,
            FailureClass::AddressLimit => Cause::AddressLimit,
            FailureClass::Throttled => Cause::Throttled,
            FailureClass::Unauthorized => Cause::Unauthorized,
            FailureClass::NotFound
            | FailureClass::GroupNotFound
            | FailureClass::WrongState
            | FailureClass::Lost
            | FailureClass::Unreachable
            | FailureClass::Other => Cause::CloudError,
        },
        Refusal::Host { .. } => Cause::HostError,
        Refusal::Checkpoint { .. } => Cause::Checkpoint,
        Refusal::ShuttingDown => Cause::ShuttingDown,
        // Its own DEL has overtaken it: there is nothing to wait for, and a runtime that asks again means a new sandbox.
        Refusal::Cancelled => Cause::BadRequest,
    }
}

fn numbers(why: &Refusal) -> Vec<(&'static str, i64)> {
    let span = |span: &vpc_model::Millis| i64::try_from(span.0).unwrap_or(i64::MAX);
    match why {
        Refusal::Warming { coming, waiting, waited } | Refusal::NotSchedulable { coming, waiting, waited } => {
            vec![("coming", i64::from(*coming)), ("waiting", i64::from(*waiting)), ("waited_ms", span(waited))]
        }
        Refusal::Full { enis, max_enis, total, held, retired: _, waited } => vec![
            ("enis", i64::from(*enis)),
            ("max_enis", i64::from(*max_enis)),
            ("addresses", i64::from(*total)),
            ("held", i64::from(*held)),
            ("waited_ms", span(waited)),
        ],
        Refusal::Cooling { total, held, cooling, waited, .. }
        | Refusal::CloudOff { total, held, cooling, waited, .. } => vec![
            ("addresses", i64::from(*total)),
            ("held", i64::from(*held)),
            ("cooling", i64::from(*cooling)),
            ("waited_ms", span(waited)),
        ],
        Refusal::SubnetExhausted { subnets, waited, .. } | Refusal::Fragmented { subnets, waited, .. } => {
            vec![("subnets", i64::try_from(subnets.len()).unwrap_or(i64::MAX)), ("waited_ms", span(waited))]
        }
        Refusal::Unconfirmed { addresses, waited, .. } => {
            vec![("unconfirmed", i64::from(*addresses)), ("waited_ms", span(waited))]
        }
        Refusal::Throttled { waited, .. }
        | Refusal::Denied { waited, .. }
        | Refusal::NoPlace { waited, .. }
        | Refusal::Cloud { waited, .. } => vec![("waited_ms", span(waited))],
        Refusal::Host { .. } | Refusal::Checkpoint { .. } | Refusal::ShuttingDown | Refusal::Cancelled => vec![],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_model::{DeviceIndex, Millis, RouteTable};
    use vpc_wire::rpc::UNKNOWN_POD_TEXT;

    use super::*;

    fn allocation() -> Allocation {
        Allocation { address: "10.20.0.11".parse().unwrap(), device: DeviceIndex(1), table: RouteTable(2) }
    }

    fn key() -> SandboxKey {
        SandboxKey { network: "aws-cni".into(), container: "c1".into(), interface: "eth0".into() }
    }

    #[test]
    fn an_address_travels_with_its_device_and_table() {
        let vpc_cidrs = vec!["10.20.0.0/16".parse().unwrap(), "192.168.0.0/16".parse().unwrap()];
        let reply = AddReply { allocation: allocation(), external_snat: false, vpc_cidrs };
        let said = add(Outcome::Added(reply), "Strict").unwrap();
        assert!(said.success && !said.use_external_snat);
        let place = &said.allocations[0];
        assert_eq!((place.ipv4.as_str(), place.device_number, place.route_table_id), ("10.20.0.11", 1, 2));
        assert_eq!(said.vpc_v4_cidrs, ["10.20.0.0/16", "192.168.0.0/16"]);
        assert_eq!(said.network_policy_mode, "Strict");
    }

    #[test]
    fn an_unknown_sandbox_is_told_in_the_words_the_reference_s_plugin_looks_for() {
        let status = del(Outcome::Deleted(DelReply::UnknownPod), &key(), "").unwrap_err();
        assert!(status.message().contains(UNKNOWN_POD_TEXT) && WireRefusal::is_unknown_pod(&status), "{status}");
        let known = del(Outcome::Deleted(DelReply::Released(allocation())), &key(), "none").unwrap();
        assert_eq!((known.success, known.network_policy_mode.as_str()), (true, "none"));
    }

    #[test]
    fn a_refusal_keeps_its_cause_numbers_and_way_out() {
        let full = Refusal::Full { enis: 3, max_enis: 3, total: 27, held: 27, retired: 0, waited: Millis::seconds(3) };
        let status = add(Outcome::Refused(full), "").unwrap_err();
        let said = WireRefusal::from_status(&status).unwrap();
        assert_eq!(said.cause, Cause::AddressLimit);
        assert!(said.numbers.contains(&("held".to_owned(), 27)), "{said}");
        assert!(said.message.contains("27 addresses"), "{said}");
    }

    #[test]
    fn every_cause_travels_as_its_own() {
        let (action, code, message) = ("A".to_owned(), "C".to_owned(), "m".to_owned());
        let failure = |class| CloudFailure {
            class,
            action: action.clone(),
            code: code.clone(),
            message: message.clone(),
            lost_before: false,
        };
        let (retry_in, waited) = (Millis::seconds(5), Millis::seconds(15));
        let subnets = vec!["subnet-1".parse().unwrap()];
        let cloud = |class| Refusal::Cloud { failure: failure(class), retry_in, waited };
        let cases = [
            (cloud(FailureClass::EniLimit), Cause::EniLimit),
            (cloud(FailureClass::Lost), Cause::CloudError),
            (Refusal::SubnetExhausted { subnets: subnets.clone(), retry_in, waited }, Cause::SubnetExhausted),
            (Refusal::Fragmented { subnets, retry_in, waited }, Cause::SubnetFragmented),
            (Refusal::Throttled { failure: failure(FailureClass::Throttled), retry_in, waited }, Cause::Throttled),
            (
                Refusal::Denied {
                    action: "ec2:A".into(),
                    failure: failure(FailureClass::Unauthorized),
                    retry_in,
                    waited,
                },
                Cause::Unauthorized,
            ),
        ];
        for (why, want) in cases {
            let said = refusal(&why);
            assert_eq!((said.cause, said.retry_after), (want, Some(retry_in)), "{said}");
        }
        let others = [
            (Refusal::NoPlace { why: NoPlace::NodeUnread, waited }, Cause::NoPlace),
            (Refusal::Unconfirmed { addresses: 9, failure: None, waited }, Cause::Unconfirmed),
            (Refusal::NotSchedulable { coming: 1, waiting: 1, waited }, Cause::NotSchedulable),
            (
                Refusal::CloudOff { allowed: vpc_agent::CloudUse::Off, total: 9, held: 9, cooling: 0, waited },
                Cause::CloudOff,
            ),
            (
                Refusal::Cooling { total: 9, held: 8, cooling: 1, next_free_in: Millis::seconds(9), waited },
                Cause::Cooling,
            ),
        ];
        for (why, want) in others {
            assert_eq!(refusal(&why).cause, want);
        }
    }
}
