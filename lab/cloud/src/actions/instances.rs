//! Starting, stopping, restarting and ending instances.

use vpc_aws::ec2::shapes::{
    Done, InstanceStateChange, InstanceStateChanges, RebootInstances, StartInstances, StopInstances, TerminateInstances,
};
use vpc_model::InstanceId;

use crate::cloud::{Cloud, Task};
use crate::describe::state;
use crate::error::ApiError;
use crate::world::{Instance, Power};

impl Cloud {
    pub(super) fn start_instances(&mut self, request: &StartInstances) -> Result<InstanceStateChanges, ApiError> {
        let ids = &request.instance_ids;
        self.check_states(ids, |instance| match instance.power {
            Power::Stopped | Power::Pending | Power::Running => Ok(()),
            _ => Err(wrong_state(instance, "started")),
        })?;
        Ok(self.change_states(ids, |cloud, id, before| {
            if before == Power::Stopped {
                cloud.set_state(id, Power::Pending);
                cloud.later(cloud.setup.profile.boot, Task::Booted(id.clone()));
            }
        }))
    }

    pub(super) fn stop_instances(&mut self, request: &StopInstances) -> Result<InstanceStateChanges, ApiError> {
        let ids = &request.instance_ids;
        if request.hibernate == Some(true) {
            let text = "The following instances are not configured for hibernation.";
            return Err(ApiError::client("UnsupportedHibernationConfiguration", text));
        }
        self.check_states(ids, |instance| match instance.power {
            Power::Running if !instance.birth.may_stop => Err(protected(instance, "stopped", "disableApiStop")),
            Power::Running | Power::Stopping | Power::Stopped => Ok(()),
            _ => Err(wrong_state(instance, "stopped")),
        })?;
        Ok(self.change_states(ids, |cloud, id, before| {
            if before == Power::Running {
                cloud.set_state(id, Power::Stopping);
                cloud.later(cloud.setup.profile.down, Task::Down(id.clone()));
            }
        }))
    }

    pub(super) fn terminate_instances(
        &mut self,
        request: &TerminateInstances,
    ) -> Result<InstanceStateChanges, ApiError> {
        let ids = &request.instance_ids;
        self.check_states(ids, |instance| match instance.power {
            Power::Terminated => Ok(()),
            _ if !instance.birth.may_terminate => Err(protected(instance, "terminated", "disableApiTermination")),
            _ => Ok(()),
        })?;
        Ok(self.change_states(ids, |cloud, id, before| match before {
            Power::Stopped => cloud.end_instance(id),
            Power::Terminated | Power::ShuttingDown => {}
            _ => {
                cloud.set_state(id, Power::ShuttingDown);
                cloud.later(cloud.setup.profile.down, Task::Down(id.clone()));
            }
        }))
    }

    /// The instance stays `running`; the fabric hears that it went off and on.
    pub(super) fn reboot_instances(&mut self, request: &RebootInstances) -> Result<Done, ApiError> {
        self.check_states(&request.instance_ids, |instance| match instance.power {
            Power::Running => Ok(()),
            _ => Err(wrong_state(instance, "rebooted")),
        })?;
        for id in &request.instance_ids {
            self.switch_off(id);
            self.switch_on(id);
        }
        Ok(Done::default())
    }

    /// Checks all instances of a call before anything happens to the first.
    fn check_states(
        &self,
        ids: &[InstanceId],
        check: impl Fn(&Instance) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        if ids.is_empty() {
            return Err(ApiError::missing("InstanceId"));
        }
        self.check_instances(ids)?;
        ids.iter().filter_map(|id| self.world.instances.get(id)).try_for_each(check)
    }

    /// Does something to each instance and says what became of it.
    fn change_states(
        &mut self,
        ids: &[InstanceId],
        mut change: impl FnMut(&mut Self, &InstanceId, Power),
    ) -> InstanceStateChanges {
        let mut changes = Vec::new();
        for id in ids {
            let Some(before) = self.world.instances.get(id).map(|instance| instance.power) else { continue };
            change(self, id, before);
            let after = self.world.instances.get(id).map_or(Power::Terminated, |instance| instance.power);
            changes.push(InstanceStateChange {
                instance_id: id.clone(),
                current_state: state(after),
                previous_state: state(before),
            });
        }
        InstanceStateChanges { changes }
    }
}

fn wrong_state(instance: &Instance, what: &str) -> ApiError {
    let id = &instance.spec.id;
    let text = format!("The instance '{id}' is not in a state from which it can be {what}.");
    ApiError::client("IncorrectInstanceState", text)
}

fn protected(instance: &Instance, what: &str, attribute: &str) -> ApiError {
    let id = &instance.spec.id;
    let text =
        format!("The instance '{id}' may not be {what}. Modify its '{attribute}' instance attribute and try again.");
    ApiError::client("OperationNotPermitted", text)
}
