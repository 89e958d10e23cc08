//! The Mann-Whitney test: whether two samples can come from one distribution, by ranks alone.
//!
//! Owns the arithmetic. Knows nothing of what was measured.

/// The middle of a sample.
pub(crate) fn median(sample: &mut [f64]) -> f64 {
    sample.sort_by(f64::total_cmp);
    sample.get(sample.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The two-sided p-value, by the normal approximation with correction for ties; good from a few dozen values a side.
pub(crate) fn p_value(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks_of_a, mut ties) = (0.0, 0.0);
    let mut rest = all.as_slice();
    let mut before = 0.0;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|x| x.0 == first.0).count();
        let (group, after) = rest.split_at(same);
        let count = same as f64;
        let rank = before + (count + 1.0) / 2.0;
        ranks_of_a += rank * group.iter().filter(|x| x.1).count() as f64;
        ties += count.powi(3) - count;
        before += count;
        rest = after;
    }
    let (m, n) = (a.len() as f64, b.len() as f64);
    let total = m + n;
    let u = ranks_of_a - m * (m + 1.0) / 2.0;
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - m * n / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    complementary_error(z / std::f64::consts::SQRT_2)
}

/// erfc for x from 0, to seven digits (Abramowitz and Stegun 7.1.26).
fn complementary_error(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = poly.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    sum * (-x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::{median, p_value};

    /// Example values: 1 to 20 against 11 to 30 overlap by half (U = 50 of 400, z = 4.05).
    #[test]
    fn p_values_of_known_samples() {
        let low: Vec<f64> = (1..=20).map(f64::from).collect();
        let high: Vec<f64> = (11..=30).map(f64::from).collect();
        let p = p_value(&low, &high);
        assert!((2e-5..1e-4).contains(&p), "{p}");
        assert!(p_value(&low, &low) > 0.999);
        assert!((p_value(&low, &high) - p_value(&high, &low)).abs() < 1e-12, "two-sided");
        let shifted: Vec<f64> = low.iter().map(|x| x + 0.5).collect();
        assert!(p_value(&low, &shifted) > 0.5);
        assert_eq!(p_value(&[1.0; 30], &[1.0; 30]), 1.0, "all alike");
    }

    #[test]
    fn middle_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }
}
