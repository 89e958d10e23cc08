//! Span edits: each operation, their combinations, and that nothing else changes.

use pairline_sip::{Edit, Message, Name};

use crate::bytes_of::{parse, request, text};

const INVITE: &str = "INVITE sip:bob%40x@example.com;foo=%41 SIP/2.0\n\
    v: SIP/2.0/UDP a.example:5062;rport;branch=z9hG4bK1 , SIP/2.0/TCP b;branch=z9hG4bK2\n\
    x-Weird-HDR  :  a  b;;,,\n\
    Via: SIP/2.0/UDP c;branch=z9hG4bK3\n\
    Route: <sip:p1;lr>, <sip:p2;lr>\n\
    Max-Forwards: 70\n\
    To: <sip:bob@example.com>\n\
    From: <sip:alice@example.net>;tag=1\n\
    Call-ID: abc\n\
    CSeq: 1 INVITE\n\
    rOUTE: <sip:p3;lr>\n\
    Accept: application/sdp,\n  text/plain;q=0.50\n\
    Content-Length: 2\n\nhi";

fn edited(change: impl FnOnce(&mut Edit<'_>)) -> String {
    let message = parse(INVITE);
    let mut edit = Edit::new(&message);
    change(&mut edit);
    let bytes = edit.finish();
    Message::parse(bytes.clone()).expect("the edited message is still valid");
    text(&bytes)
}

#[test]
fn the_usual_forwarding() {
    let out = edited(|edit| {
        edit.fix_top_via("192.0.2.9".parse().ok(), Some(6000))
            .push_via(b"SIP/2.0/TCP proxy;branch=z9hG4bKp")
            .pop_route()
            .set_max_forwards(69)
            .push_record_route(b"<sip:proxy;lr>")
            .request_uri(b"sip:bob@192.0.2.4");
    });
    let expected = INVITE
        .replace("sip:bob%40x@example.com;foo=%41", "sip:bob@192.0.2.4")
        .replace("v: SIP", "Via: SIP/2.0/TCP proxy;branch=z9hG4bKp\nv: SIP")
        .replace(";rport;branch=z9hG4bK1 ,", ";rport=6000;branch=z9hG4bK1;received=192.0.2.9 ,")
        .replace("branch=z9hG4bK3\n", "branch=z9hG4bK3\nRecord-Route: <sip:proxy;lr>\n")
        .replace("Route: <sip:p1;lr>, <sip:p2;lr>", "Route: <sip:p2;lr>")
        .replace("Forwards: 70", "Forwards: 69");
    assert_eq!(out, expected);
}

#[test]
fn vias_pop_across_commas_and_lines() {
    let one = edited(|edit| {
        edit.pop_via();
    });
    assert_eq!(one, INVITE.replace("SIP/2.0/UDP a.example:5062;rport;branch=z9hG4bK1 , ", ""));
    let two = edited(|edit| {
        edit.pop_via().pop_via();
    });
    let first_line = INVITE.lines().nth(1).unwrap().to_owned() + "\n";
    assert_eq!(two, INVITE.replace(&first_line, ""));
}

#[test]
fn routes_pop_to_the_last_and_push_back() {
    let out = edited(|edit| {
        edit.pop_route().pop_route().pop_route().push_route(b"<sip:n1;lr>").push_route(b"<sip:n2;lr>");
    });
    let expected = INVITE
        .replace("Route: <sip:p1;lr>, <sip:p2;lr>\n", "Route: <sip:n2;lr>\nRoute: <sip:n1;lr>\n")
        .replace("rOUTE: <sip:p3;lr>\n", "");
    assert_eq!(out, expected);
    let message = parse(&out);
    let routes: Vec<_> = message.routes().map(|route| route.uri).collect();
    assert_eq!(routes, [&b"sip:n2;lr"[..], b"sip:n1;lr"]);
}

#[test]
fn single_values_go_with_their_comma() {
    let middle = edited(|edit| {
        edit.remove_value(Name::Route, 1);
    });
    assert_eq!(middle, INVITE.replace(", <sip:p2;lr>", ""));
    let last = edited(|edit| {
        edit.remove_value(Name::Route, 2);
    });
    assert_eq!(last, INVITE.replace("rOUTE: <sip:p3;lr>\n", ""));
    let outside = edited(|edit| {
        edit.remove_value(Name::Route, 3).remove_value(Name::Path, 0);
    });
    assert_eq!(outside, INVITE);
}

#[test]
fn removing_by_name_ignores_case_and_folding() {
    let out = edited(|edit| {
        edit.remove_named("X-WEIRD-hdr").remove(Name::Accept);
    });
    let expected =
        INVITE.replace("x-Weird-HDR  :  a  b;;,,\n", "").replace("Accept: application/sdp,\n  text/plain;q=0.50\n", "");
    assert_eq!(out, expected);
}

#[test]
fn set_holds_whatever_came_before() {
    for order in 0..3 {
        let out = edited(|edit| match order {
            0 => {
                edit.set(Name::Accept, b"a/b");
            }
            1 => {
                edit.remove(Name::Accept).set(Name::Accept, b"a/b");
            }
            _ => {
                edit.set(Name::Accept, b"c/d").set(Name::Accept, b"a/b");
            }
        });
        let expected = INVITE.replace("application/sdp,\n  text/plain;q=0.50", "a/b");
        assert_eq!(out, expected, "order {order}");
    }
    let gone = edited(|edit| {
        edit.set(Name::Accept, b"a/b").remove(Name::Accept);
    });
    assert!(!gone.contains("Accept"));
    let all = edited(|edit| {
        edit.set(Name::Route, b"<sip:only;lr>");
    });
    assert_eq!(parse(&all).routes().count(), 1);
}

#[test]
fn absent_headers_are_added_in_place() {
    let message = parse(&INVITE.replace("Max-Forwards: 70\n", ""));
    let out = text(
        &Edit::new(&message).set_max_forwards(70).append(Name::Supported, b"path").append_named("X-New", b"1").finish(),
    );
    assert!(out.contains("z9hG4bK3\nMax-Forwards: 70\n"));
    assert!(out.contains("Content-Length: 2\nSupported: path\nX-New: 1\n\nhi"));
}

#[test]
fn pushed_paths_stand_before_older_ones() {
    let out = edited(|edit| {
        edit.push_path(b"<sip:e1;lr>").push_path(b"<sip:e2;lr>");
    });
    let message = parse(&out);
    let paths: Vec<_> = message.paths().map(|path| path.uri).collect();
    assert_eq!(paths, [&b"sip:e2;lr"[..], b"sip:e1;lr"]);
}

#[test]
fn bodies_are_replaced_with_their_length() {
    let out = edited(|edit| {
        edit.set_body("text/plain", b"hello, world");
    });
    let message = parse(&out);
    assert_eq!(message.body(), b"hello, world");
    assert_eq!(message.header(Name::ContentType), Some(&b"text/plain"[..]));
    assert_eq!(message.header(Name::ContentLength), Some(&b"12"[..]));
}

#[test]
fn a_value_cannot_begin_another_header() {
    let out = edited(|edit| {
        edit.append(Name::Subject, b"x\r\nRoute: <sip:evil>\0").append_named("X\r\nY", b"z");
    });
    assert!(out.contains("Subject: x  Route: <sip:evil> \n"));
    assert!(out.contains("X--Y: z\n"));
    assert_eq!(parse(&out).routes().count(), 3);
}

#[test]
fn a_fixed_via_replaces_what_it_carried() {
    let message = parse(
        "OPTIONS sip:a SIP/2.0\nVia: SIP/2.0/UDP a ; received=10.0.0.1 ;rport=1; branch=z9hG4bK1\n\
         From: <sip:a@a>;tag=1\nTo: <sip:a@a>\nCall-ID: 1\nCSeq: 1 OPTIONS\n\n",
    );
    let out = Edit::new(&message).fix_top_via("2001:db8::1".parse().ok(), Some(5)).finish();
    let out = Message::parse(out).unwrap();
    assert_eq!(out.via().raw(), b"SIP/2.0/UDP a  ;rport=5; branch=z9hG4bK1;received=2001:db8::1");
    assert_eq!(out.via().received(), "2001:db8::1".parse().ok());
    assert_eq!(out.via().rport(), Some(5));
}

#[test]
fn rport_is_not_added_where_it_was_not_asked_for() {
    let message = parse(&INVITE.replace(";rport", ""));
    let out = Edit::new(&message).fix_top_via(None, Some(5)).finish();
    assert_eq!(text(&out), INVITE.replace(";rport", ""));
}

#[test]
fn one_line_of_several_goes_with_its_commas() {
    let message = parse(&request(
        "INVITE",
        "Proxy-Authorization: Digest realm=\"a\", nonce=\"1\"\nProxy-Authorization: Digest realm=\"b\", nonce=\"2\"\n",
    ));
    let mut edit = Edit::new(&message);
    edit.remove_line(Name::ProxyAuthorization, 0).remove_line(Name::ProxyAuthorization, 2);
    let left = Message::parse(edit.finish()).unwrap();
    let values: Vec<&[u8]> = left.headers(Name::ProxyAuthorization).collect();
    assert_eq!(values, [b"Digest realm=\"b\", nonce=\"2\""]);
}

#[test]
fn max_breadth_is_set_in_its_place_or_behind_the_vias() {
    let out = edited(|edit| {
        edit.set_max_breadth(60);
    });
    assert_eq!(out, INVITE.replace("branch=z9hG4bK3\n", "branch=z9hG4bK3\nMax-Breadth: 60\n"));
    let message = parse(&INVITE.replace("Max-Forwards: 70", "max-breadth:  1000\nMax-Forwards: 70"));
    for (breadth, digits) in [(0, "0"), (9, "9"), (10, "10"), (65_535, "65535")] {
        let out = Message::parse(Edit::new(&message).set_max_breadth(breadth).finish()).unwrap();
        assert_eq!(out.headers(Name::MaxBreadth).collect::<Vec<_>>(), [digits.as_bytes()]);
    }
}
