//! EC2 as somebody outside asks it: over the lab's door on the host's loopback.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use vpc_aws::ec2::Credentials;
use vpc_aws::ec2::shapes::{Action, answer_from_xml};
use vpc_aws::ec2::signature::sign;

/// How long EC2 may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls it with the account's keys.
///
/// # Errors
/// No answer, or a refusal.
pub(super) fn call<A: Action>(door: SocketAddr, request: &A) -> Result<A::Response> {
    let form = request.query().encode();
    let keys = Credentials::new(lab_cloud::ACCESS_KEY, lab_cloud::SECRET_KEY, None, None, "crash");
    let signed = sign(&format!("http://{door}/"), &[], form.as_bytes(), "ap-northeast-2", &keys, SystemTime::now())
        .map_err(|error| anyhow!("{error}"))?;
    let headers: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = form.len();
    let text = format!(
        "POST / HTTP/1.1\r\nhost: {door}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{form}"
    );
    let mut stream = TcpStream::connect(door).context("the lab's EC2")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("EC2 did not answer") };
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("EC2 refused {}: {body}", A::NAME);
    }
    Ok(answer_from_xml::<A>(body).map_err(|error| anyhow!("{error}: {body}"))?.body)
}
