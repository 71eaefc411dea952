//! Answers in pages.

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
    /// The page that is asked for; `None`: the first.
    fn next_token(&self) -> Option<&str>;
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
            fn next_token(&self) -> Option<&str> {
                self.next_token.as_deref()
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

/// A list on its way: the pages that have come, and how to ask for the next.
#[derive(Clone, Debug)]
pub struct Pages<A: Paged> {
    request: A,
    items: Vec<A::Item>,
    taken: usize,
}

/// What a page made of a list.
#[derive(Debug)]
pub enum Page<A: Paged> {
    /// There are more: send [`Pages::request`].
    More(Pages<A>),
    /// That was the last: all entries.
    Whole(Vec<A::Item>),
}

impl<A: Paged> Pages<A> {
    /// A list of which nothing has come.
    #[must_use]
    pub fn new(request: A) -> Self {
        Self { request, items: Vec::new(), taken: 0 }
    }

    /// What to ask for now.
    #[must_use]
    pub fn request(&self) -> &A {
        &self.request
    }

    /// Takes in a page.
    ///
    /// # Errors
    /// [`ErrorClass::BadAnswer`] if EC2 gives the same page for ever.
    pub fn take(mut self, response: A::Response) -> Result<Page<A>, Box<Ec2Error>> {
        let (page, next) = A::split(response);
        self.items.extend(page);
        self.taken += 1;
        if next.is_none() {
            return Ok(Page::Whole(self.items));
        }
        if self.request.next_token() == next.as_deref() || self.taken >= MOST_PAGES {
            let message = "the pages do not end: the next token repeats itself";
            return Err(Box::new(Ec2Error::own(A::NAME, ErrorClass::BadAnswer, Outcome::NotDone, message)));
        }
        self.request.set_next_token(next);
        Ok(Page::More(self))
    }
}
