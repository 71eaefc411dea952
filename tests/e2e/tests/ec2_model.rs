//! What we ask EC2 and what the lab's EC2 answers, held against EC2's published model and read and written by botocore: every
//! action, every parameter, every element, every value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use e2e::{python_with, root, skip};
use serde_json::{Value, json};
use vpc_aws::ec2::shapes::sample::Dice;
use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse, Kind, Member, Query, catalogue, samples};

/// With nothing left out, three times; then with members and entries left out here and there.
const FULL: u64 = 3;
const PARTIAL: u64 = 5;

type Exchanges = BTreeMap<&'static str, Vec<(AnyRequest, AnyResponse)>>;

#[test]
fn every_action_is_as_in_ec2s_model() {
    const TEST: &str = "every_action_is_as_in_ec2s_model";
    let python = match python_with("boto3") {
        Ok(python) => python,
        Err(reason) => return skip(TEST, &reason),
    };
    let exchanges = exchanges();
    let report = judge(&python, &actions(&exchanges));
    let complaints: Vec<String> = serde_json::from_value(report["complaints"].clone()).unwrap();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));

    let written: BTreeMap<String, Vec<String>> = serde_json::from_value(report["requests"].clone()).unwrap();
    let judged: Vec<&str> = written.keys().map(String::as_str).collect();
    let ours: Vec<&str> = exchanges.keys().copied().collect();
    assert_eq!(judged, ours, "every action is judged");
    for (name, own) in &exchanges {
        assert_eq!(written[*name].len(), own.len(), "{name}");
        for (form, (request, _)) in written[*name].iter().zip(own) {
            let read = AnyRequest::from_query(&Query::parse(form.as_bytes()));
            let read = read.unwrap_or_else(|error| panic!("{name}: {error}: {form}"));
            assert_eq!(read.query(), request.query(), "{name} as botocore writes it: {form}");
        }
    }
}

#[test]
fn the_judge_of_the_model_finds_what_is_wrong() {
    const TEST: &str = "the_judge_of_the_model_finds_what_is_wrong";
    let python = match python_with("boto3") {
        Ok(python) => python,
        Err(reason) => return skip(TEST, &reason),
    };
    let text = |path: &str| json!({"path": path, "kind": "text", "words": []});
    let answer = "<DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
        <vpcSet><item><vpcId>vpc-1</vpcId><isDefault>yes</isDefault><colour>red</colour></item></vpcSet>\
        </DescribeVpcsResponse>";
    let report = judge(
        &python,
        &json!([
            {"name": "DescribeFlowers", "parameters": [], "elements": [], "exchanges": []},
            {
                "name": "DescribeVpcs",
                "parameters": [text("VpcIds.N"), text("DryRun"), text("NextToken"), text("Filter.N.Name"), text("Filter.N.Value.N")],
                "elements": [
                    text("vpcSet/item/vpcid"),
                    {"path": "vpcSet/item/state", "kind": "words", "words": ["pending", "blooming"]},
                ],
                "exchanges": [{"request": "Action=DescribeVpcs&VpcId.1=vpc-1", "request_id": "s", "answer": answer}],
            },
        ]),
    );
    assert_eq!(
        report["complaints"],
        json!([
            "DescribeFlowers: is not in the model",
            "DescribeVpcs: the parameter VpcIds.N is not in the model",
            "DescribeVpcs: the parameter DryRun is boolean in the model, not text",
            "DescribeVpcs: the parameter MaxResults is not accepted",
            "DescribeVpcs: the element vpcSet/item/vpcid is not in the model",
            "DescribeVpcs: the element vpcSet/item/state: the model does not have the words ['blooming']",
            "DescribeVpcs: the request id s became r",
            "DescribeVpcs: /vpcSet[1]/isDefault: 'yes' was written, False parsed",
            "DescribeVpcs: /vpcSet[1]/colour is not in the model",
        ])
    );
}

/// Sample requests and answers by action.
fn exchanges() -> Exchanges {
    let mut all = Exchanges::new();
    let dice = (0..FULL).map(|seed| Dice::full(seed + 1)).chain((0..PARTIAL).map(|seed| Dice::new(1000 + 2 * seed)));
    for (request, answer) in dice.flat_map(|mut dice| samples(&mut dice)) {
        assert_eq!(request.name(), answer.name());
        all.entry(request.name()).or_default().push((request, answer));
    }
    all
}

/// What botocore's model is asked about.
fn actions(exchanges: &Exchanges) -> Value {
    let members = |members: &[Member]| -> Vec<Value> {
        members
            .iter()
            .map(|member| json!({"path": member.path, "kind": kind(member.kind).0, "words": kind(member.kind).1}))
            .collect()
    };
    let exchange = |(index, (request, answer)): (usize, &(AnyRequest, AnyResponse))| {
        let id = format!("request-{index}");
        json!({"request": request.query().encode(), "request_id": id, "answer": answer.to_xml(&id)})
    };
    catalogue()
        .iter()
        .map(|action| {
            let exchanges: Vec<Value> = exchanges[action.name].iter().enumerate().map(exchange).collect();
            assert_eq!(exchanges.len() as u64, FULL + PARTIAL);
            json!({
                "name": action.name,
                "parameters": members(&action.parameters),
                "elements": members(&action.elements),
                "exchanges": exchanges,
            })
        })
        .collect()
}

fn kind(kind: Kind) -> (&'static str, &'static [&'static str]) {
    match kind {
        Kind::Text => ("text", &[]),
        Kind::Integer => ("integer", &[]),
        Kind::Boolean => ("boolean", &[]),
        Kind::Timestamp => ("timestamp", &[]),
        Kind::Words(words) => ("words", words),
    }
}

fn judge(python: &str, actions: &Value) -> Value {
    let mut child = Command::new(python)
        .arg(root().join("tests/e2e/py/botocore_model.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads everything before it says anything.
    child.stdin.take().unwrap().write_all(actions.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
