//! What the fuzz targets begin with: the torture messages, parts of them, and the frozen samples of stored and sent forms.
//!
//! Owns the cutting of seeds out of files that the repository has anyway. Runs nothing.

use std::path::Path;

/// Writes the seeds of a target into its folder.
///
/// # Errors
/// A line that says which file could not be read or written.
pub(crate) fn write(root: &Path, target: &str, folder: &Path) -> Result<(), String> {
    let mut messages = files(&root.join("crates/sip/tests/torture"))?;
    messages.extend(files(&root.join("crates/sip/tests/torture/rfc5118"))?);
    let seeds: Vec<Vec<u8>> = match target {
        "message" | "node" | "capture" => messages,
        // Pieces of 8 and 101 bytes.
        "stream" => messages.iter().map(|m| [&[2, 7, 100], m.as_slice()].concat()).collect(),
        "transactions" => messages.iter().map(|m| conversation(m)).collect(),
        "stun" => stun(),
        "websocket" => messages.iter().map(|m| framed(m)).collect(),
        "uri" => messages.iter().filter_map(|m| request_uri(m)).collect(),
        "name_addr" => values(&messages, &["From", "To", "Contact", "Route", "f", "t", "m"]),
        "via_route" => values(&messages, &["Via", "v", "Route"]),
        "digest" => digests(&messages),
        "topology" => files(&root.join("crates/topology/tests/golden"))?,
        "peer_frame" | "record" => stored(root)?,
        other => return Err(format!("no seeds for {other}")),
    };
    for (number, seed) in seeds.iter().enumerate() {
        let path = folder.join(number.to_string());
        std::fs::write(&path, seed).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// The contents of a folder's files, in the order of their names.
fn files(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))).collect()
}

/// A message twice, each time after its length in eleven bits: once by UDP, once by TCP half a second later.
fn conversation(message: &[u8]) -> Vec<u8> {
    let length = message.len().min(2047);
    let (high, low) = (length.to_be_bytes()[6], length.to_be_bytes()[7]);
    [&[high, low], &message[..length], &[high | 0x18, low], &message[..length]].concat()
}

/// Binding requests (RFC 5389 §6): bare, with an attribute that may be ignored, and with one that may not.
fn stun() -> Vec<Vec<u8>> {
    let request = |attributes: &[u8]| {
        let length = u16::try_from(attributes.len()).unwrap_or(0).to_be_bytes();
        [&[0, 1][..], &length, &[0x21, 0x12, 0xa4, 0x42], b"transaction!", attributes].concat()
    };
    vec![request(&[]), request(b"\x80\x22\0\x04test"), request(b"\0\x99\0\x04test"), request(b"\0\x06\0\x03abc\0")]
}

/// A message in one masked text frame (RFC 6455 §5.2), behind a masked ping.
fn framed(message: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let masked = message.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let mut frame = [&[0x89, 0x80][..], &mask, &[0x81, 0x80 | 126], &length, &mask].concat();
    frame.extend(masked);
    frame
}

fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn request_uri(message: &[u8]) -> Option<Vec<u8>> {
    let words: Vec<&[u8]> = lines(message).next()?.split(|&b| b == b' ').collect();
    words.get(1).map(|word| word.to_vec())
}

fn values(messages: &[Vec<u8>], names: &[&str]) -> Vec<Vec<u8>> {
    let of_line = |line: &[u8]| {
        let colon = line.iter().position(|&b| b == b':')?;
        let name = line[..colon].trim_ascii();
        let wanted = names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
        wanted.then(|| line[colon + 1..].trim_ascii().to_vec())
    };
    messages.iter().flat_map(|message| lines(message).filter_map(of_line)).collect()
}

fn digests(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut seeds = values(messages, &["Authorization", "Proxy-Authorization", "WWW-Authenticate"]);
    let fields =
        "username=\"bob\", realm=\"pairline.test\", nonce=\"0102\", uri=\"sip:pairline.test\", response=\"00\"";
    for more in ["", ", algorithm=SHA-256, cnonce=\"c\", nc=00000001, qop=auth", ", opaque=\"o\\\"\", stale=true"] {
        seeds.push(format!("Digest {fields}{more}").into_bytes());
    }
    seeds
}

/// Frozen samples: binary files as they are, hexadecimal ones line by line.
fn stored(root: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut seeds = Vec::new();
    for room in ["group", "resilience", "services", "topology"] {
        for content in files(&root.join(format!("crates/{room}/tests/golden")))? {
            let text = std::str::from_utf8(&content).unwrap_or_default();
            let samples: Vec<Vec<u8>> = text.split_whitespace().filter_map(unhex).collect();
            if samples.is_empty() {
                seeds.push(content);
            } else {
                seeds.extend(samples);
            }
        }
    }
    Ok(seeds)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let whole = digits.len() > 8 && digits.len().is_multiple_of(2);
    whole.then(|| digits.chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]).collect())
}
