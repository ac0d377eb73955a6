//! Whether two measurements put the same things in the same order.

#![forbid(unsafe_code)]

/// Spearman's rank correlation: Pearson's of the ranks, equal values sharing the mean of theirs
/// (Kendall, Rank Correlation Methods, chapter 3). 1 for the same order, -1 for the reverse. `None` if
/// there are fewer than three pairs, a value that is no number, or no order at all because all values
/// of one side are equal.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 || pairs.iter().any(|pair| pair.0.is_nan() || pair.1.is_nan()) {
        return None;
    }
    let one = ranks(pairs.iter().map(|pair| pair.0).collect());
    let other = ranks(pairs.iter().map(|pair| pair.1).collect());
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let sum = |of: &mut dyn Iterator<Item = (f64, f64)>| -> f64 {
        of.map(|(one, other)| (one - mean) * (other - mean)).sum()
    };
    let both = sum(&mut one.iter().copied().zip(other.iter().copied()));
    let squares = [&one, &other].map(|ranks| sum(&mut ranks.iter().map(|rank| (*rank, *rank))));
    (squares[0] > 0.0 && squares[1] > 0.0).then(|| both / (squares[0] * squares[1]).sqrt())
}

/// The rank of each value, from 1; equal values get the mean of the ranks that they take up.
fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let value = values[order[first]];
        let equal = order[first..].iter().take_while(|at| values[**at] == value);
        let next = first + equal.count();
        let shared = (first + 1 + next) as f64 / 2.0;
        order[first..next].iter().for_each(|at| ranks[*at] = shared);
        first = next;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_of_known_pairs() {
        assert_eq!(
            spearman(&[(1.0, 10.0), (2.0, 20.0), (9.0, 30.0)]),
            Some(1.0)
        );
        assert_eq!(spearman(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        // Without ties: 1 - 6 · Σd² / n(n² - 1) with d = 0, 1, 1, 0: 1 - 12 / 60.
        let swapped = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)];
        assert!((spearman(&swapped).expect("an order") - 0.8).abs() < 1e-12);
    }

    #[test]
    fn equal_values_share_their_ranks() {
        assert_eq!(ranks(vec![5.0, 1.0, 5.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
        // Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance sum 4.5, squares 4.5 and 5.
        let tied = [(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (7.0, 4.0)];
        let expected = 4.5 / (4.5_f64 * 5.0).sqrt();
        assert!((spearman(&tied).expect("an order") - expected).abs() < 1e-12);
    }

    #[test]
    fn no_order_is_no_correlation() {
        assert_eq!(spearman(&[]), None);
        assert_eq!(spearman(&[(1.0, 2.0), (2.0, 1.0)]), None);
        assert_eq!(spearman(&[(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]), None);
        assert_eq!(spearman(&[(1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0)]), None);
    }
}
