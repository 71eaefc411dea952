//! Amazon's own client for Python against the lab's EC2: creating, attaching, describing, assigning, deleting, all parsed by boto3.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use e2e::{program, python_with, root, skip};

const TEST: &str = "boto3_walks_through_the_labs_ec2";

#[test]
fn boto3_walks_through_the_labs_ec2() {
    let lab = match program("vpc-lab") {
        Ok(lab) => lab,
        Err(reason) => return skip(TEST, &reason),
    };
    let python = match python_with("boto3") {
        Ok(python) => python,
        Err(reason) => return skip(TEST, &reason),
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
        .arg(root().join("tests/e2e/py/boto3_walk.py"))
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&walk.stdout), String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "{said}");
}

/// A program that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
