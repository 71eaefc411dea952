//! Reads that lag: EC2 answers from copies that are a moment old.
//!
//! Each call draws its own lag from the seed when it arrives. A Describe call is answered from the world as it was that long
//! before; any other call does not find an id that is younger than its lag. Two reads draw two lags, so that a later one may
//! see an earlier world: AWS promises nothing else, and who relies on it is to find out here. What a single answer shows is
//! one moment of the world. Changes that do not come by way of the API (power, events from outside) are seen at once.

use std::collections::VecDeque;

use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse};
use vpc_model::{AttachmentId, EniId, InstanceId, Millis, SecurityGroupId, SubnetId, Time};

use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::profile::Span;
use crate::world::World;

/// How old what each kind of call sees may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consistency {
    /// Calls that change something: an id younger than this is not found.
    pub fresh_ids: Span,
    /// DescribeTags, and Describe calls with a filter by tag.
    pub tags: Span,
    /// All other Describe calls.
    pub attributes: Span,
}

impl Default for Consistency {
    fn default() -> Self {
        Self::off()
    }
}

impl Consistency {
    /// Everything is seen at once.
    #[must_use]
    pub const fn off() -> Self {
        Self { fresh_ids: Span::ZERO, tags: Span::ZERO, attributes: Span::ZERO }
    }

    /// As AWS: mostly at once, seldom late, tags later than the rest. AWS publishes no figures; these are of the order that
    /// users report.
    #[must_use]
    pub const fn aws() -> Self {
        Self {
            fresh_ids: Span::with_tail(0, 0, 2000),
            tags: Span::with_tail(0, 500, 5000),
            attributes: Span::with_tail(0, 0, 1500),
        }
    }

    /// The longest that anything lags.
    fn longest(&self) -> Millis {
        [self.fresh_ids, self.tags, self.attributes]
            .map(|span| span.tail.max(span.most))
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    /// The lag of a call.
    pub(crate) fn span(&self, request: &AnyRequest) -> Span {
        if !is_read(request) {
            return self.fresh_ids;
        }
        let query = request.query();
        let by_tag = |(name, value): &(String, String)| {
            name.starts_with("Filter.")
                && name.ends_with(".Name")
                && (value.starts_with("tag:") || value.starts_with("tag-"))
        };
        if request.name() == "DescribeTags" || query.pairs().iter().any(by_tag) { self.tags } else { self.attributes }
    }
}

/// The world as it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// Each with the time until which it was so.
    worlds: VecDeque<(Time, World)>,
}

pub(crate) fn is_read(request: &AnyRequest) -> bool {
    request.name().starts_with("Describe") || request.name().starts_with("Get")
}

impl Cloud {
    /// Remembers the world as it is, before it changes now.
    pub(crate) fn remember(&mut self) {
        let longest = self.setup.consistency.longest();
        if longest == Millis(0) || self.past.worlds.back().is_some_and(|(until, _)| *until >= self.now) {
            return;
        }
        let oldest = self.now - longest;
        while self.past.worlds.front().is_some_and(|(until, _)| *until <= oldest) {
            self.past.worlds.pop_front();
        }
        self.past.worlds.push_back((self.now, self.world.clone()));
    }

    /// Carries out a call that sees the world as it was so long ago.
    pub(crate) fn execute_late(&mut self, request: AnyRequest, lag: Millis) -> Result<AnyResponse, ApiError> {
        let then = self.now - lag;
        // What was at `then` held until some later time; if nothing has changed since, it is what is.
        let Some(index) = self.past.worlds.iter().position(|(until, _)| *until > then).filter(|_| lag > Millis(0))
        else {
            return self.execute(request);
        };
        if !is_read(&request) {
            self.check_known(&request, index)?;
            return self.execute(request);
        }
        self.swap_past(index);
        let result = self.execute(request);
        self.swap_past(index);
        result
    }

    fn swap_past(&mut self, index: usize) {
        if let Some((_, past)) = self.past.worlds.get_mut(index) {
            std::mem::swap(past, &mut self.world);
        }
    }

    /// Refuses ids that there are, but were not in that past world.
    fn check_known(&self, request: &AnyRequest, index: usize) -> Result<(), ApiError> {
        let Some((_, past)) = self.past.worlds.get(index) else { return Ok(()) };
        let now = &self.world;
        for (_, value) in request.query().pairs() {
            let fresh = |is: bool, was: bool, error: ApiError| if is && !was { Err(error) } else { Ok(()) };
            if let Ok(id) = value.parse::<AttachmentId>() {
                let (is, was) = (now.attached_as(&id).is_some(), past.attached_as(&id).is_some());
                fresh(is, was, ApiError::no_attachment(&id))?;
            } else if let Ok(id) = value.parse::<EniId>() {
                fresh(now.enis.contains_key(&id), past.enis.contains_key(&id), ApiError::no_eni(&id))?;
            } else if let Ok(id) = value.parse::<InstanceId>() {
                fresh(now.instances.contains_key(&id), past.instances.contains_key(&id), ApiError::no_instance(&id))?;
            } else if let Ok(id) = value.parse::<SubnetId>() {
                fresh(now.subnets.contains_key(&id), past.subnets.contains_key(&id), ApiError::no_subnet(&id))?;
            } else if let Ok(id) = value.parse::<SecurityGroupId>() {
                fresh(now.groups.contains_key(&id), past.groups.contains_key(&id), ApiError::no_group(&id))?;
            }
        }
        Ok(())
    }
}
