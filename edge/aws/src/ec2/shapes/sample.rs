//! Arbitrary values of every shape, drawn from one seed, for tests of this crate and of others (feature `samples`).
#![allow(clippy::expect_used, reason = "for tests; the samples are well-formed by construction")]

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vpc_model::{
    AllocationId, AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, Prefix28, SecurityGroupId, Subnet,
    SubnetId, VpcId,
};

use super::interface::ServiceOr;
use super::scalar::Timestamp;

/// A small generator (xorshift64*); quality does not matter here.
#[derive(Debug)]
pub struct Dice {
    state: u64,
    /// Whether nothing is left out.
    full: bool,
}

impl Dice {
    /// Samples with members and list entries left out here and there.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed | 1, full: false }
    }

    /// Samples in which every member is there and every list has an entry.
    #[must_use]
    pub fn full(seed: u64) -> Self {
        Self { full: true, ..Self::new(seed) }
    }

    fn roll(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let i = self.below(from.len() as u64) as usize;
        from[i].clone()
    }
}

/// A type with arbitrary values.
pub trait Sample: Sized {
    /// One of its values.
    fn sample(dice: &mut Dice) -> Self;
}

impl<T: Sample> Sample for Option<T> {
    fn sample(dice: &mut Dice) -> Self {
        (dice.full || dice.below(3) > 0).then(|| T::sample(dice))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(dice: &mut Dice) -> Self {
        (0..dice.below(3) + u64::from(dice.full || dice.below(4) > 0)).map(|_| T::sample(dice)).collect()
    }
}

impl Sample for String {
    fn sample(dice: &mut Dice) -> Self {
        let hostile =
            ['a', 'Z', '0', ' ', '&', '<', '>', '"', '\'', ']', '\n', '\r', '\t', '=', '+', '%', 'é', '漢', ';'];
        (0..dice.below(9)).map(|_| dice.pick(&hostile)).collect()
    }
}

macro_rules! sample {
    ($($type:ty: |$dice:ident| $value:expr;)*) => {
        $(impl Sample for $type {
            fn sample($dice: &mut Dice) -> Self {
                $value
            }
        })*
    };
}

fn id<T: std::str::FromStr>(dice: &mut Dice, prefix: &str) -> T {
    format!("{prefix}{:017x}", dice.roll()).parse().ok().expect("an id")
}

sample! {
    bool: |dice| dice.below(2) == 1;
    i32: |dice| dice.roll() as i32;
    u32: |dice| dice.roll() as u32;
    Ipv4Addr: |dice| Ipv4Addr::from_bits(dice.roll() as u32);
    Ipv6Addr: |dice| Ipv6Addr::from_bits(u128::from(dice.roll()) << 64 | u128::from(dice.roll()));
    Ipv4Net: |dice| Ipv4Net::new(Ipv4Addr::sample(dice), dice.below(33) as u8).expect("a length").trunc();
    Ipv6Net: |dice| Ipv6Net::new(Ipv6Addr::sample(dice), dice.below(129) as u8).expect("a length").trunc();
    IpNet: |dice| if dice.below(2) == 0 { Ipv4Net::sample(dice).into() } else { Ipv6Net::sample(dice).into() };
    Subnet: |dice| {
        let net = Ipv4Net::new(Ipv4Addr::sample(dice), 16 + dice.below(13) as u8).expect("a length").trunc();
        Self::try_from(net).expect("a subnet")
    };
    Prefix28: |dice| Self::containing(Ipv4Addr::sample(dice));
    Mac: |dice| { let b = dice.roll().to_be_bytes(); Self([b[2], b[3], b[4], b[5], b[6], b[7]]) };
    DeviceIndex: |dice| Self(dice.roll() as u8);
    CardIndex: |dice| Self(dice.roll() as u8);
    Timestamp: |dice| Self((dice.below(4_000_000_000_000)) as i64);
    EniId: |dice| id(dice, "eni-");
    AttachmentId: |dice| id(dice, "eni-attach-");
    InstanceId: |dice| id(dice, "i-");
    SubnetId: |dice| id(dice, "subnet-");
    VpcId: |dice| id(dice, "vpc-");
    SecurityGroupId: |dice| id(dice, "sg-");
    AllocationId: |dice| id(dice, "eipalloc-");
}

impl<T: Sample> Sample for ServiceOr<T> {
    fn sample(dice: &mut Dice) -> Self {
        if dice.below(5) == 0 { Self::Service("ela-attach-0a".into()) } else { Self::Own(T::sample(dice)) }
    }
}
