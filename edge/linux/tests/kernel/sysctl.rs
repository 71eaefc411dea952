use vpc_hostnet::HostOp;
use vpc_linux::sysctl::{self, SysctlError};
use vpc_linux::{LinuxHost, Netns};

use crate::sandbox::sandboxed;

#[test]
fn switches_are_read_and_set_in_the_right_namespace() {
    sandboxed("sysctl::switches_are_read_and_set_in_the_right_namespace", || {
        sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(sysctl::read("net/ipv4/ip_forward").unwrap(), "1");
        let other = Netns::create().unwrap();
        let mut host = LinuxHost::open_in(&other).unwrap();
        let set = |value: &str| HostOp::SetSysctl { key: "net/ipv4/ip_forward".into(), value: value.into() };
        host.apply(&[set("0")]).unwrap();
        assert_eq!(host.observe().unwrap().sysctls["net/ipv4/ip_forward"], "0");
        assert_eq!(sysctl::read("net/ipv4/ip_forward").unwrap(), "1");
        host.apply(&[set("1")]).unwrap();
        assert_eq!(host.observe().unwrap().sysctls["net/ipv4/ip_forward"], "1");
    });
}

#[test]
fn several_switches_of_a_folder_are_set_where_they_are() {
    sandboxed("sysctl::several_switches_of_a_folder_are_set_where_they_are", || {
        let folder = "net/ipv4/conf/lo";
        sysctl::write_those_present(folder, &[("arp_announce", "2"), ("no_such_switch", "1"), ("arp_ignore", "1")])
            .unwrap();
        let value = |name: &str| sysctl::read(&format!("{folder}/{name}")).unwrap();
        assert_eq!((value("arp_announce"), value("arp_ignore")), ("2".to_owned(), "1".to_owned()));
        sysctl::write_those_present("net/ipv4/conf/eth7", &[("arp_ignore", "1")]).unwrap();
        let error = sysctl::write_those_present(folder, &[("arp_ignore", "loud")]).unwrap_err();
        assert!(error.to_string().contains("net/ipv4/conf/lo/arp_ignore to `loud`"), "{error}");
    });
}

#[test]
fn bad_keys_and_values_are_named() {
    sandboxed("sysctl::bad_keys_and_values_are_named", || {
        for key in ["", "/etc/passwd", "../../etc/passwd", "net/../../../etc/passwd", "./net"] {
            assert!(matches!(sysctl::read(key), Err(SysctlError::Key { .. })), "{key}");
        }
        let absent = sysctl::write("net/ipv4/conf/eth77/rp_filter", "2").unwrap_err();
        assert!(absent.is_absent(), "{absent}");
        sysctl::write_if_present("net/ipv4/conf/eth77/rp_filter", "2").unwrap();
        let error = sysctl::write("net/ipv4/ip_forward", "perhaps").unwrap_err();
        assert!(error.to_string().contains("net/ipv4/ip_forward to `perhaps`"), "{error}");
    });
}
