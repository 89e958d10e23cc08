//! What is made unreadable before a message is kept or sent anywhere: answers to challenges, tokens, keys of media, and bodies.
//!
//! Owns the filling. Every byte that is hidden becomes one `x`, so that lengths and framing stay right. Errs on the side of hiding:
//! the looked-for words are hidden wherever they stand in the head, since what is captured may be malformed.

use super::fields::Fields;
use std::ops::Range;

/// Parameters whose values nobody may see: from a challenge and its answer a password can be guessed offline, and a push token
/// is the right to wake a phone (RFC 8599 §14).
const PARAMETERS: [&[u8]; 3] = [b"response", b"rspauth", b"pn-prid"];

/// Beginnings of lines of a session description that hold keys, with the mark behind which the key stands.
const KEY_LINES: [(&[u8], &[u8]); 3] = [(b"a=crypto:", b"inline:"), (b"a=ice-pwd:", b""), (b"k=", b"")];

/// A copy of a message with its secrets filled; bodies other than session descriptions as well, unless they are wanted.
pub fn redact(message: &[u8], bodies: bool) -> Vec<u8> {
    let fields = Fields::of(message);
    let mut out = message.to_vec();
    for name in PARAMETERS {
        hide_parameter(message, &mut out[..fields.body_at], name);
    }
    for (name, value) in &fields.headers {
        let name = &message[name.clone()];
        if name.eq_ignore_ascii_case(b"authorization") || name.eq_ignore_ascii_case(b"proxy-authorization") {
            hide_other_schemes(&mut out[value.clone()]);
        }
    }
    if bodies || is_description(message, &fields) {
        hide_keys(&mut out[fields.body_at..]);
    } else {
        fill(&mut out[fields.body_at..]);
    }
    out
}

fn fill(bytes: &mut [u8]) {
    bytes.fill(b'x');
}

fn is_description(message: &[u8], fields: &Fields) -> bool {
    fields.values(message, "content-type", Some("c")).next().is_some_and(|value| {
        let kind = value.split(|b| *b == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/sdp")
    })
}

/// Fills the value of a parameter wherever it stands in the head. Looked for in the message as it came: what one find fills cannot
/// hide the next.
fn hide_parameter(message: &[u8], out: &mut [u8], name: &[u8]) {
    let mut at = 0;
    while let Some(found) = find(&message[at..out.len()], name) {
        let before = (at + found).checked_sub(1).map(|i| message[i]);
        at += found + name.len();
        if before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            continue;
        }
        if let Some(value) = value_after(&message[..out.len()], at) {
            fill(&mut out[value]);
        }
    }
}

