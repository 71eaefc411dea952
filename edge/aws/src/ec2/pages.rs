//! Answers in pages.

use super::client::Client;
use super::error::{Ec2Error, ErrorClass, Outcome};
use super::shapes::{
    Action, DescribeInstanceTypes, DescribeInstanceTypesResponse, DescribeInstances, DescribeInstancesResponse,
    DescribeNetworkInterfaces, DescribeNetworkInterfacesResponse, DescribeRouteTables, DescribeRouteTablesResponse,
    DescribeSecurityGroups, DescribeSecurityGroupsResponse, DescribeSubnets, DescribeSubnetsResponse, DescribeTags,
    DescribeTagsResponse, DescribeVpcs, DescribeVpcsResponse, InstanceTypeInfo, NetworkInterface, Reservation,
    RouteTableDescription, SecurityGroup, SubnetDescription, TagDescription, Vpc,
};

/// More pages than this are taken for a loop: a million objects at 1000 a page.
const MOST_PAGES: usize = 1000;

/// An action whose answer comes in pages.
pub trait Paged: Action + Clone {
    /// What the pages are made of.
    type Item;
    /// Asks for the page that follows `token`.
    fn set_next_token(&mut self, token: Option<String>);
    /// The entries of a page, and how to ask for the next; `None` on the last.
    fn split(response: Self::Response) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! paged {
    ($($action:ty => $response:ty, $field:ident: $item:ty;)*) => {
        $(impl Paged for $action {
            type Item = $item;
            fn set_next_token(&mut self, token: Option<String>) {
                self.next_token = token;
            }
            fn split(response: $response) -> (Vec<$item>, Option<String>) {
                (response.$field, response.next_token.filter(|token| !token.is_empty()))
            }
        })*
    };
}

paged! {
    DescribeNetworkInterfaces => DescribeNetworkInterfacesResponse, network_interfaces: NetworkInterface;
    DescribeInstances => DescribeInstancesResponse, reservations: Reservation;
    DescribeInstanceTypes => DescribeInstanceTypesResponse, instance_types: InstanceTypeInfo;
    DescribeSubnets => DescribeSubnetsResponse, subnets: SubnetDescription;
    DescribeVpcs => DescribeVpcsResponse, vpcs: Vpc;
    DescribeRouteTables => DescribeRouteTablesResponse, route_tables: RouteTableDescription;
    DescribeSecurityGroups => DescribeSecurityGroupsResponse, security_groups: SecurityGroup;
    DescribeTags => DescribeTagsResponse, tags: TagDescription;
}

impl Client {
    /// Makes as many calls as there are pages; each has the deadline of the settings.
    ///
    /// # Errors
    /// The first failure; [`ErrorClass::BadAnswer`] if EC2 gives the same page for ever.
    pub async fn all_pages<A: Paged>(&self, request: &A) -> Result<Vec<A::Item>, Ec2Error> {
        let mut request = request.clone();
        let mut last = None;
        let mut items = Vec::new();
        for _ in 0..MOST_PAGES {
            let (page, next) = A::split(self.call(&request).await?);
            items.extend(page);
            if next.is_none() {
                return Ok(items);
            }
            if next == last {
                break;
            }
            last.clone_from(&next);
            request.set_next_token(next);
        }
        let message = "the pages do not end: the next token repeats itself";
        Err(Ec2Error::own(A::NAME, ErrorClass::BadAnswer, Outcome::NotDone, message))
    }
}
