//! The filters the lab knows are those that AWS documents: Amazon's own model of EC2, as its client for Python carries it, is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Stdio};

use e2e::{root, skip};

const TEST: &str = "every_filter_that_aws_documents_is_in_the_document";

#[test]
fn every_filter_that_aws_documents_is_in_the_document() {
    let python = std::env::var("VPC_CNI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = |arguments: &[&str]| Command::new(&python).args(arguments).stdin(Stdio::null()).output();
    match run(&["-c", "import botocore"]) {
        Err(error) => return skip(TEST, &format!("cannot run {python}: {error}")),
        Ok(output) if !output.status.success() => {
            return skip(TEST, &format!("{python} has no botocore (pip install boto3)"));
        }
        Ok(_) => {}
    }
    let path = |relative: &str| root().join(relative).display().to_string();
    let compared = run(&[&path("tests/e2e/py/filters_documented.py"), &path("docs/lab-filters.md")]).unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&compared.stdout), String::from_utf8_lossy(&compared.stderr));
    assert!(compared.status.success(), "{said}");
}
