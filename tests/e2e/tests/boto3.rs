//! Amazon's own clients for Python against the lab's EC2: boto3, and the AWS CLI that stands on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use e2e::{program, root, skip};

#[test]
fn boto3_walks_through_the_labs_ec2() {
    walk("boto3_walks_through_the_labs_ec2", "boto3", "boto3_walk.py");
}

#[test]
fn the_aws_cli_walks_through_the_labs_ec2() {
    walk("the_aws_cli_walks_through_the_labs_ec2", "awscli", "aws_cli_walk.py");
}

/// Runs a walk in Python against a cloud of its own.
fn walk(test: &str, package: &str, script: &str) {
    let lab = match program("vpc-lab") {
        Ok(lab) => lab,
        Err(reason) => return skip(test, &reason),
    };
    let python = std::env::var("VPC_CNI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if let Err(reason) = has(&python, package) {
        return skip(test, &reason);
    }
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
    let said = format!("{}{}", String::from_utf8_lossy(&walk.stdout), String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "{said}");
}

fn has(python: &str, package: &str) -> Result<(), String> {
    match Command::new(python).args(["-c", &format!("import {package}")]).stdin(Stdio::null()).output() {
        Err(error) => Err(format!("cannot run {python}: {error}")),
        Ok(output) if !output.status.success() => Err(format!("{python} has no {package} (pip install {package})")),
        Ok(_) => Ok(()),
    }
}

/// A program that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
