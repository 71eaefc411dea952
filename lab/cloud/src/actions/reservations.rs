//! Parts of subnets that are kept for a purpose.

use ipnet::{IpNet, Ipv4Net};
use vpc_aws::ec2::shapes::{
    CreateSubnetCidrReservation, CreateSubnetCidrReservationResponse, DeleteSubnetCidrReservation,
    DeleteSubnetCidrReservationResponse, ResourceType, SubnetCidrReservationType,
};

use super::tags::tags_of;
use crate::cloud::Cloud;
use crate::describe::well_formed;
use crate::error::ApiError;
use crate::spec::ReservationKind;
use crate::world::{Reservation, SubnetState};

/// The smallest part that delegated prefixes can be taken from.
const PREFIX_LENGTH: u8 = 28;

impl Cloud {
    pub(super) fn create_reservation(
        &mut self,
        request: &CreateSubnetCidrReservation,
    ) -> Result<CreateSubnetCidrReservationResponse, ApiError> {
        let id = &request.subnet_id;
        let subnet = self.world.subnets.get(id).ok_or_else(|| ApiError::no_subnet(id))?;
        let kind = match request.reservation_type {
            SubnetCidrReservationType::Prefix => ReservationKind::Prefix,
            SubnetCidrReservationType::Explicit => ReservationKind::Explicit,
        };
        let cidr = reservable(subnet, request.cidr, kind)?;
        let tags = tags_of(&request.tag_specifications, &ResourceType::SubnetCidrReservation)?;
        let reservation = Reservation { cidr, kind, description: request.description.clone(), tags };
        let name = self.dice.id("scr-");
        let answer =
            CreateSubnetCidrReservationResponse { reservation: self.show_reservation(id, &name, &reservation) };
        if let Some(subnet) = self.world.subnets.get_mut(id) {
            subnet.reservations.insert(name, reservation);
            subnet.tell_pool();
        }
        Ok(answer)
    }

    pub(super) fn delete_reservation(
        &mut self,
        request: &DeleteSubnetCidrReservation,
    ) -> Result<DeleteSubnetCidrReservationResponse, ApiError> {
        let name = &request.subnet_cidr_reservation_id;
        well_formed(&[name], "scr-", "InvalidSubnetCidrReservationID.Malformed")?;
        let of = self.world.subnets.iter().find(|(_, subnet)| subnet.reservations.contains_key(name));
        let id = of.map(|(id, _)| id.clone());
        let gone = id.and_then(|id| {
            let subnet = self.world.subnets.get_mut(&id)?;
            let gone = subnet.reservations.remove(name)?;
            subnet.tell_pool();
            Some((id, gone))
        });
        let (id, gone) = gone.ok_or_else(|| {
            let text = format!("The subnet CIDR reservation ID '{name}' does not exist");
            ApiError::client("InvalidSubnetCidrReservationID.NotFound", text)
        })?;
        Ok(DeleteSubnetCidrReservationResponse { reservation: self.show_reservation(&id, name, &gone) })
    }
}

/// The network, if it is one that can be reserved in the subnet.
fn reservable(subnet: &SubnetState, cidr: IpNet, kind: ReservationKind) -> Result<Ipv4Net, ApiError> {
    let IpNet::V4(cidr) = cidr else { return Err(ApiError::no_ipv6(&subnet.spec.id)) };
    let whole = subnet.spec.cidr;
    if cidr.addr() != cidr.network() || !whole.net().contains(&cidr) {
        return Err(ApiError::value(format!("Reservation CIDR {cidr} is not within the subnet's CIDR block {whole}")));
    }
    if kind == ReservationKind::Prefix && cidr.prefix_len() > PREFIX_LENGTH {
        return Err(ApiError::value(format!(
            "Reservation CIDR {cidr} is too small for reservations of type prefix: at least a /{PREFIX_LENGTH}"
        )));
    }
    let shares = |other: &Reservation| other.cidr.contains(&cidr) || cidr.contains(&other.cidr);
    if subnet.reservations.values().any(shares) {
        return Err(ApiError::value(format!("Reservation CIDR {cidr} has overlap with existing reserved CIDR block")));
    }
    Ok(cidr)
}
