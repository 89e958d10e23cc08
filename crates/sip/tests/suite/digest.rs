//! Digest: the examples of RFC 7616 and RFC 2617, nonces, the replay window, hostile fields.

use pairline_sip::auth::{
    Algorithm, AuthError, Challenge, Credentials, NONCE_PERIOD_MS, NcVerdict, NonceKeys, NonceVerdict, NonceWindow,
    answer, challenge, check_nonce, ha1, issue_nonce, verify,
};
use proptest::prelude::*;

/// RFC 7616 §3.9.1.
const MUFASA: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
    uri=\"/dir/index.html\", algorithm=ALG, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
    nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
    response=\"RESP\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

fn mufasa(algorithm: &str, response: &str) -> String {
    MUFASA.replace("ALG", algorithm).replace("RESP", response)
}

#[test]
fn rfc_7616_examples() {
    for (algorithm, token, response) in [
        (Algorithm::Md5, "MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm::Sha256, "SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let text = mufasa(token, response);
        let credentials = Credentials::parse(text.as_bytes()).unwrap();
        assert_eq!(credentials.algorithm, algorithm);
        assert_eq!((credentials.username.as_ref(), credentials.nc), (&b"Mufasa"[..], Some(1)));
        let secret = ha1(algorithm, b"Mufasa", b"http-auth@example.org", b"Circle of Life");
        assert!(verify(&credentials, &secret, b"GET"));
        assert!(!verify(&credentials, &secret, b"PUT"), "bound to the method");
        let wrong = ha1(algorithm, b"Mufasa", b"http-auth@example.org", b"circle of life");
        assert!(!verify(&credentials, &wrong, b"GET"));
        let upper = mufasa(token, &response.to_uppercase());
        assert!(verify(&Credentials::parse(upper.as_bytes()).unwrap(), &secret, b"GET"));
    }
}

/// The HA1 values of RFC 2617 §3.5 and known answers of the three hash functions.
#[test]
fn stored_secrets() {
    assert_eq!(
        ha1(Algorithm::Md5, b"Mufasa", b"testrealm@host.com", b"Circle Of Life"),
        b"939e7578ed9e3c518a452acee763bce9"
    );
    for (algorithm, expected) in [
        (Algorithm::Md5, "02cc8f08398a4f3113b554e8105ebe4c"),
        (Algorithm::Sha256, "b0ee04f880c4ff4261479e2e7822b7410aee4c7159f4185ad5b0d88a312b495e"),
        (Algorithm::Sha512_256, "8eb13a416df8d7c256bb1b2fdc7824b9ab088eba9459502ef1de3d73c9dd7901"),
    ] {
        let secret = ha1(algorithm, b"a", b"b", b"c");
        assert_eq!(secret, expected.as_bytes(), "the hash of a:b:c");
        assert_eq!(algorithm.hex_len(), expected.len());
    }
}

/// RFC 8760: each algorithm from challenge to answer and check.
#[test]
fn both_sides_agree() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        let text = challenge("pair\"line", algorithm, "abc", true, false);
        let offered = Challenge::parse(text.as_bytes()).unwrap();
        assert!(offered.stale && offered.qop_auth);
        assert_eq!(offered.realm.as_ref(), b"pair\"line");
        let header = answer(&offered, "al\\ice", "pw", "REGISTER", "sip:pairline.test", "c", 17);
        let credentials = Credentials::parse(header.as_bytes()).unwrap();
        assert_eq!(credentials.username.as_ref(), b"al\\ice");
        assert_eq!((credentials.nc, credentials.algorithm), (Some(17), algorithm));
        let secret = ha1(algorithm, b"al\\ice", b"pair\"line", b"pw");
        assert!(verify(&credentials, &secret, b"REGISTER"));
        let other = Credentials { uri: b"sip:other".as_slice().into(), ..credentials };
        assert!(!verify(&other, &secret, b"REGISTER"), "bound to the digest URI");
    }
}

#[test]
fn no_downgrade_and_no_missing_protection() {
    let secret = ha1(Algorithm::Sha256, b"Mufasa", b"http-auth@example.org", b"Circle of Life");
    let md5 = mufasa("MD5", "8ca523f5e9506fed4657c9700eebdbec");
    assert!(!verify(&Credentials::parse(md5.as_bytes()).unwrap(), &secret, b"GET"));
    for cut in ["qop=auth, ", "nc=00000001, ", "cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", "] {
        let response = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        let text = mufasa("SHA-256", response).replace(cut, "");
        assert!(!verify(&Credentials::parse(text.as_bytes()).unwrap(), &secret, b"GET"), "{cut}");
    }
    let int = mufasa("SHA-256", "x").replace("qop=auth", "qop=auth-int");
    assert!(!verify(&Credentials::parse(int.as_bytes()).unwrap(), &secret, b"GET"));
    assert!(!verify(&Credentials::parse(md5.as_bytes()).unwrap(), b"", b"GET"));
}

