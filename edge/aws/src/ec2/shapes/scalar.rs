//! Single values, as EC2 writes them in a parameter or between two tags.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vpc_model::{
    AllocationId, AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, Prefix28, SecurityGroupId, Subnet,
    SubnetId, VpcId, WallTime,
};

use super::catalogue::Kind;

/// A value with one textual form.
pub trait Scalar: Sized {
    /// What is accepted, for error messages.
    const EXPECTED: &'static str;
    /// What it is in EC2's published model.
    const KIND: Kind = Kind::Text;
    /// Whether the empty text is a value.
    const EMPTY_IS_A_VALUE: bool = false;
    /// The error code EC2 gives for a parameter that is not one.
    const MALFORMED: &'static str = "InvalidParameterValue";
    /// Reads it; `None` if the text is not one.
    fn parse(text: &str) -> Option<Self>;
    /// Writes it.
    fn text(&self) -> String;
}

impl Scalar for String {
    const EXPECTED: &'static str = "text";
    const EMPTY_IS_A_VALUE: bool = true;
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn text(&self) -> String {
        self.clone()
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    const KIND: Kind = Kind::Boolean;
    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// Scalars whose text is what `Display` prints and `FromStr` reads.
macro_rules! displayed {
    ($kind:ident: $($type:ty, $expected:literal $(, $malformed:literal)?;)*) => {
        $(impl Scalar for $type {
            const EXPECTED: &'static str = $expected;
            const KIND: Kind = Kind::$kind;
            $(const MALFORMED: &'static str = $malformed;)?
            fn parse(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
            fn text(&self) -> String {
                self.to_string()
            }
        })*
    };
}

displayed! { Integer:
    i32, "an integer";
    i64, "an integer";
    u32, "an integer of at least 0";
    u64, "an integer of at least 0";
}

displayed! { Text:
    Ipv4Addr, "an IPv4 address";
    Ipv6Addr, "an IPv6 address";
    Ipv4Net, "an IPv4 network (10.0.0.0/16)";
    Ipv6Net, "an IPv6 network (fd00::/80)";
    IpNet, "a network (10.0.0.0/16)";
    Mac, "a MAC address";
    EniId, "an ENI id (eni-…)", "InvalidNetworkInterfaceId.Malformed";
    AttachmentId, "an ENI attachment id (eni-attach-…)", "InvalidNetworkInterfaceAttachmentId.Malformed";
    InstanceId, "an instance id (i-…)", "InvalidInstanceID.Malformed";
    SubnetId, "a subnet id (subnet-…)", "InvalidSubnetID.Malformed";
    VpcId, "a VPC id (vpc-…)", "InvalidVpcID.Malformed";
    SecurityGroupId, "a security group id (sg-…)", "InvalidGroupId.Malformed";
    AllocationId, "an elastic IP allocation id (eipalloc-…)", "InvalidAllocationID.Malformed";
}

impl Scalar for DeviceIndex {
    const EXPECTED: &'static str = "a device index (0 to 255)";
    const KIND: Kind = Kind::Integer;
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Scalar for CardIndex {
    const EXPECTED: &'static str = "a network card index (0 to 255)";
    const KIND: Kind = Kind::Integer;
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Scalar for Prefix28 {
    const EXPECTED: &'static str = "an aligned /28 (10.0.0.16/28)";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<Ipv4Net>().ok()?.try_into().ok()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Scalar for Subnet {
    const EXPECTED: &'static str = "an IPv4 network between /16 and /28 with no host bits set";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<Ipv4Net>().ok()?.try_into().ok()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// A moment on the wire, in milliseconds since 1970-01-01 UTC: `2026-11-21T07:05:09.120Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl From<WallTime> for Timestamp {
    fn from(time: WallTime) -> Self {
        Self(time.0.div_euclid(1_000_000))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, millis) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, date) = civil_from_days(day);
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        let (second, milli) = (millis / 1000 % 60, millis % 1000);
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl Scalar for Timestamp {
    const EXPECTED: &'static str = "a time (2026-11-21T07:05:09.120Z)";
    const KIND: Kind = Kind::Timestamp;
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_suffix('Z')?;
        let (date, time) = text.split_once('T')?;
        let [year, month, day] = numbers(date, '-')?;
        let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [hour, minute, second] = numbers(clock, ':')?;
        let in_range = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..=60).contains(&second)
            && (0..=9999).contains(&year);
        if !in_range || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let milli: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
        let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
        Some(Self(seconds * 1000 + milli))
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// Three numbers of digits only.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut out = [0; 3];
    for number in &mut out {
        *number = parts.next().filter(|p| p.len() <= 4 && p.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years are counted from March, so that the leap day
/// is the last day of a year and months have a regular length pattern; eras are the calendar's cycles of 400 years.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// An enumeration of the API. `open` ones keep a word they do not know (answers: EC2 adds words), `closed` ones refuse it
/// (requests).
macro_rules! words {
    (open $(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$word_meta])* $variant,)*
            /// A word this list does not have.
            Other(String),
        }

        impl $name {
            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl $crate::ec2::shapes::scalar::Scalar for $name {
            const EXPECTED: &'static str = concat!("one of", $(" ", $word),*);
            const KIND: $crate::ec2::shapes::Kind = $crate::ec2::shapes::Kind::Words(&[$($word),*]);
            fn parse(text: &str) -> Option<Self> {
                Some(match text.trim() {
                    $($word => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                })
            }
            fn text(&self) -> String {
                self.as_str().to_owned()
            }
        }

        $crate::ec2::shapes::scalar::words!(common $name { $($variant),* });
    };
    (closed $(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$word_meta])* $variant,)*
        }

        impl $name {
            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl $crate::ec2::shapes::scalar::Scalar for $name {
            const EXPECTED: &'static str = concat!("one of", $(" ", $word),*);
            const KIND: $crate::ec2::shapes::Kind = $crate::ec2::shapes::Kind::Words(&[$($word),*]);
            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
            fn text(&self) -> String {
                self.as_str().to_owned()
            }
        }

        $crate::ec2::shapes::scalar::words!(common $name { $($variant),* });
    };
    (common $name:ident { $($variant:ident),* }) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[cfg(any(test, feature = "samples"))]
        impl $crate::ec2::shapes::sample::Sample for $name {
            fn sample(dice: &mut $crate::ec2::shapes::sample::Dice) -> Self {
                dice.pick(&[$(Self::$variant),*])
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        // 1,795,244,709 s: `date -u -d 2026-11-21T07:05:09Z +%s`.
        let time = Timestamp::parse("2026-11-21T07:05:09.120Z").unwrap();
        assert_eq!(time.0, 1_795_244_709_120);
        assert_eq!(time.to_string(), "2026-11-21T07:05:09.120Z");
        assert_eq!(Timestamp::parse("1970-01-01T00:00:00Z"), Some(Timestamp(0)));
        assert_eq!(Timestamp(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        for bad in
            ["", "2026-11-21", "2026-11-21T07:05:09", "2026-13-01T00:00:00Z", "2026-11-21T07:05Z", "x-1-1T0:0:0Z"]
        {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for day in -800_000..800_000 {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
        }
    }
}
