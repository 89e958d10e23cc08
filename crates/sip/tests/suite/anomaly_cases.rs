//! One-field anomalies, made systematically: every header of two requests and a response, with every oddity in its value, in
//! its name, in its line end, in its number; and the same for the parts of the start line.
//!
//! Owns the cases. What must hold for each is said where they are run: against the parser and the framer here, against a whole
//! node in its own tests.

/// A message that every case is one step away from. `@` stands for the case's number, so that none is a repetition.
pub struct Base {
    /// For labels.
    pub name: &'static str,
    start: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

/// The messages.
pub const BASES: [Base; 3] = [
    Base {
        name: "REGISTER",
        start: "REGISTER sip:pairline.test SIP/2.0",
        headers: &[
            ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKr@;rport"),
            ("Max-Forwards", "70"),
            ("From", "\"A\" <sip:alice@pairline.test>;tag=f@"),
            ("To", "<sip:alice@pairline.test>"),
            ("Call-ID", "r@"),
            ("CSeq", "1 REGISTER"),
            ("Contact", "<sip:alice@192.0.2.1:5060;ob>;+sip.instance=\"<urn:uuid:1>\";reg-id=1;expires=60;q=0.5"),
            ("Expires", "60"),
            ("Path", "<sip:p1.example.com;lr>, <sip:p2.example.com;lr>"),
            ("Supported", "path, outbound"),
            ("Require", "path"),
            (
                "Authorization",
                "Digest username=\"alice\", realm=\"pairline.test\", nonce=\"0102\", uri=\"sip:pairline.test\", \
                 response=\"00\", algorithm=SHA-256, cnonce=\"c\", qop=auth, nc=00000001",
            ),
            ("User-Agent", "TestPhone/1"),
            ("Allow", "INVITE, ACK, BYE"),
            ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
            ("Content-Length", "0"),
        ],
        body: "",
    },
    Base {
        name: "INVITE",
        start: "INVITE sip:bob@pairline.test SIP/2.0",
        headers: &[
            ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKi@;rport"),
            ("Route", "<sip:127.0.1.1:5060;lr>"),
            ("Record-Route", "<sip:r.example.com;lr>"),
            ("Max-Forwards", "70"),
            ("From", "Alice <sip:alice@pairline.test>;tag=f@"),
            ("To", "Bob <sip:bob@pairline.test>"),
            ("Call-ID", "i@"),
            ("CSeq", "1 INVITE"),
            ("Contact", "<sip:alice@192.0.2.1:5060>"),
            (
                "Proxy-Authorization",
                "Digest username=\"alice\", realm=\"pairline.test\", nonce=\"0102\", uri=\"sip:bob@pairline.test\", \
                 response=\"00\", algorithm=SHA-256, cnonce=\"c\", qop=auth, nc=00000001",
            ),
            ("Proxy-Require", ""),
            ("Supported", "100rel, timer"),
            ("Session-Expires", "1800;refresher=uac"),
            ("Min-SE", "90"),
            ("P-Asserted-Identity", "<sip:boss@pairline.test>"),
            ("P-Preferred-Identity", "<sip:alice@pairline.test>"),
            ("Privacy", "id"),
            ("Replaces", "c;from-tag=1;to-tag=2"),
            ("Referred-By", "<sip:carol@pairline.test>"),
            ("History-Info", "<sip:bob@pairline.test>;index=1"),
            ("Reason", "Q.850;cause=16;text=\"x\""),
            ("Subject", "lunch"),
            ("Content-Type", "multipart/mixed;boundary=\"b\""),
            ("Content-Encoding", "identity"),
            ("Content-Disposition", "session;handling=required"),
            ("X-Unknown", "a;b=\"c\", <d>"),
            ("Content-Length", "7"),
        ],
        body: "v=0\r\no=",
    },
    Base {
        name: "200",
        start: "SIP/2.0 200 OK",
        headers: &[
            (
                "Via",
                "SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bKpld0000000000000000.00.0.00, SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKs@",
            ),
            ("From", "<sip:alice@pairline.test>;tag=f@"),
            ("To", "<sip:bob@pairline.test>;tag=t"),
            ("Call-ID", "s@"),
            ("CSeq", "1 INVITE"),
            ("Contact", "<sip:bob@192.0.2.2>"),
            ("WWW-Authenticate", "Digest realm=\"x\", nonce=\"y\", stale=false, qop=\"auth,auth-int\""),
            ("Retry-After", "5 (busy);duration=3"),
            ("RSeq", "1"),
            ("Warning", "399 x \"y\""),
            ("Content-Length", "0"),
        ],
        body: "",
    },
];

/// Values of no header at all, or of the wrong one.
const WHOLE: [&[u8]; 56] = [
    b"",
    b" ",
    b"\t",
    b",",
    b",,,,",
    b";",
    b";;;;",
    b"=",
    b"<>",
    b"<",
    b">",
    b"\"",
    b"\"\"",
    b"\\",
    b"*",
    b"%",
    b"%s%n%x",
    b"%00",
    b"%zz",
    b"\0",
    b"\\\0",
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"-1",
    b"+5",
    b"0",
    b"00",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"18446744073709551616",
    b"0x10",
    b"1e3",
    b"[",
    b"]",
    b"[::]",
    b"[:::]",
    b"sip:",
    b"sip:@",
    b"sip:a@b@c",
    b"<sip:a@b>;",
    b"<sip:a@b>;tag",
    b"<sip:a@b>;tag=",
    b"<sip:a@b>,<sip:c@d>",
    b"SIP/2.0/UDP",
    b"SIP/2.0/UDP a:0",
    b"SIP/3.0/UDP a",
    b"1 INVITE",
    b"1INVITE",
    b"4294967296 OPTIONS",
    b"Digest ",
    b"Digest a=",
];
/// Put before, behind and into the middle of a good value.
const PIECES: [&[u8]; 30] = [
    b",",
    b";",
    b";;",
    b"=",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"<>",
    b"(",
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\x28",
    b"\xf8\x88\x80\x80\x80",
    b"\r",
    b"\n",
    b"\r\n ",
    b"\r\n\t",
    b"\r\n \r\n ",
    b"\n ",
    b"\r\r\n",
    b"%",
    b"%00",
    b"@",
    b":",
    b"?x=y",
    b" ",
];
/// Repeated so often that the whole is `2^power` bytes.
const FILLERS: [&[u8]; 13] =
    [b"a", b"<", b"\"", b"%", b";", b",", b"9", b"\\", b"(", b"\xff", b";a=b", b",<sip:a@b>", b"\r\n x"];

/// Builds a message out of lines that are as they are, and gives it on with its label.
struct Maker<'a, F> {
    base: &'a Base,
    number: usize,
    see: F,
}

