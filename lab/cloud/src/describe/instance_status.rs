//! DescribeInstanceStatus.

use vpc_aws::ec2::shapes::{
    DescribeInstanceStatus, DescribeInstanceStatusResponse, InstanceStatus, StatusDetail, StatusSummary,
};

use super::Listing;
use super::filter::{Row, all, held, not_held, one};
use super::instances::state;
use super::page::{PageRequest, Pages};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::world::{Instance, Power};

/// Instances that a call may name.
const MAX_IDS: usize = 100;

pub(super) const STATUSES: Listing<InstanceStatus> = Listing {
    action: "DescribeInstanceStatus",
    filters: FILTERS,
    pages: Some(Pages::THOUSAND.not_with("instancesSet")),
};

const FILTERS: &[Row<InstanceStatus>] = &[
    held("availability-zone", |own| all(&own.availability_zone)),
    held("availability-zone-id", |own| all(&own.availability_zone_id)),
    not_held("event.code"),
    not_held("event.description"),
    not_held("event.instance-event-id"),
    not_held("event.not-after"),
    not_held("event.not-before"),
    not_held("event.not-before-deadline"),
    held("instance-state-code", |own| one(own.instance_state.code)),
    held("instance-state-name", |own| one(own.instance_state.name.as_str())),
    held("instance-status.reachability", |own| reachability(own.instance_status.as_ref())),
    held("instance-status.status", |own| all(own.instance_status.as_ref().map(|summary| &summary.status))),
    not_held("operator.managed"),
    not_held("operator.principal"),
    held("system-status.reachability", |own| reachability(own.system_status.as_ref())),
    held("system-status.status", |own| all(own.system_status.as_ref().map(|summary| &summary.status))),
    not_held("attached-ebs-status.status"),
    not_held("application-status.status"),
];

fn reachability(summary: Option<&StatusSummary>) -> Vec<String> {
    all(summary.into_iter().flat_map(|summary| &summary.details).map(|detail| &detail.status))
}

impl Cloud {
    pub(crate) fn describe_instance_status(
        &self,
        request: &DescribeInstanceStatus,
    ) -> Result<DescribeInstanceStatusResponse, ApiError> {
        let ids = &request.instance_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = STATUSES.ask(self, &request.filters, page)?;
        if ids.len() > MAX_IDS {
            return Err(ApiError::client(
                "InvalidRequest",
                format!(
                    "{} exceeds the maximum number of instance IDs that can be specificied ({MAX_IDS}). Please specify \
                     fewer than {MAX_IDS} instance IDs.",
                    ids.len()
                ),
            ));
        }
        self.check_instances(ids)?;
        let every = request.include_all_instances == Some(true);
        let asked = self.world.instances.values().filter(|own| ids.is_empty() || ids.contains(&own.spec.id));
        let shown = asked
            .filter(|instance| every || instance.power == Power::Running)
            .map(|instance| (instance.spec.id.to_string(), self.show_status(instance)));
        let (instance_statuses, next_token) = question.answer(shown);
        Ok(DescribeInstanceStatusResponse { instance_statuses, next_token })
    }

    fn show_status(&self, instance: &Instance) -> InstanceStatus {
        InstanceStatus {
            instance_id: instance.spec.id.clone(),
            availability_zone: Some(instance.zone.clone()),
            availability_zone_id: self.zone_id(&instance.zone),
            instance_state: state(instance.power),
            instance_status: Some(checks(instance)),
            system_status: Some(checks(instance)),
            attached_ebs_status: None,
        }
    }
}

/// What the checks of an instance say: they pass some time after it runs, and nobody makes them while it does not.
fn checks(instance: &Instance) -> StatusSummary {
    let (status, reachability) = match instance.power {
        Power::Running if instance.checked => ("ok", Some("passed")),
        Power::Running | Power::Pending => ("initializing", Some("initializing")),
        Power::ShuttingDown | Power::Terminated | Power::Stopping | Power::Stopped => ("not-applicable", None),
    };
    let detail = |status: &str| StatusDetail { name: "reachability".to_owned(), status: status.to_owned() };
    StatusSummary { status: status.to_owned(), details: reachability.map(detail).into_iter().collect() }
}