/// Where the value is of a parameter whose name ends at `at`: in quotes, or up to what cannot be in a token.
fn value_after(head: &[u8], at: usize) -> Option<Range<usize>> {
    let skip = |at: usize| at + head[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let equals = skip(at);
    (head.get(equals) == Some(&b'=')).then_some(())?;
    let start = skip(equals + 1);
    if head.get(start) == Some(&b'"') {
        return Some(start + 1..quote_end(head, start + 1));
    }
    let ends = |b: &u8| b.is_ascii_whitespace() || b",;>?&\"".contains(b);
    let length = head[start..].iter().position(ends).unwrap_or(head.len() - start);
    Some(start..start + length)
}

/// The quote that ends a quoted string, or the end of all.
fn quote_end(head: &[u8], mut at: usize) -> usize {
    while let Some(byte) = head.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    head.len()
}

/// Fills the credentials of every scheme but Digest, whose answer is hidden as a parameter.
fn hide_other_schemes(value: &mut [u8]) {
    let start = value.len() - value.trim_ascii_start().len();
    let scheme = value[start..].iter().take_while(|b| !b.is_ascii_whitespace()).count();
    if value[start..start + scheme].eq_ignore_ascii_case(b"digest") {
        return;
    }
    let rest = &mut value[start + scheme..];
    rest.iter_mut().filter(|b| !b.is_ascii_whitespace()).for_each(|b| *b = b'x');
}

fn hide_keys(body: &mut [u8]) {
    let mut at = 0;
    while at < body.len() {
        let end = body[at..].iter().position(|b| *b == b'\n').map_or(body.len(), |end| at + end + 1);
        let line = &mut body[at..end];
        for (beginning, mark) in KEY_LINES {
            if line.get(..beginning.len()).is_none_or(|found| !found.eq_ignore_ascii_case(beginning)) {
                continue;
            }
            let behind = beginning.len() + find(&line[beginning.len()..], mark).map_or(0, |found| found + mark.len());
            line[behind..].iter_mut().filter(|b| !matches!(b, b'\r' | b'\n')).for_each(|b| *b = b'x');
        }
        at = end;
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    let Some(first) = word.first() else { return Some(0) };
    // Every word begins with a small letter; one look at one byte passes nearly all places over.
    let last = text.len().checked_sub(word.len())?;
    (0..=last).find(|at| text[*at] | 0x20 == *first && text[*at..*at + word.len()].eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::redact;

    fn text(message: &str, bodies: bool) -> String {
        let out = redact(message.as_bytes(), bodies);
        assert_eq!(out.len(), message.len(), "lengths stay");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_answer_to_a_challenge_is_hidden_and_everything_else_stays() {
        let message = "REGISTER sip:x SIP/2.0\r\nAuthorization: Digest username=\"alice\", nonce=\"n\", \
                       Response = \"0123abcd\", cnonce=\"c\"\r\nContact: <sip:a@b;pn-prid=tok:en;x=y>\r\n\r\n";
        let hidden = message.replace("0123abcd", "xxxxxxxx").replace("tok:en", "xxxxxx");
        assert_eq!(text(message, false), hidden);
        let reply = "SIP/2.0 200 OK\r\nAuthentication-Info: rspauth=\"77\",nc=1\r\n\r\n";
        assert_eq!(text(reply, false), reply.replace("77", "xx"));
    }

    #[test]
    fn other_schemes_and_malformed_credentials_are_hidden_whole() {
        let message = "OPTIONS sip:x SIP/2.0\r\nProxy-authorization :\r\n Bearer abc.def ghi\r\n\r\n";
        assert_eq!(text(message, false), message.replace("abc.def ghi", "xxxxxxx xxx"));
        // No line ends that the parser knows, an open quote, a repeated parameter: hidden all the same.
        for (message, secret) in [
            ("REGISTER sip:x SIP/2.0\rAuthorization: Digest response=\"77aa\"\r\r", "77aa"),
            ("REGISTER sip:x SIP/2.0\r\nAuthorization: Digest response=\"77aa\r\n\r\n", "77aa"),
            ("REGISTER sip:x SIP/2.0\r\nAuthorization: Digest response=,response=77aa\r\n\r\n", "77aa"),
            ("REGISTER sip:x SIP/2.0\r\nAuthorization: Digest a=\"response=\", response=\"77aa\"\r\n\r\n", "77aa"),
            ("REGISTER sip:x SIP/2.0\r\nAuthorization: Digest response=\"\\\"77aa\"\r\n\r\n", "77aa"),
            ("REGISTER sip:x SIP/2.0\r\nAuthorization: Digest response=\"\\", "77aa"),
            ("REGISTER sip:x SIP/2.0\r\nAuthorization: Digest a=b,response\t=\r\n 77aa,c=d", "77aa"),
        ] {
            assert!(!text(message, true).contains(secret), "{message}");
        }
    }

    #[test]
    fn words_that_only_look_like_a_parameter_stay() {
        let message = "SIP/2.0 200 no response\r\nX-Response: a\r\nX: fast-response=1;responses=2\r\n\r\n";
        assert_eq!(text(message, false), message);
    }

    #[test]
    fn bodies_are_hidden_unless_they_are_wanted_and_descriptions_stay_without_their_keys() {
        let message = "MESSAGE sip:b@x SIP/2.0\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nsee you at 8";
        assert_eq!(text(message, false), message.replace("see you at 8", "xxxxxxxxxxxx"));
        assert_eq!(text(message, true), message);
        let call = "INVITE sip:b@x SIP/2.0\r\nc: application/SDP;a=b\r\n\r\nv=0\r\nm=audio 4000 RTP/SAVP 0\r\n\
                    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WnD7c1ksDGs+|2^20\r\na=ice-pwd:asd88\r\na=rtpmap:0 PCMU/8000\r\n";
        let hidden = call.replace("WnD7c1ksDGs+|2^20", "xxxxxxxxxxxxxxxxx").replace("asd88", "xxxxx");
        assert_eq!((text(call, false), text(call, true)), (hidden.clone(), hidden));
    }

    #[test]
    fn any_bytes_keep_their_length() {
        let words: [&[u8]; 9] =
            [b"response", b"=", b"\"", b"\r\n", b"Authorization: ", b"k=", b"\xff", b" ", b"a=crypto:"];
        let mut state = 7_u32;
        for _ in 0..2_000 {
            let mut bytes = Vec::new();
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.extend_from_slice(words[(state >> 16) as usize % words.len()]);
            }
            assert_eq!(redact(&bytes, state.is_multiple_of(2)).len(), bytes.len());
        }
    }
}
