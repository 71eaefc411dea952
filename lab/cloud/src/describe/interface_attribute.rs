//! DescribeNetworkInterfaceAttribute: one attribute of an ENI.

use vpc_aws::ec2::shapes::{
    AttributeBooleanValue, AttributeValue, DescribeNetworkInterfaceAttribute,
    DescribeNetworkInterfaceAttributeResponse, NetworkInterfaceAttribute,
};
use vpc_model::EniId;

use super::well_formed;
use crate::cloud::Cloud;
use crate::error::ApiError;

impl Cloud {
    pub(crate) fn describe_eni_attribute(
        &self,
        request: &DescribeNetworkInterfaceAttribute,
    ) -> Result<DescribeNetworkInterfaceAttributeResponse, ApiError> {
        let id = &request.network_interface_id;
        well_formed(std::slice::from_ref(id), EniId::PREFIX, "InvalidNetworkInterfaceId.Malformed")?;
        let attribute = request.attribute.ok_or_else(|| ApiError::missing("attribute"))?;
        let shown = self.show_eni(self.eni(id)?);
        let mut answer = DescribeNetworkInterfaceAttributeResponse {
            network_interface_id: id.clone(),
            attachment: None,
            description: None,
            groups: None,
            source_dest_check: None,
            associate_public_ip_address: None,
        };
        match attribute {
            NetworkInterfaceAttribute::Attachment => answer.attachment = shown.attachment,
            NetworkInterfaceAttribute::Description => {
                answer.description = Some(AttributeValue { value: shown.description });
            }
            NetworkInterfaceAttribute::GroupSet => answer.groups = Some(shown.groups),
            NetworkInterfaceAttribute::SourceDestCheck => {
                answer.source_dest_check = Some(AttributeBooleanValue { value: shown.source_dest_check });
            }
            // A public address comes with the launch of an instance here, never with an attachment.
            NetworkInterfaceAttribute::AssociatePublicIpAddress => answer.associate_public_ip_address = Some(false),
        }
        Ok(answer)
    }
}
