//! A latency histogram with a relative error of at most 1/32.
//!
//! Owns the buckets. Values are nanoseconds; what they mean is the caller's.

/// Linear steps within each power of two.
const STEPS: u64 = 32;
/// Powers of two above the linear start: enough for the whole range of `u64`.
const POWERS: usize = 60;

/// Counts of values in buckets whose width grows with the value.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; STEPS as usize * POWERS], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Largest value, exactly; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that at least `per_mille` thousandths of all values do not exceed; 0 if there is none. At most 1/32 too high.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0u128;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return highest(index).min(self.max);
            }
        }
        self.max
    }
}

/// Index of the bucket that holds `value`.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let power = u64::from(63 - value.leading_zeros());
    let shift = power - 5;
    // Below 32 × 60 by construction: power is at most 63.
    ((shift + 1) * STEPS + ((value >> shift) - STEPS)) as usize
}

/// Highest value of that bucket.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let (shift, step) = (index / STEPS - 1, index % STEPS);
    ((u128::from(STEPS + step + 1) << shift) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    //! Buckets cover everything without gaps; quantiles are within their stated error.

    use super::*;

    #[test]
    fn buckets_join_without_gap() {
        for index in 0..STEPS as usize * POWERS - 1 {
            assert_eq!(bucket(highest(index)), index);
            assert_eq!(bucket(highest(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), STEPS as usize * POWERS - 1);
    }

    #[test]
    fn quantiles_are_within_one_step() {
        let mut all = Histogram::default();
        let mut odd = Histogram::default();
        for value in 1..=100_000u64 {
            if value % 2 == 0 { all.record(value * 1000) } else { odd.record(value * 1000) }
        }
        all.merge(&odd);
        assert_eq!((all.count(), all.max()), (100_000, 100_000_000));
        for (per_mille, exact) in [(500, 50_000_000u64), (990, 99_000_000), (999, 99_900_000), (1000, 100_000_000)] {
            let found = all.quantile(per_mille);
            assert!(found >= exact && found <= exact + exact / 32, "{per_mille}: {found} for {exact}");
        }
        assert_eq!(Histogram::default().quantile(500), 0);
    }
}
