//! The voice of the hand that speaks to EC2: carries its requests over HTTP, and reads the metadata.
//!
//! ```text
//!   CloudCall --Hand (vpc_aws::hand)--> requests --HTTP--> EC2 --> answers --Hand--> CloudAnswer | CloudFailure --> door
//! ```
//!
//! Calls run side by side; the agent decides what may. Retries of one HTTP request are the client's, retries of a call the agent's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vpc_agent::{CloudAnswer, CloudCall, CloudFailure, Metadata};
use vpc_aws::ec2::Client;
use vpc_aws::hand::{Hand, Place, Step, facts};
use vpc_aws::imds;
use vpc_model::{Ipv4Net, Mac};

use crate::clock;
use crate::failpoint::{self, Point};
use crate::node::Cloud;

/// The hand and what it needs to be heard.
pub struct Ec2Hand {
    client: Client,
    imds: imds::Client,
    /// Of the primary ENI.
    mac: Mac,
    hand: Mutex<Hand>,
}

impl Ec2Hand {
    /// A hand that makes ENIs at `place`.
    #[must_use]
    pub fn new(client: Client, imds: imds::Client, place: Place) -> Self {
        Self { client, imds, mac: place.mac, hand: Mutex::new(Hand::new(place)) }
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        // The hand is whole at every step: a panic elsewhere does not make it worse.
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cloud for Ec2Hand {
    async fn call(&self, call: CloudCall) -> Result<CloudAnswer, CloudFailure> {
        let mut step = self.hand().begin(clock::wall(), call);
        loop {
            match step {
                Step::Done(result) => return result,
                Step::Ask(work, request) => {
                    let (before, after) = failpoint::around(&request);
                    before.pass();
                    let answer = self.client.ask(&request).await;
                    after.pass();
                    step = self.hand().answered(work, answer);
                }
            }
        }
    }

    async fn metadata(&self) -> Result<Metadata, String> {
        Point::MetadataBeforeRead.pass();
        let read = tokio::try_join!(self.imds.walk(), self.imds.security_groups(self.mac));
        Point::MetadataAfterRead.pass();
        let (walk, groups) = read.map_err(|error| error.to_string())?;
        facts::metadata(&walk, groups).map_err(|error| error.to_string())
    }

    async fn vpc_cidrs(&self) -> Option<Vec<Ipv4Net>> {
        match self.imds.vpc_ipv4_cidrs(self.mac).await {
            Ok(cidrs) => Some(cidrs),
            Err(error) => {
                tracing::warn!("the VPC's CIDRs are not known anew: {error}");
                None
            }
        }
    }
}
