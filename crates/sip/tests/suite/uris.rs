//! URIs: the examples of RFC 3261 §19.1, comparison, and the canonical address of record.

use std::net::IpAddr;

use pairline_sip::uri::{Host, Scheme, Uri, UriError};
use pairline_sip::{Aor, NameAddr};
use proptest::prelude::*;

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn parts_of_a_full_uri() {
    let uri = uri("sip:alice:secretword@atlanta.com:5062;transport=tcp;LR?subject=a&b=c");
    assert_eq!(uri.scheme, Scheme::Sip);
    assert_eq!(uri.user, Some(&b"alice"[..]));
    assert_eq!(uri.password, Some(&b"secretword"[..]));
    assert_eq!(uri.host, Host::Name(b"atlanta.com"));
    assert_eq!(uri.port, Some(5062));
    assert_eq!(uri.param("Transport"), Some(&b"tcp"[..]));
    assert!(uri.has_param("lr"));
    assert_eq!(uri.headers, Some(&b"subject=a&b=c"[..]));
}

#[test]
fn rfc_3261_19_1_3_examples_parse() {
    for text in [
        "sip:alice@atlanta.com",
        "sip:alice:secretword@atlanta.com;transport=tcp",
        "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "sips:1212@gateway.com",
        "sip:alice@192.0.2.4",
        "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
        "sip:alice;day=tuesday@atlanta.com",
        "sip:[2001:db8::10]:5070;lr",
        "tel:+358-555-1234567;postd=pp22",
        "urn:service:sos",
    ] {
        assert_eq!(uri(text).raw(), text.as_bytes());
    }
    assert_eq!(uri("sip:alice;day=tuesday@atlanta.com").user, Some(&b"alice;day=tuesday"[..]));
    assert_eq!(uri("sip:a@[2001:db8::1]").host, Host::Ip("2001:db8::1".parse::<IpAddr>().unwrap()));
}

#[test]
fn malformed_uris_are_refused() {
    for (text, error) in [
        ("alice@atlanta.com", UriError::Scheme),
        ("1sip:alice@atlanta.com", UriError::Scheme),
        ("sip:", UriError::Host),
        ("sip:@atlanta.com", UriError::User),
        ("sip:a@b@c", UriError::User),
        ("sip:a%4@c", UriError::User),
        ("sip:a@", UriError::Host),
        ("sip:a@b c", UriError::Character),
        ("sip:a@b:0", UriError::Port),
        ("sip:a@b:65536", UriError::Port),
        ("sip:a@b:5060x", UriError::Port),
        ("sip:a@b:", UriError::Port),
        ("sip:a@[2001:db8:::1]", UriError::Host),
        ("sip:a@[192.0.2.1]", UriError::Host),
        ("sip:a@b;;c", UriError::Parameter),
        ("sip:a@b;=c", UriError::Parameter),
        ("sip:a@b\x7f", UriError::Character),
        ("sip:<a@b>", UriError::Character),
    ] {
        assert_eq!(Uri::parse(text.as_bytes()), Err(error), "{text}");
    }
}

/// RFC 3261 §19.1.4, both lists.
#[test]
fn comparison_examples() {
    for (a, b) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
    ] {
        assert!(uri(a).equals(&uri(b)), "{a} = {b}");
        assert!(uri(b).equals(&uri(a)), "{b} = {a}");
    }
    for (a, b) in [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:alice@atlanta.com", "sips:alice@atlanta.com"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ] {
        assert!(!uri(a).equals(&uri(b)), "{a} != {b}");
        assert!(!uri(b).equals(&uri(a)), "{b} != {a}");
    }
}

