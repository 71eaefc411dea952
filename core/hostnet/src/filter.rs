//! The packet filter's identity.

use std::fmt::Write as _;

use sha1::{Digest, Sha1};

use crate::{Filter, SnatRandom};

/// Raised whenever the same meaning is to be spelt in other expressions, so that tables written earlier are replaced.
const FORMAT: u32 = 1;

impl Filter {
    /// Whether packets are marked at all: then pods' packets get their connection's mark back.
    #[must_use]
    pub fn marks(&self) -> bool {
        self.node_port || self.snat.is_some()
    }

    /// A short text that is the same for the same meaning, in every build and on every machine, and differs otherwise:
    /// `<format>:<40 hexadecimal digits>`. The backend stores it beside the rules and compares.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha1::digest(self.meaning().as_bytes());
        digest.iter().fold(format!("{FORMAT}:"), |mut text, byte| {
            // Writing to a string can not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn meaning(&self) -> String {
        let snat = match self.snat {
            None => "off",
            Some(SnatRandom::Prng) => "prng",
            Some(SnatRandom::HashRandom) => "hashrandom",
            Some(SnatRandom::None) => "none",
        };
        let Self { primary_link, primary_address, veth_prefix, mark, node_port, snat: _, exempt } = self;
        let mut text =
            format!("{primary_link} {primary_address} {} {}/{} ", veth_prefix.as_str(), mark.value, mark.mask);
        let _ = write!(text, "{node_port} {snat}");
        for net in exempt {
            let _ = write!(text, " {net}");
        }
        text
    }
}