#[test]
fn hostile_fields_are_refused() {
    let long = format!("Digest username=\"{}\"", "a".repeat(5000));
    let wide = format!("Digest username=\"{}\"", "a".repeat(1025));
    let many: String = (0..30).map(|n| format!("x{n}=1,")).collect();
    for (text, error) in [
        ("Basic abc", AuthError::NotDigest),
        ("", AuthError::NotDigest),
        ("Digest", AuthError::Syntax),
        ("Digest ", AuthError::Syntax),
        ("Digest username", AuthError::Syntax),
        ("Digest username=", AuthError::Syntax),
        ("Digest username=\"a", AuthError::Syntax),
        ("Digest username=\"a\\", AuthError::Syntax),
        ("Digest username=\"a\" realm=\"b\"", AuthError::Syntax),
        ("Digest username=\"a\",", AuthError::Syntax),
        ("Digest username=\"a\", Username=\"b\"", AuthError::Repeated),
        ("Digest username=\"a\"", AuthError::Missing("realm")),
        (&long, AuthError::TooLong),
        (&wide, AuthError::TooLong),
        (&format!("Digest {many}y=1"), AuthError::TooLong),
        (&mufasa("SHA-1", "x"), AuthError::Algorithm),
        (&mufasa("MD5-sess", "x"), AuthError::Algorithm),
        (&mufasa("MD5", "x").replace("00000001", "1"), AuthError::NonceCount),
        (&mufasa("MD5", "x").replace("00000001", "0000000g"), AuthError::NonceCount),
    ] {
        assert_eq!(Credentials::parse(text.as_bytes()), Err(error), "{text}");
    }
}

#[test]
fn nonces_are_bound_to_key_and_time() {
    let keys = NonceKeys::new([7; 32], None);
    let nonce = issue_nonce(&keys, 1_000_000, 42);
    let check = |keys: &NonceKeys, now| check_nonce(keys, nonce.as_bytes(), now, 60_000);
    let NonceVerdict::Fresh { id } = check(&keys, 1_000_001) else {
        panic!("a new nonce is fresh");
    };
    assert_eq!(check(&keys, 1_060_000), NonceVerdict::Fresh { id });
    assert_eq!(check(&keys, 1_060_001), NonceVerdict::Expired);
    assert_eq!(check(&keys, 900_000), NonceVerdict::Fresh { id }, "another server's clock");
    assert_eq!(check(&keys, 600_000), NonceVerdict::Expired);
    let rotated = NonceKeys::new([8; 32], Some([7; 32]));
    assert_eq!(check(&rotated, 1_000_001), NonceVerdict::Fresh { id });
    let twice = NonceKeys::new([9; 32], Some([8; 32]));
    assert_eq!(check(&twice, 1_000_001), NonceVerdict::Unknown);
    let later = issue_nonce(&keys, 1_000_001, 0);
    let NonceVerdict::Fresh { id: later } = check_nonce(&keys, later.as_bytes(), 1_000_001, 1) else {
        panic!("fresh");
    };
    assert!(later > id, "ids rise with time");
    assert!(!format!("{keys:?}").contains('7'), "keys are not printed");
}

/// Two keys are valid: a server that was started in this period and one that ran through the last agree without a message.
#[test]
fn the_key_of_the_last_period_is_valid_and_the_one_before_is_not() {
    let keys = NonceKeys::new([7; 32], None);
    let start = 10 * NONCE_PERIOD_MS;
    let nonce = issue_nonce(&keys, start + 5_000, 1);
    let check = |now| check_nonce(&keys, nonce.as_bytes(), now, u64::MAX);
    assert!(matches!(check(start + NONCE_PERIOD_MS - 1), NonceVerdict::Fresh { .. }), "the same period");
    assert!(matches!(check(start + NONCE_PERIOD_MS), NonceVerdict::Fresh { .. }), "the period after");
    assert!(matches!(check(start + 2 * NONCE_PERIOD_MS - 1), NonceVerdict::Fresh { .. }), "to its end");
    assert_eq!(check(start + 2 * NONCE_PERIOD_MS), NonceVerdict::Unknown, "two periods ago");
    assert!(matches!(check(start - 1), NonceVerdict::Fresh { .. }), "a partner whose clock is a little ahead");
    assert_eq!(check(start - NONCE_PERIOD_MS), NonceVerdict::Unknown, "a period that is not to come yet");
    let other = issue_nonce(&keys, start + NONCE_PERIOD_MS + 5_000, 1);
    assert_ne!(nonce[34..], other[34..], "each period signs with a key of its own");
}

