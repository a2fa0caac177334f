//! How many retries are allowed: a share of the requests, so that a broken application is not sent twice the traffic.

/// Retries that may be made at once after a quiet time.
const RESERVE: f64 = 10.0;

/// A token bucket: each request adds a share of a token, each retry takes one.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    tokens: f64,
}

impl RetryBudget {
    /// `share`: retries per request in the long run, 0.0 to 1.0.
    pub fn new(share: f64) -> Self {
        Self { share, tokens: RESERVE }
    }

    pub fn request(&mut self) {
        self.tokens = (self.tokens + self.share).min(RESERVE);
    }

    /// False if there have been too many.
    #[must_use]
    pub fn retry(&mut self) -> bool {
        let allowed = self.tokens >= 1.0;
        self.tokens -= if allowed { 1.0 } else { 0.0 };
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests_behind_the_reserve() {
        let mut budget = RetryBudget::new(0.5);
        assert_eq!((0..20).filter(|_| budget.retry()).count(), 10);
        budget.request();
        assert!(!budget.retry());
        budget.request();
        assert!(budget.retry() && !budget.retry());
    }
}