impl<F: FnMut(&str, &[u8])> Maker<'_, F> {
    fn give(&mut self, label: &str, start: &[u8], lines: &[Vec<u8>]) {
        self.number += 1;
        let mut bytes = start.to_vec();
        bytes.extend_from_slice(b"\r\n");
        for line in lines {
            bytes.extend_from_slice(line);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.base.body.as_bytes());
        let number = self.number.to_string();
        let mut numbered = Vec::with_capacity(bytes.len() + 16);
        for (at, part) in bytes.split(|&b| b == b'`').enumerate() {
            if at > 0 {
                numbered.extend_from_slice(number.as_bytes());
            }
            numbered.extend_from_slice(part);
        }
        (self.see)(label, &numbered);
    }

    /// The lines of the base with those of one header as given.
    fn with(&mut self, label: &str, at: usize, replaced: &[Vec<u8>]) {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for (i, (name, value)) in self.base.headers.iter().enumerate() {
            if i == at {
                lines.extend_from_slice(replaced);
            } else {
                lines.push(line(name.as_bytes(), mark(value).as_bytes()));
            }
        }
        let label = format!("{} {}: {label}", self.base.name, self.base.headers[at].0);
        self.give(&label, self.base.start.as_bytes(), &lines);
    }

    fn value(&mut self, label: &str, at: usize, value: &[u8]) {
        let line = line(self.base.headers[at].0.as_bytes(), value);
        self.with(label, at, std::slice::from_ref(&line));
        self.with(&format!("{label}, twice"), at, &[line.clone(), line]);
    }

    fn header(&mut self, at: usize) {
        let (name, good) = self.base.headers[at];
        let (name, good) = (name.as_bytes(), mark(good).into_bytes());
        for value in WHOLE {
            self.value("replaced", at, value);
        }
        for piece in PIECES {
            for place in [0, good.len() / 2, good.len()] {
                let value = [&good[..place], piece, &good[place..]].concat();
                self.value("with a piece", at, &value);
            }
        }
        for cut in 0..8 {
            self.value("cut off", at, &good[..good.len() * cut / 8]);
        }
        for filler in FILLERS {
            for power in [1, 4, 7, 8, 10, 13, 14] {
                let long = filler.repeat((1_usize << power).div_ceil(filler.len()));
                self.value("filled", at, &long);
                self.value("good and filled", at, &[good.as_slice(), &long].concat());
            }
        }
        self.lines(at, name, &good);
    }

    /// Oddities of the line rather than of its value.
    fn lines(&mut self, at: usize, name: &[u8], good: &[u8]) {
        let plain = line(name, good);
        self.with("as it is", at, std::slice::from_ref(&plain));
        self.with("missing", at, &[]);
        for times in [2, 3, 50, 300] {
            self.with("repeated", at, &vec![plain.clone(); times]);
        }
        for between in [&b" : "[..], b"\t:\t", b":", b"::", b"", b" ", b"\r\n :", b":\r\n ", b"\0:", b"\x80:", b"\x01:"]
        {
            self.with("colon", at, &[[name, between, good, b"\r\n"].concat()]);
        }
        for end in [&b"\n"[..], b"\r", b"\r\r\n", b"\n\r\n", b"\0\r\n", b" \r\n", b"\r\n \r\n", b"", b"\r\n\r\n"] {
            self.with("line end", at, &[[name, b": ", good, end].concat()]);
        }
        for broken in [&b"\0"[..], b"\x80", b" ", b"(", b"@", b"\""] {
            self.with("name", at, &[[&name[..1], broken, &name[1..], b": ", good, b"\r\n"].concat()]);
        }
        for length in [100, 1_000, 20_000] {
            self.with("long name", at, &[line(&name.repeat(length / name.len()), good)]);
        }
        self.with("other case", at, &[line(&name.to_ascii_uppercase(), good), line(&name.to_ascii_lowercase(), good)]);
    }

    fn start_lines(&mut self) {
        let lines: Vec<Vec<u8>> =
            self.base.headers.iter().map(|(name, value)| line(name.as_bytes(), mark(value).as_bytes())).collect();
        let words: Vec<&[u8]> = self.base.start.as_bytes().splitn(3, |&b| b == b' ').collect();
        let mut odd: Vec<Vec<u8>> = WHOLE.iter().chain(&PIECES).map(|value| value.to_vec()).collect();
        for filler in FILLERS {
            odd.extend([4, 7, 10, 14].map(|power| filler.repeat((1_usize << power).div_ceil(filler.len()))));
        }
        for value in &odd {
            for at in 0..words.len() {
                for keep in [true, false] {
                    let mut parts: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
                    if keep {
                        parts[at].extend_from_slice(value);
                    } else {
                        parts[at].clone_from(value);
                    }
                    let label = format!("{} start line, word {at}", self.base.name);
                    self.give(&label, &parts.join(&b' '), &lines);
                }
            }
            let label = format!("{} start line", self.base.name);
            self.give(&label, value, &lines);
        }
    }
}

/// The value with the place of the case's number (an `@` that ends a word) marked by a byte that occurs nowhere else.
fn mark(value: &str) -> String {
    let text = value.replace("@;", "`;");
    text.strip_suffix('@').map_or(text.clone(), |front| format!("{front}`"))
}

fn line(name: &[u8], value: &[u8]) -> Vec<u8> {
    [name, b": ", value, b"\r\n"].concat()
}

/// All cases of one message, in a fixed order; gives how many there were.
pub fn each(base: &Base, see: impl FnMut(&str, &[u8])) -> usize {
    let mut maker = Maker { base, number: 0, see };
    for at in 0..base.headers.len() {
        maker.header(at);
    }
    maker.start_lines();
    maker.number
}
