//! Certificates over years, looked at day by day.

use super::*;

const DAY: i64 = 86_400;

fn names() -> Vec<String> {
    ["orders.shop.svc", "orders", "*.orders-nodes.shop.svc"].map(str::to_owned).into()
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

const TERMS: Terms = Terms { certificate: days(90), authority: days(900), overlap: days(5) };

fn at<'a>(names: &'a [String], now: i64, rotate: Option<&'a str>) -> Request<'a> {
    Request { names, terms: TERMS, rotate, now }
}

fn stored(certificates: &Certificates) -> Stored {
    Stored { authorities: Some(certificates.authorities.clone()), leaf: Some(certificates.leaf.clone()) }
}

/// Whether who trusts `bundle` takes the certificate at `now`.
fn is_trusted(leaf: &str, bundle: &str, now: i64) -> bool {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok));
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let name = ServerName::try_from("orders-0.orders-nodes.shop.svc").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap()));
    use rustls::client::danger::ServerCertVerifier;
    verifier.verify_server_cert(&leaf, &[], &name, &[], now).is_ok()
}

#[test]
fn what_is_made_is_kept_and_is_taken_by_who_trusts_the_bundle() {
    let names = names();
    let made = renew(&Stored::default(), &at(&names, 1_000 * DAY, None)).unwrap();
    assert!(is_trusted(&made.leaf.certificate, &made.authorities.bundle(), 1_000 * DAY));
    assert_eq!(made.due_in, days(60));
    let kept = renew(&stored(&made), &at(&names, 1_059 * DAY, None)).unwrap();
    assert_eq!((&kept.leaf, &kept.authorities), (&made.leaf, &made.authorities));
    assert_eq!(kept.due_in, days(1));
}

#[test]
fn a_certificate_is_replaced_after_two_thirds_of_its_time() {
    let names = names();
    let made = renew(&Stored::default(), &at(&names, 0, None)).unwrap();
    let renewed = renew(&stored(&made), &at(&names, 60 * DAY, None)).unwrap();
    assert_ne!(renewed.leaf, made.leaf);
    assert_eq!(renewed.authorities, made.authorities);
}

#[test]
fn a_certificate_for_other_names_or_by_somebody_else_or_in_pieces_is_replaced() {
    let names = names();
    let made = renew(&Stored::default(), &at(&names, 0, None)).unwrap();
    let other = renew(&Stored::default(), &at(&names, 0, None)).unwrap();
    let more = [names.clone(), vec!["orders.example.com".to_owned()]].concat();
    assert_ne!(renew(&stored(&made), &at(&more, DAY, None)).unwrap().leaf, made.leaf);
    let by_another = Stored { leaf: Some(other.leaf.clone()), ..stored(&made) };
    assert_ne!(renew(&by_another, &at(&names, DAY, None)).unwrap().leaf, other.leaf);
    for (certificate, key) in
        [("", made.leaf.key.as_str()), (&made.leaf.certificate, ""), (&made.leaf.certificate, &other.leaf.key)]
    {
        let broken = Pair { certificate: certificate.into(), key: key.into() };
        let renewed = renew(&Stored { leaf: Some(broken.clone()), ..stored(&made) }, &at(&names, DAY, None)).unwrap();
        assert_ne!(renewed.leaf, broken);
        assert!(is_trusted(&renewed.leaf.certificate, &made.authorities.bundle(), DAY));
    }
}

#[test]
fn an_authority_that_cannot_sign_is_replaced_at_once() {
    let names = names();
    let made = renew(&Stored::default(), &at(&names, 0, None)).unwrap();
    let mut broken = stored(&made);
    broken.authorities.as_mut().unwrap().active.key.clear();
    for (stored, now) in [(broken, DAY), (stored(&made), 901 * DAY)] {
        let renewed = renew(&stored, &at(&names, now, None)).unwrap();
        assert_ne!(renewed.authorities.active, made.authorities.active);
        assert!(is_trusted(&renewed.leaf.certificate, &renewed.authorities.bundle(), now));
    }
}

/// Looks every day, and answers how many authorities signed. Whoever has the bundle of up to `overlap` ago takes the
/// certificate of today, and whoever has today's takes that of up to `overlap` ago.
fn years(from: i64, until: i64, rotate: impl Fn(i64) -> Option<&'static str>) -> usize {
    let names = names();
    let mut now = Stored::default();
    let mut seen: Vec<Certificates> = Vec::new();
    let mut signed = std::collections::BTreeSet::new();
    for day in from..until {
        let today = renew(&now, &at(&names, day * DAY, rotate(day))).unwrap();
        signed.insert(today.authorities.active.certificate.clone());
        seen.push(today.clone());
        for before in seen.iter().rev().take(5) {
            assert!(
                is_trusted(&today.leaf.certificate, &before.authorities.bundle(), day * DAY),
                "old bundle on day {day}"
            );
            assert!(
                is_trusted(&before.leaf.certificate, &today.authorities.bundle(), day * DAY),
                "old leaf on day {day}"
            );
        }
        now = stored(&today);
    }
    assert_eq!(now.authorities.unwrap().old, None, "it is forgotten in the end");
    signed.len()
}

#[test]
fn an_authority_is_replaced_with_an_overlap_in_which_nobody_trusts_too_little() {
    assert_eq!(years(10_000, 10_640, |_| None), 2);
}

#[test]
fn a_person_may_ask_for_another_authority_once_by_each_value() {
    assert_eq!(years(10_000, 10_060, |day| (day >= 10_010).then_some(if day < 10_030 { "one" } else { "two" })), 3);
}