#[test]
fn a_changed_nonce_is_unknown() {
    let keys = NonceKeys::new([7; 32], None);
    let nonce = issue_nonce(&keys, 5, 5).into_bytes();
    for at in 0..nonce.len() {
        let mut forged = nonce.clone();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(check_nonce(&keys, &forged, 5, 60_000), NonceVerdict::Unknown, "digit {at}");
    }
    for bad in [&b""[..], b"x", &nonce[..64], b"\xff\xff"] {
        assert_eq!(check_nonce(&keys, bad, 5, 60_000), NonceVerdict::Unknown);
    }
}

/// The format of version 2 is frozen: servers of both pools check each other's nonces.
#[test]
fn golden_nonce() {
    let keys = NonceKeys::new([0x11; 32], None);
    let golden = include_str!("../golden/nonce-v2.txt").trim();
    assert_eq!(issue_nonce(&keys, 1_700_000_000_000, 0x0123_4567_89ab_cdef), golden);
}

/// Version 1 was signed with the root and so without rotation. It is unknown now: its holder is answered `stale=true`.
#[test]
fn a_nonce_of_version_1_is_unknown() {
    let keys = NonceKeys::new([0x11; 32], None);
    let old = include_str!("../golden/nonce-v1.txt").trim();
    assert_eq!(check_nonce(&keys, old.as_bytes(), 1_700_000_000_000, 60_000), NonceVerdict::Unknown);
}

#[test]
fn counts_are_used_once() {
    let mut window = NonceWindow::new(2);
    assert_eq!(window.accept(10, 1), NcVerdict::Ok);
    assert_eq!(window.accept(10, 1), NcVerdict::Replayed);
    assert_eq!(window.accept(10, 5), NcVerdict::Ok);
    assert_eq!(window.accept(10, 3), NcVerdict::Ok, "late, but not used");
    assert_eq!(window.accept(10, 3), NcVerdict::Replayed);
    assert_eq!(window.accept(10, 200), NcVerdict::Ok);
    assert_eq!(window.accept(10, 136), NcVerdict::Replayed, "too far behind");
    assert_eq!(window.accept(10, 137), NcVerdict::Ok);
    assert_eq!(window.accept(10, 0), NcVerdict::Replayed);
    assert_eq!(window.accept(10, u32::MAX), NcVerdict::Ok);
    assert_eq!(window.accept(10, 200), NcVerdict::Replayed);
}

#[test]
fn a_forgotten_nonce_cannot_be_replayed() {
    let mut window = NonceWindow::new(2);
    for id in [10, 11, 12] {
        assert_eq!(window.accept(id, 1), NcVerdict::Ok);
    }
    assert_eq!(window.len(), 2);
    assert_eq!(window.accept(10, 1), NcVerdict::Replayed);
    assert_eq!(window.accept(9, 1), NcVerdict::Replayed);
    assert_eq!(window.accept(12, 2), NcVerdict::Ok);
    assert_eq!(window.accept(12, 2), NcVerdict::Replayed);
}

#[test]
fn nonces_are_forgotten_by_their_time_of_issue() {
    let keys = NonceKeys::new([7; 32], None);
    let id = |issued| match check_nonce(&keys, issue_nonce(&keys, issued, u64::MAX).as_bytes(), issued, 1_000) {
        NonceVerdict::Fresh { id } => id,
        other => panic!("just issued: {other:?}"),
    };
    let mut window = NonceWindow::new(10);
    for issued in [2_000, 1_000, 3_000] {
        assert_eq!(window.accept(id(issued), 1), NcVerdict::Ok);
    }
    window.expire(1_000);
    assert_eq!(window.len(), 3, "issued then, not before");
    window.expire(2_001);
    assert_eq!(window.len(), 1);
    assert_eq!(
        [1_000, 2_000, 3_000].map(|issued| window.accept(id(issued), 7)),
        [NcVerdict::Replayed, NcVerdict::Replayed, NcVerdict::Ok]
    );
    // A clock that was set back forgets nothing, and what it issues is good.
    window.expire(500);
    assert_eq!(window.accept(id(2_500), 1), NcVerdict::Ok);
}

proptest! {
    #[test]
    fn no_bytes_break_the_field_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = [b"Digest ".as_slice(), &bytes].concat();
        if let Ok(credentials) = Credentials::parse(&text) {
            prop_assert!(!verify(&credentials, &[b'0'; 64], b"REGISTER"));
        }
    }
}
