//! Several values under one hash.
//!
//! Owns that they cannot run into each other. Does not own what is hashed, nor how much of the hash is used.

/// Values that are hashed together, each behind its length. Gathered in one piece: the hash function's own buffer costs more than the copy.
#[derive(Debug)]
pub(crate) struct Parts(Vec<u8>);

impl Default for Parts {
    fn default() -> Parts {
        Parts(Vec::with_capacity(512))
    }
}

impl Parts {
    /// Adds a value.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// The hash of all.
    pub(crate) fn hash(&self) -> blake3::Hash {
        blake3::hash(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Parts;

    fn hash(values: &[&str]) -> blake3::Hash {
        let mut parts = Parts::default();
        values.iter().for_each(|value| parts.push(value.as_bytes()));
        parts.hash()
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        assert_eq!(hash(&["ab", "c"]), hash(&["ab", "c"]));
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["", "a"]), hash(&["a", ""]));
    }
}
