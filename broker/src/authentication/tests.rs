//! What somebody who tries to log in must not learn.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::panic::catch_unwind;
use std::time::Duration;

use warren_core::limits::TopologyLimits;
use warren_core::topology::{AdministrationChange, Change, HashingAlgorithm, UserLimits, UserRecord};

use super::hashing::tests::hash;
use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Not one hash less is computed for who does not exist: a test of `hashing` counts them. Here a clock says the same of all that
/// a login does: the best of many times is compared.
#[tokio::test]
async fn the_time_of_a_refused_login_does_not_tell_who_exists() {
    let mut topology = Topology::new(NonZeroU16::MIN, TopologyLimits::default());
    let algorithms = HashingAlgorithm::ALL.map(|algorithm| (algorithm.name(), Some(hash(algorithm))));
    for (name, password) in algorithms.into_iter().chain([("without a password", None)]) {
        let record =
            UserRecord { name: name.into(), password, previous: None, tags: Vec::new(), limits: UserLimits::default() };
        topology.apply(&Change::Administration(AdministrationChange::PutUser(Arc::new(record))));
    }
    let passwords = Passwords::new(None);
    let names = HashingAlgorithm::ALL.map(HashingAlgorithm::name);
    let mut best: Vec<_> =
        names.into_iter().chain(["without a password", "nobody"]).map(|name| (Duration::MAX, name)).collect();
    // What it takes at least is found sooner or later, however busy the machine is; most often at once.
    for _ in 0..100 {
        for (best, name) in &mut best {
            let login = Login { user: (*name).into(), password: b"wrong"[..].into() };
            let begin = std::time::Instant::now();
            let refused = passwords.check(&topology, &login, PEER, &Throttle::new()).await;
            *best = begin.elapsed().min(*best);
            assert!(matches!(refused, Err(LoginError::Credentials)), "{name}");
        }
        let times = || best.iter().map(|(time, _)| *time);
        if times().max() < times().min().map(|quickest| quickest * 5 / 4) {
            return;
        }
    }
    panic!("some take longer than others: {best:?}");
}

/// What a panic says is written to the log as it is. Whatever of a login it shows, the secret is not in it.
#[test]
fn a_panic_that_shows_a_login_does_not_show_its_secret() {
    const CANARY: &[u8] = b"canary-7f3a-canary-7f3a";
    let login = || Login { user: "alice".into(), password: CANARY.into() };
    let shown = [
        format!("{:?}", login()),
        format!("{:#?}", Credentials::Password(login())),
        format!("{:?}", Credentials::Bearer(CANARY.into())),
        format!("{:?}", warren_core::session::Claim::Password(login())),
    ];
    let refused = || -> Result<(), Credentials> { Err(Credentials::Bearer(CANARY.into())) };
    let unwrapped = catch_unwind(|| refused().expect("a defect"));
    let payload = unwrapped.expect_err("it panics");
    let unwrapped = payload.downcast_ref::<String>().expect("a sentence").clone();
    for said in shown.into_iter().chain([unwrapped]) {
        assert!(said.contains("[redacted]") && !said.contains("canary"), "{said}");
        // Nor as the list of octets that it is.
        assert!(!said.contains(&format!("{CANARY:?}")[1..20]), "{said}");
    }
}
