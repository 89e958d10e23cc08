//! Which web pages may open a WebSocket here (RFC 6455 §10.2, RFC 7118 §9.1).
//!
//! Owns that decision. Does not own the handshake (`upgrade`).

use std::collections::BTreeSet;

/// The pages that may: those of our own hosts, and those that the configuration lists.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    hosts: BTreeSet<String>,
    listed: BTreeSet<String>,
}

impl Origins {
    /// `hosts` are names and addresses of ours, whose pages may on any port; `listed` are whole origins.
    pub fn new(hosts: impl IntoIterator<Item = String>, listed: &[String]) -> Origins {
        Origins {
            hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
            listed: listed.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether pages of that origin may. The `Host` header plays no part: whoever makes a browser believe that its own name
    /// is our address chooses that header too.
    pub fn allow(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.listed.contains(&origin) || host_of(&origin).is_some_and(|host| self.hosts.contains(host))
    }
}

/// The host of `scheme://host[:port]`, without the brackets of an IPv6 address.
fn host_of(origin: &str) -> Option<&str> {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))?;
    match rest.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(host, _)| host),
        None => rest.split(':').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_hosts_and_listed_origins_only() {
        let hosts = ["Pairline.test", "127.0.1.1", "2001:db8::1"].map(str::to_owned);
        let origins = Origins::new(hosts, &["https://Phone.example.org".to_owned(), "null".to_owned()]);
        for allowed in [
            "https://pairline.test",
            "http://PAIRLINE.test:8080",
            "http://127.0.1.1:9000",
            "https://[2001:db8::1]:8443",
            "https://phone.example.org",
            "null",
        ] {
            assert!(origins.allow(allowed), "{allowed}");
        }
        for refused in [
            "https://evil.example",
            "https://pairline.test.evil.example",
            "https://evil.example/pairline.test",
            "https://phone.example.org:444",
            "http://phone.example.org",
            "file://pairline.test",
            "pairline.test",
            "",
            "https://",
            "https://[2001:db8::1",
        ] {
            assert!(!origins.allow(refused), "{refused}");
        }
        assert!(!Origins::default().allow("null"));
    }
}
