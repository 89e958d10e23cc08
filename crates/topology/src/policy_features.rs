//! Policy of features: what all servers of the deployment may say to each other and write down.
//!
//! Owns the type and its bounds. Which level a build knows, and whether every server knows a higher one, is the node's to say.

use crate::reader::{Findings, Section};
use serde::{Deserialize, Serialize};

/// The level that every build knows.
pub const LOWEST: u16 = 1;

/// Features. A build that brings something which older ones cannot read has a higher level, and uses it only where the document says so:
/// until then servers of both builds work together, and each can be put back to the older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeaturePolicy {
    /// The level in force; 1 to 65535, never lowered.
    pub level: u16,
}

impl Default for FeaturePolicy {
    fn default() -> Self {
        FeaturePolicy { level: LOWEST }
    }
}

impl FeaturePolicy {
    /// Whether it says nothing that a build without this policy would not do: it is not written then, so that such builds read the document.
    pub(crate) fn is_lowest(&self) -> bool {
        self.level == LOWEST
    }
}

/// Reads `[policies.features]`.
pub(crate) fn features(mut s: Section<'_>, f: &mut Findings) -> FeaturePolicy {
    let policy = FeaturePolicy { level: s.number(f, "level", LOWEST, LOWEST, u16::MAX) };
    s.done(f);
    policy
}
