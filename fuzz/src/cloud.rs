//! What EC2 and the instance metadata service answer, and what the lab's EC2 is asked.

use vpc_aws::ec2::shapes::{ACTION_NAMES, AnyRequest, AnyResponse, ErrorAnswer, Query};
use vpc_aws::ec2::{Ec2Error, again_after};
use vpc_aws::hand::facts;
use vpc_aws::imds::{ImdsError, ImdsFailure, Known, NodeMetadata, Reading, Walk};
use vpc_model::WallTime;

use crate::choice;

/// The first byte chooses the action, the rest is the body of the answer.
pub fn ec2_answer(data: &[u8]) {
    let (action, body) = choice(data);
    let action = ACTION_NAMES[action % ACTION_NAMES.len()];
    let body = String::from_utf8_lossy(body);
    match AnyResponse::from_xml(action, &body) {
        Ok(answer) => {
            // Compared as texts: a structure without any member has none, and comes back as absent.
            let written = answer.body.to_xml("id");
            let again = AnyResponse::from_xml(action, &written).expect("what was written can be read");
            assert_eq!(again.body.to_xml("id"), written);
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
    let Ok(refused) = ErrorAnswer::from_xml(&body) else { return };
    // Characters that XML has no place for are read, and replaced where they are written.
    let written = refused.to_xml();
    let again = ErrorAnswer::from_xml(&written).expect("what was written can be read");
    assert_eq!(again.to_xml(), written);
    let error = Ec2Error::refused(action, 400, refused);
    let _ = (error.to_string(), error.advice(), error.is_not_found());
    let wait = again_after(&Query::parse(b"Action=DescribeSubnets"), &error, 1, 0.5);
    assert!(wait.is_none_or(|wait| wait.as_secs() < 60), "{wait:?}");
}

/// The form of a request, as the lab reads it.
pub fn ec2_request(data: &[u8]) {
    let query = Query::parse(data);
    assert_eq!(Query::parse(query.encode().as_bytes()), query);
    match AnyRequest::from_query(&query) {
        Ok(request) => {
            let said = request.query();
            let again = AnyRequest::from_query(&said).expect("what was said can be read");
            assert_eq!(again.query(), said);
        }
        Err(error) => {
            let _ = (error.code(), error.to_string());
        }
    }
}

/// More rounds than this are never needed: the list of ENIs, their values, and values that only some of them have.
const ROUNDS: usize = 4;

/// Values of the metadata service in the order in which they are asked for, with a zero byte between two. One that begins with byte 1
/// is not there, one with byte 2 can not be read.
pub fn imds(data: &[u8]) {
    let mut values = data.split(|byte| *byte == 0);
    let mut reading = Reading::default();
    let (mut node, mut walk): (Option<NodeMetadata>, Option<Walk>) = (None, None);
    for round in 0.. {
        let (of_node, of_walk) = (reading.node(), reading.walk());
        node = whole(&of_node).or(node);
        walk = whole(&of_walk).or(walk);
        let lacking: Vec<String> = of_node.lacking().into_iter().chain(of_walk.lacking()).collect();
        if lacking.is_empty() {
            break;
        }
        assert!(round < ROUNDS, "still lacks {lacking:?}");
        for path in lacking {
            let value = match values.next() {
                None | Some([1, ..]) => Ok(None),
                Some([2, ..]) => Err(ImdsError { path: path.clone(), failure: ImdsFailure::Timeout }),
                Some(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
            };
            reading.put(path, value);
        }
    }
    let (Some(node), Some(walk)) = (node, walk) else { return };
    if let Ok(facts) = facts::node_facts(&node, &walk, WallTime(0)) {
        assert!(facts.metadata.enis.iter().any(|eni| eni.usable), "a node without an ENI it can use");
    }
}

fn whole<T: Clone>(known: &Known<T>) -> Option<T> {
    match known {
        Known::Whole(Ok(whole)) => Some(whole.clone()),
        _ => None,
    }
}
