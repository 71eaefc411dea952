//! GetSubnetCidrReservations.

use ipnet::IpNet;
use vpc_aws::ec2::shapes::{
    GetSubnetCidrReservations, GetSubnetCidrReservationsResponse, SubnetCidrReservation, SubnetCidrReservationType,
};
use vpc_model::SubnetId;

use super::filter::{Row, by_tag, held, keys, one};
use super::page::{PageRequest, Pages};
use super::{Listing, show_tags, well_formed};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::ReservationKind;
use crate::world::Reservation;

pub(super) const RESERVATIONS: Listing<SubnetCidrReservation> =
    Listing { action: "GetSubnetCidrReservations", filters: FILTERS, pages: Some(Pages::THOUSAND) };

const FILTERS: &[Row<SubnetCidrReservation>] = &[
    held("reservationType", |own| one(own.reservation_type.as_str())),
    held("subnet-id", |own| one(&own.subnet_id)),
    by_tag(|own| &own.tags),
    held("tag-key", |own| keys(&own.tags)),
];

impl Cloud {
    pub(crate) fn get_reservations(
        &self,
        request: &GetSubnetCidrReservations,
    ) -> Result<GetSubnetCidrReservationsResponse, ApiError> {
        let id = &request.subnet_id;
        let page =
            PageRequest { max_results: request.max_results, next_token: request.next_token.as_deref(), by_id: false };
        let question = RESERVATIONS.ask(self, &request.filters, page)?;
        well_formed(std::slice::from_ref(id), SubnetId::PREFIX, "InvalidSubnetID.Malformed")?;
        let subnet = self.world.subnets.get(id).ok_or_else(|| ApiError::no_subnet(id))?;
        let shown = subnet.reservations.iter().map(|(name, own)| (name.clone(), self.show_reservation(id, name, own)));
        let (ipv4_reservations, next_token) = question.answer(shown);
        Ok(GetSubnetCidrReservationsResponse { ipv4_reservations, ipv6_reservations: Vec::new(), next_token })
    }

    /// A reservation as EC2 shows it.
    pub(crate) fn show_reservation(
        &self,
        subnet: &SubnetId,
        id: &str,
        reservation: &Reservation,
    ) -> SubnetCidrReservation {
        SubnetCidrReservation {
            subnet_cidr_reservation_id: id.to_owned(),
            subnet_id: subnet.clone(),
            cidr: IpNet::V4(reservation.cidr),
            reservation_type: match reservation.kind {
                ReservationKind::Prefix => SubnetCidrReservationType::Prefix,
                ReservationKind::Explicit => SubnetCidrReservationType::Explicit,
            },
            owner_id: Some(self.account()),
            description: reservation.description.clone(),
            tags: show_tags(&reservation.tags),
        }
    }
}
