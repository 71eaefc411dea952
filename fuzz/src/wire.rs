//! What the other side of the daemon's socket says, to the plugin and to the daemon.

use prost::Message;
use vpc_wire::rpc::node::{CollectReply, CollectRequest, FindReply, FindRequest, StatusReply};
use vpc_wire::rpc::pb::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, DeleteNpRequest, EnforceNpReply,
    EnforceNpRequest, NetworkPolicyAgentConfigReply,
};
use vpc_wire::rpc::{Refusal, fuzzing};

use crate::choice;

/// One way to read a message.
type Reader = fn(&[u8]);

/// Every message of both contracts.
const MESSAGES: [Reader; 13] = [
    message::<AddNetworkRequest>,
    message::<AddNetworkReply>,
    message::<DelNetworkRequest>,
    message::<DelNetworkReply>,
    message::<NetworkPolicyAgentConfigReply>,
    message::<EnforceNpRequest>,
    message::<EnforceNpReply>,
    message::<DeleteNpRequest>,
    message::<StatusReply>,
    message::<CollectRequest>,
    message::<CollectReply>,
    message::<FindRequest>,
    message::<FindReply>,
];

/// The first byte chooses: 0 = all the plugin hears on its connection, 1 = the details of a refusal, from 2 on one of the messages.
pub fn grpc(data: &[u8]) {
    let (kind, data) = choice(data);
    match kind {
        0 => {
            let _ = fuzzing::hear(data);
        }
        1 => refusal(data),
        _ => MESSAGES[(kind - 2) % MESSAGES.len()](data),
    }
}

fn message<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(read) = M::decode(data) else { return };
    let again = M::decode(read.encode_to_vec().as_slice()).expect("what was written can be read");
    assert_eq!(again, read);
}

/// A refusal survives the way through a daemon that passes it on. A message that is too long is cut, at a whole character.
fn refusal(data: &[u8]) {
    let Some(read) = Refusal::from_details(data) else { return };
    let again = Refusal::from_status(&read.clone().into_status()).expect("our own refusal");
    assert!(read.message.starts_with(&again.message));
    assert_eq!(Refusal { message: read.message.clone(), ..again }, read);
}