#[test]
fn address_of_record_is_canonical() {
    for (text, aor) in [
        ("sip:Alice@Example.COM", "sip:Alice@example.com"),
        ("sips:alice@example.com:5061;transport=tls", "sip:alice@example.com"),
        ("sip:%61lice:pw@example.com?x=y", "sip:alice@example.com"),
        ("sip:a%2fb%40c@example.com", "sip:a%2Fb%40c@example.com"),
        ("sip:+1-212@example.com;user=phone", "sip:+1-212@example.com"),
        ("sip:a@[2001:DB8::1]", "sip:a@[2001:db8::1]"),
    ] {
        let parsed = uri(text).aor().expect("has a user");
        assert_eq!(parsed.as_str(), aor);
        assert_eq!(Aor::parse(aor).as_ref(), Some(&parsed), "canonical is a fixed point");
    }
    let aor = Aor::parse("sip:bob@pairline.test").expect("valid");
    assert_eq!((aor.user(), aor.domain()), ("bob", "pairline.test"));
    assert!(uri("sip:example.com").aor().is_none());
    assert!(uri("tel:+1").aor().is_none());
}

#[test]
fn an_escaped_separator_is_not_the_separator() {
    let escaped = uri("sip:a%3bb@example.com").aor();
    let plain = uri("sip:a;b@example.com").aor();
    assert_ne!(escaped, plain);
}

#[test]
fn name_addr_forms() {
    let addr = NameAddr::parse(b"\"A \\\"B\\\" <x>, y\" <sip:a@b;c=d> ; tag=x;q=0.5;ob").unwrap();
    assert_eq!(addr.display, b"\"A \\\"B\\\" <x>, y\"");
    assert_eq!(addr.uri, b"sip:a@b;c=d");
    assert_eq!(addr.tag(), Some(&b"x"[..]));
    assert_eq!(addr.q(), Some(500));
    assert!(addr.has_param("OB") && addr.param("ob") == Some(b""));
    let bare = NameAddr::parse(b"sip:a@b;tag=1").unwrap();
    assert_eq!((bare.uri, bare.tag()), (&b"sip:a@b"[..], Some(&b"1"[..])));
    let instance = NameAddr::parse(b"<sip:a@b>;+sip.instance=\"<urn:uuid:1>\";reg-id=1").unwrap();
    assert_eq!(instance.param("+sip.instance"), Some(&b"<urn:uuid:1>"[..]));
    for bad in [
        &b""[..],
        b"<sip:a@b",
        b"\"a <sip:a@b>",
        b"\"a\" sip:a@b",
        b"<sip:a@b> x",
        b"< sip:a@b>",
        b"sip:a@b?x=y",
        b"sip:a@b,sip:c@d",
        b"<sip:a@b>;",
        b"<sip:a@b>;=x",
        b"<>",
        b"nothing",
    ] {
        assert!(NameAddr::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn q_values() {
    for (text, q) in [
        ("0", Some(0)),
        ("1", Some(1000)),
        ("0.5", Some(500)),
        ("0.125", Some(125)),
        ("1.000", Some(1000)),
        ("0.", Some(0)),
        ("1.1", None),
        ("2", None),
        ("0.1234", None),
        ("-0.1", None),
        ("", None),
    ] {
        let value = format!("<sip:a@b>;q={text}");
        assert_eq!(NameAddr::parse(value.as_bytes()).unwrap().q(), q, "{text}");
    }
}

proptest! {
    #[test]
    fn canonical_form_is_a_fixed_point(user in "[ -~]{1,20}", host in "[a-zA-Z0-9.-]{1,20}") {
        let text = format!("sip:{user}@{host}");
        if let Ok(uri) = Uri::parse(text.as_bytes())
            && let Some(aor) = uri.aor()
        {
            let again = Uri::parse(aor.as_str().as_bytes()).expect("canonical parses");
            prop_assert_eq!(again.aor(), Some(aor));
            prop_assert!(uri.equals(&uri));
        }
    }
}

/// Found by fuzzing: of a parameter that stands twice only the first was looked at, so the URI differed from itself.
#[test]
fn a_uri_with_a_repeated_parameter_equals_itself() {
    let uri = Uri::parse(b"sip:u@h;transport=udp;transport=tcp").unwrap();
    assert!(uri.equals(&uri));
    assert!(!uri.equals(&Uri::parse(b"sip:u@h;transport=tcp").unwrap()));
}
