//! What a node counts, by name.
//!
//! Owns the numbers. A request counts three or four things, so the usual way to a number compares addresses and no letters.
//! Does not own the names: whoever counts has them.

use std::collections::BTreeMap;

/// Numbers by name.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    /// Counts one.
    pub fn add(&mut self, name: &'static str) {
        let at = match self.0.iter().position(|(known, _)| std::ptr::eq(*known, name)) {
            Some(at) => Some(at),
            // The same name may stand in two places of the program.
            None => self.0.iter().position(|(known, _)| *known == name),
        };
        match at.and_then(|at| self.0.get_mut(at)) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }

    /// All that were counted at least once, ordered by name.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn names_are_told_apart_by_their_letters() {
        let mut counts = Counts::default();
        let other: &'static str = Box::leak(String::from("a").into_boxed_str());
        for name in ["b", "a", other, "ab", "b", "b"] {
            counts.add(name);
        }
        assert_eq!(counts.all().into_iter().collect::<Vec<_>>(), [("a", 2), ("ab", 1), ("b", 3)]);
    }
}
