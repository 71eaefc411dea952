use std::panic::{AssertUnwindSafe, catch_unwind};

use vpc_linux::{Errno, Netns, NetnsError, Rtnl};

use crate::sandbox::{name, sandboxed};

#[test]
fn a_thread_enters_and_comes_back_also_from_a_panic() {
    sandboxed("netns::a_thread_enters_and_comes_back_also_from_a_panic", || {
        let home = Netns::current().unwrap();
        let other = Netns::create().unwrap();
        assert!(!home.is(&other) && home.is(&Netns::current().unwrap()));
        let inside = other.enter(|| Netns::current().unwrap()).unwrap();
        assert!(inside.is(&other));
        let panicked = catch_unwind(AssertUnwindSafe(|| other.enter(|| panic!("inside")).unwrap()));
        assert!(panicked.is_err());
        assert!(Netns::current().unwrap().is(&home));
    });
}

#[test]
fn a_named_namespace_outlives_its_descriptor_and_ends_with_its_name() {
    sandboxed("netns::a_named_namespace_outlives_its_descriptor_and_ends_with_its_name", || {
        let path = std::env::temp_dir().join(format!("netns-{}", std::process::id()));
        let made = Netns::create().unwrap();
        made.bind_to(&path).unwrap();
        assert!(matches!(made.bind_to(&path), Err(NetnsError::Mount { errno: Errno::EEXIST, .. })));
        let identity = made.identity();
        drop(made);
        let opened = Netns::open(&path).unwrap();
        assert_eq!(opened.identity(), identity);
        assert_eq!(Rtnl::open_in(&opened).unwrap().link(&name("lo")).unwrap().index, 1);
        Netns::unbind(&path).unwrap();
        assert!(!path.exists());
        Netns::unbind(&path).unwrap();
    });
}

#[test]
fn what_is_no_network_namespace_is_told_apart() {
    sandboxed("netns::what_is_no_network_namespace_is_told_apart", || {
        let absent = Netns::open("/nowhere/at/all").unwrap_err();
        assert!(matches!(&absent, NetnsError::Open { errno: Errno::ENOENT, .. }), "{absent}");
        for other in ["/proc/self/ns/mnt", "/proc/self/status", "/"] {
            let error = Netns::open(other).unwrap_err();
            assert!(matches!(&error, NetnsError::NotANamespace { .. }), "{other}: {error}");
            assert!(error.to_string().contains(other));
        }
    });
}
