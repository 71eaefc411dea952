//! Addresses, prefixes, ENIs, instance limits and names: the words everything else speaks.
