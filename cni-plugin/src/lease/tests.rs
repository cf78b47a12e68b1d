use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::range::RangeText;

fn set(subnet: &str, start: Option<&str>, end: Option<&str>) -> RangeSet {
    RangeSet(vec![
        Range::parse(&RangeText {
            subnet,
            start,
            end,
            gateway: None,
        })
        .unwrap(),
    ])
}

fn owner(number: u8) -> Owner {
    Owner::new(&number.to_string(), "eth0")
}

#[test]
fn addresses_are_distinct_and_the_gateway_is_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("10.1.2.0/24", None, None);
    let mut leases = Leases::open(dir.path(), "net").unwrap();
    let mut seen = HashSet::new();
    for number in 2..=254 {
        let lease = leases.allocate(&set, owner(number), "x", None).unwrap();
        assert!(seen.insert(lease.address.ip()));
        assert_eq!(lease.address.prefix(), 24);
    }
    assert!(!seen.contains(&IpAddr::from([10, 1, 2, 1])) && !seen.contains(&IpAddr::from([10, 1, 2, 255])));
    let error = leases.allocate(&set, owner(1), "x", None).unwrap_err();
    assert_eq!(error.code(), 11);
    assert!(
        error.to_string().contains("10.1.2.1-10.1.2.254") && error.to_string().contains("net"),
        "{error}"
    );
}

#[test]
fn a_freed_address_rests_while_others_are_free() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("10.1.2.0/24", Some("10.1.2.10"), Some("10.1.2.12"));
    let mut leases = Leases::open(dir.path(), "net").unwrap();
    let mut next = |number| {
        leases
            .allocate(&set, owner(number), "x", None)
            .map(|lease| lease.address.ip().to_string())
    };
    assert_eq!(next(1).unwrap(), "10.1.2.10");
    assert_eq!(next(2).unwrap(), "10.1.2.11");
    leases.release(owner(1)).unwrap();
    leases.now_secs += 1;
    leases.release(owner(2)).unwrap();
    let mut next = |number| {
        leases
            .allocate(&set, owner(number), "x", None)
            .map(|lease| lease.address.ip().to_string())
    };
    assert_eq!(next(3).unwrap(), "10.1.2.12");
    // Nothing is fresh any more: rather the one that rested longest than none.
    assert_eq!(next(4).unwrap(), "10.1.2.10");
    assert_eq!(next(5).unwrap(), "10.1.2.11");
    assert!(next(6).is_err());
}

#[test]
fn another_boot_starts_empty() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("10.1.2.0/30", None, None);
    let mut leases = Leases::open(dir.path(), "net").unwrap();
    leases.allocate(&set, owner(1), "x", None).unwrap();
    assert!(leases.allocate(&set, owner(2), "x", None).is_err());
    leases.boot = "00000000-0000-4000-8000-000000000000".into();
    assert!(leases.allocate(&set, owner(2), "x", None).is_ok());
}

#[test]
fn a_damaged_table_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("10.1.2.0/24", None, None);
    let mut leases = Leases::open(dir.path(), "net").unwrap();
    fs::write(dir.path().join("net/10.1.2.0-24.leases"), [0xff; 9000]).unwrap();
    assert_eq!(
        leases
            .allocate(&set, owner(1), "x", None)
            .unwrap()
            .address
            .to_string(),
        "10.1.2.2/24"
    );
}

#[test]
fn a_wanted_address_is_given_once() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("10.1.2.0/24", None, None);
    let mut leases = Leases::open(dir.path(), "net").unwrap();
    let wanted = IpAddr::from([10, 1, 2, 77]);
    assert_eq!(
        leases
            .allocate(&set, owner(1), "x", Some(wanted))
            .unwrap()
            .address
            .ip(),
        wanted
    );
    assert!(matches!(
        leases.allocate(&set, owner(2), "x", Some(wanted)),
        Err(LeaseError::Taken { .. })
    ));
    assert!(leases.holds(&set, owner(1), wanted).unwrap() && !leases.holds(&set, owner(2), wanted).unwrap());
}

#[test]
fn large_subnets_work_from_their_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut leases = Leases::open(dir.path(), "net").unwrap();
    for (subnet, first) in [("10.0.0.0/8", "10.0.0.2/8"), ("fd00::/48", "fd00::2/48")] {
        let lease = leases
            .allocate(&set(subnet, None, None), owner(1), "x", None)
            .unwrap();
        assert_eq!(lease.address.to_string(), first);
    }
    let disk = fs::metadata(dir.path().join("net/10.0.0.0-8.leases")).unwrap();
    assert!(disk.len() < 8192);
}

#[derive(Debug, Clone)]
enum Op {
    Take(u8),
    Release(u8),
    Later(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any::<u8>().prop_map(Op::Take),
        any::<u8>().prop_map(Op::Release),
        any::<u16>().prop_map(Op::Later)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a plain map: no address has two owners, and only a full range refuses.
    #[test]
    fn the_table_is_a_map(ops in proptest::collection::vec(op(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let set = set("10.1.2.0/27", Some("10.1.2.5"), Some("10.1.2.20"));
        let mut leases = Leases::open(dir.path(), "net").unwrap();
        let mut model: BTreeMap<IpAddr, u8> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Take(number) => match leases.allocate(&set, owner(number), "x", None) {
                    Ok(lease) => prop_assert_eq!(model.insert(lease.address.ip(), number), None),
                    Err(_) => prop_assert_eq!(model.len(), 16),
                },
                Op::Release(number) => {
                    leases.release(owner(number)).unwrap();
                    model.retain(|_, holder| *holder != number);
                }
                Op::Later(seconds) => leases.now_secs += u32::from(seconds),
            }
        }
        for (address, number) in model {
            prop_assert!(leases.holds(&set, owner(number), address).unwrap());
        }
    }

    /// Whatever is in the file behind its header, an address is of the range, and had by nobody before.
    #[test]
    fn any_table_can_be_used(cursor: u32, slots in proptest::collection::vec((any::<[u8; 20]>(), 0_u8..4), 0..24)) {
        let dir = tempfile::tempdir().unwrap();
        let set = set("10.1.2.0/27", Some("10.1.2.5"), Some("10.1.2.20"));
        let mut leases = Leases::open(dir.path(), "net").unwrap();
        leases.allocate(&set, owner(1), "x", None).unwrap();
        let file = File::options().write(true).open(dir.path().join("net/10.1.2.0-27.leases")).unwrap();
        file.write_all_at(&cursor.to_le_bytes(), 56).unwrap();
        for (at, (start, state)) in (4096_u64..).step_by(32).zip(&slots) {
            file.write_all_at(start, at).unwrap();
            file.write_all_at(&[*state], at + 20).unwrap();
        }
        let taken = |number: usize| slots.get(number).is_some_and(|(_, state)| *state == 1);
        match leases.allocate(&set, owner(2), "x", None) {
            Ok(lease) => {
                let IpAddr::V4(address) = lease.address.ip() else { unreachable!("{lease:?}") };
                let number = usize::from(address.octets()[3]);
                prop_assert!((5..=20).contains(&number) && !taken(number));
            }
            Err(_) => prop_assert!((5..=20).all(taken)),
        }
        leases.release(owner(2)).unwrap();
    }
}
