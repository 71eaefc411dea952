//! Amazon's own clients for Python against the lab's EC2: every action of it is called by boto3, and every answer is parsed and held
//! against EC2's published model; the AWS CLI goes through a VPC as people do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use e2e::{program, python_with, root, skip};
use vpc_aws::ec2::shapes::catalogue;

/// The lab's VPC has no IPv6: these are always refused.
const ALWAYS_REFUSED: [&str; 2] = ["AssignIpv6Addresses", "UnassignIpv6Addresses"];

#[test]
fn boto3_walks_through_the_labs_ec2() {
    walk("boto3_walks_through_the_labs_ec2", "boto3", "boto3_walk.py");
}

#[test]
fn boto3_changes_the_labs_network_and_launches_an_instance() {
    let Some(said) = walk("boto3_changes_the_labs_network_and_launches_an_instance", "boto3", "boto3_network.py")
    else {
        return;
    };
    let answered = said.lines().find_map(|line| line.strip_prefix("answered ")).unwrap();
    let answered: BTreeSet<&str> = answered.split(' ').chain(ALWAYS_REFUSED).collect();
    let all: BTreeSet<&str> = catalogue().iter().map(|action| action.name).collect();
    assert_eq!(answered, all, "every action was answered");
}

#[test]
fn the_aws_cli_walks_through_the_labs_ec2() {
    walk("the_aws_cli_walks_through_the_labs_ec2", "awscli", "aws_cli_walk.py");
}

/// Runs a walk against a cloud of its own and gives what it said; `None` if it was skipped.
fn walk(test: &str, module: &str, script: &str) -> Option<String> {
    let found = program("vpc-lab").and_then(|lab| Ok((lab, python_with(module)?)));
    let (lab, python) = match found {
        Ok(found) => found,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    let mut cloud = Command::new(lab)
        .args(["cloud", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = BufReader::new(cloud.stdout.take().unwrap());
    let _cloud = Killed(cloud);
    // What it prints for a shell to run is what a client needs in its environment.
    let exports = printed.lines().map(Result::unwrap).take_while(|line| !line.starts_with("instances:"));
    let environment: Vec<(String, String)> = exports
        .filter_map(|line| Some(line.trim().strip_prefix("export ")?.to_owned()))
        .flat_map(|line| {
            line.split(' ')
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(environment.iter().any(|(name, _)| name == "AWS_ENDPOINT_URL_EC2"), "{environment:?}");

    let walk = Command::new(python)
        .arg(root().join("tests/e2e/py").join(script))
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walk.stdout).into_owned();
    assert!(walk.status.success(), "{said}{}", String::from_utf8_lossy(&walk.stderr));
    Some(said)
}

/// A program that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
