//! Where EC2 answers: by region and partition, as AWS publishes it for its SDKs.

use crate::settings::Ec2Settings;

/// A region or combination of settings that gives no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither a variable nor IMDS gave a region.
    #[error("no region: set AWS_REGION, or let the instance metadata service be reached")]
    NoRegion,
    /// Not the name of a region.
    #[error("`{0}` is not a region: expected a name such as eu-central-1")]
    BadRegion(String),
    /// An endpoint of one's own has no FIPS or dual-stack variant.
    #[error("{variable} cannot be combined with an endpoint of your own ({endpoint}): unset one of them")]
    CustomVariant {
        /// `AWS_USE_FIPS_ENDPOINT` or `AWS_USE_DUALSTACK_ENDPOINT`.
        variable: &'static str,
        /// The endpoint.
        endpoint: String,
    },
}

/// Region prefixes of the partitions, the longest first, with the domain of ordinary and dual-stack endpoints.
const PARTITIONS: [(&str, &str, &str); 8] = [
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-gov-", "amazonaws.com", "api.aws"),
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("", "amazonaws.com", "api.aws"),
];

/// The URL of EC2 for a region, without a slash at the end.
///
/// # Errors
/// The region is no region, or the settings exclude each other.
pub fn endpoint(settings: &Ec2Settings, region: &str) -> Result<String, EndpointError> {
    let labels_ok = region.len() <= 63 && region.split('-').all(|word| !word.is_empty());
    if !labels_ok || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(if region.is_empty() { EndpointError::NoRegion } else { EndpointError::BadRegion(region.into()) });
    }
    if let Some(own) = &settings.endpoint {
        let variable = match (settings.fips, settings.dual_stack) {
            (true, _) => "AWS_USE_FIPS_ENDPOINT",
            (_, true) => "AWS_USE_DUALSTACK_ENDPOINT",
            _ => return Ok(own.clone()),
        };
        return Err(EndpointError::CustomVariant { variable, endpoint: own.clone() });
    }
    let (prefix, plain, dual) =
        PARTITIONS.into_iter().find(|(prefix, ..)| region.starts_with(prefix)).unwrap_or(PARTITIONS[7]);
    // In the US government's partition the ordinary endpoint is the FIPS one.
    let host = if settings.fips && (settings.dual_stack || prefix != "us-gov-") { "ec2-fips" } else { "ec2" };
    let domain = if settings.dual_stack { dual } else { plain };
    Ok(format!("https://{host}.{region}.{domain}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(region: &str, fips: bool, dual_stack: bool) -> String {
        endpoint(&Ec2Settings { fips, dual_stack, ..Ec2Settings::default() }, region).unwrap()
    }

    #[test]
    fn endpoints_are_those_aws_publishes() {
        assert_eq!(at("eu-central-1", false, false), "https://ec2.eu-central-1.amazonaws.com");
        assert_eq!(at("eu-central-1", true, false), "https://ec2-fips.eu-central-1.amazonaws.com");
        assert_eq!(at("eu-central-1", false, true), "https://ec2.eu-central-1.api.aws");
        assert_eq!(at("eu-central-1", true, true), "https://ec2-fips.eu-central-1.api.aws");
        assert_eq!(at("cn-north-1", false, false), "https://ec2.cn-north-1.amazonaws.com.cn");
        assert_eq!(at("us-gov-west-1", true, false), "https://ec2.us-gov-west-1.amazonaws.com");
        assert_eq!(at("us-gov-west-1", true, true), "https://ec2-fips.us-gov-west-1.api.aws");
        assert_eq!(at("us-iso-east-1", false, false), "https://ec2.us-iso-east-1.c2s.ic.gov");
        assert_eq!(at("us-isob-east-1", false, false), "https://ec2.us-isob-east-1.sc2s.sgov.gov");
        assert_eq!(at("eusc-de-east-1", false, true), "https://ec2.eusc-de-east-1.api.amazonwebservices.eu");
    }

    #[test]
    fn what_gives_no_endpoint_is_refused() {
        let mut own = Ec2Settings { endpoint: Some("http://127.0.0.1:1".into()), ..Ec2Settings::default() };
        assert_eq!(endpoint(&own, "lab-1").unwrap(), "http://127.0.0.1:1");
        own.dual_stack = true;
        let error = endpoint(&own, "lab-1").unwrap_err().to_string();
        assert!(error.contains("AWS_USE_DUALSTACK_ENDPOINT") && error.contains("127.0.0.1"), "{error}");
        assert_eq!(endpoint(&Ec2Settings::default(), ""), Err(EndpointError::NoRegion));
        for bad in ["EU-central-1", "a b", "evil.example.com", "-x", "x/"] {
            assert!(endpoint(&Ec2Settings::default(), bad).is_err(), "{bad}");
        }
    }
}
