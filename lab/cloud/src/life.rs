//! The lives of instances: on, off and gone, with what becomes of their ENIs and what the fabric is told.

use vpc_model::{InstanceId, Millis, Time};

use crate::cloud::{Cloud, Task};
use crate::event::FabricEvent;
use crate::profile::Span;
use crate::world::{Power, Tie};

/// How long a terminated instance is still shown.
const REMEMBERED: Millis = Millis::seconds(3600);

impl Cloud {
    /// An instance on its way up is up.
    pub(crate) fn booted(&mut self, id: &InstanceId) {
        if self.world.instances.get(id).is_some_and(|instance| instance.power == Power::Pending) {
            self.start(id);
        }
    }

    /// Gives power, and an automatic public address to whom it is due.
    pub(crate) fn start(&mut self, id: &InstanceId) {
        self.give_public(id);
        self.switch_on(id);
    }

    /// Takes the power away, and automatic public addresses with it.
    pub(crate) fn stop(&mut self, id: &InstanceId) {
        self.switch_off(id);
        self.release_public(id);
    }

    /// A new automatic address for an instance that lost its old one. As on AWS, one with several ENIs gets none; and with
    /// an empty pool it starts without.
    fn give_public(&mut self, id: &InstanceId) {
        let enis = self.world.enis_of(id);
        let [eni] = enis.as_slice() else { return };
        if eni.automatic_public && !eni.public.contains_key(&eni.primary) {
            let (eni, private) = (eni.id.clone(), eni.primary);
            if let Some(public) = self.world.pick_public() {
                self.set_public(&eni, private, Some(public));
            }
        }
    }

    /// Automatic addresses of an instance's ENIs go back to the pool.
    fn release_public(&mut self, id: &InstanceId) {
        let automatic = self.world.enis_of(id).into_iter().filter(|eni| eni.automatic_public);
        let automatic: Vec<_> = automatic.map(|eni| (eni.id.clone(), eni.primary)).collect();
        for (eni, private) in automatic {
            self.set_public(&eni, private, None);
        }
    }

    /// An instance on its way down is down.
    pub(crate) fn went_down(&mut self, id: &InstanceId) {
        match self.world.instances.get(id).map(|instance| instance.power) {
            Some(Power::Stopping) => self.stop(id),
            Some(Power::ShuttingDown) => self.end_instance(id),
            _ => {}
        }
    }

    /// Gives power. An instance that was going down goes on as if nothing had been.
    pub(crate) fn switch_on(&mut self, id: &InstanceId) {
        self.set_state(id, Power::Running);
        self.begin_checks(id);
        let first = self.world.instances.get_mut(id).is_some_and(|own| !std::mem::replace(&mut own.has_run, true));
        if first {
            // The ENIs it was launched with are attached, and known to IMDS, when it is up.
            self.world.change_ties(id, |own| own.tie = Tie::Attached);
            self.imds.admit(&self.world, id);
        }
        if !self.set_on(id, true) {
            self.announce(id);
        }
    }

    /// The status checks begin; until they have passed, the instance is `initializing`.
    fn begin_checks(&mut self, id: &InstanceId) {
        let Some(instance) = self.world.instances.get_mut(id) else { return };
        (instance.up, instance.checked) = (self.now, false);
        self.later(self.setup.profile.checks, Task::Checked { instance: id.clone(), up: self.now });
    }

    /// The status checks of an instance have passed.
    pub(crate) fn checked(&mut self, id: &InstanceId, up: Time) {
        if let Some(instance) = self.world.instances.get_mut(id).filter(|instance| instance.up == up) {
            instance.checked = true;
        }
    }

    /// Takes the power away; ENIs and addresses stay.
    pub(crate) fn switch_off(&mut self, id: &InstanceId) {
        self.set_state(id, Power::Stopped);
        if self.set_on(id, false) {
            self.emit(FabricEvent::InstanceStopped { instance: id.clone() });
        }
    }

    /// Ends an instance: ENIs marked so go with it, the others become `available`.
    pub(crate) fn end_instance(&mut self, id: &InstanceId) {
        if self.world.instances.get(id).is_none_or(|instance| instance.power == Power::Terminated) {
            return;
        }
        self.set_state(id, Power::Terminated);
        if self.set_on(id, false) {
            self.emit(FabricEvent::InstanceStopped { instance: id.clone() });
        }
        self.emit(FabricEvent::InstanceTerminated { instance: id.clone() });
        self.release_public(id);
        self.imds.forget(id);
        let own: Vec<_> = self.world.enis_of(id).iter().map(|eni| eni.id.clone()).collect();
        for eni in own {
            let attachment = self.world.enis.untie(&eni);
            if attachment.is_some_and(|attachment| attachment.delete_on_termination) {
                self.remove_eni(&eni);
            }
        }
        self.later(Span::exactly(REMEMBERED), Task::Forget(id.clone()));
    }

    /// Forgets an instance that has been terminated long enough.
    pub(crate) fn forget_instance(&mut self, id: &InstanceId) {
        if self.world.instances.get(id).is_some_and(|instance| instance.power == Power::Terminated) {
            self.world.instances.remove(id);
        }
    }

    /// Sets where an instance is in its life.
    pub(crate) fn set_state(&mut self, id: &InstanceId, power: Power) {
        if let Some(instance) = self.world.instances.get_mut(id) {
            let before = std::mem::replace(&mut instance.power, power);
            match (before, power) {
                (Power::Stopping, Power::Stopped) | (Power::ShuttingDown, Power::Terminated) => {}
                (Power::Stopped, Power::Pending) => (instance.launched, instance.told_down) = (self.now, None),
                (_, Power::Pending | Power::Running) => instance.told_down = None,
                _ => instance.told_down = Some(self.now),
            }
        }
    }

    /// Gives or takes power, and with it sight of the ENIs. Returns whether it had power.
    fn set_on(&mut self, id: &InstanceId, on: bool) -> bool {
        let Some(instance) = self.world.instances.get_mut(id) else { return false };
        let before = std::mem::replace(&mut instance.on, on);
        if before == on {
            // What is on its way to a guest that runs on comes in its own time.
            return before;
        }
        self.world.change_ties(id, |own| own.seen = on);
        before
    }
}
