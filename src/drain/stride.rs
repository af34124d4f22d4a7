//! How large a request may be: what the link carries in about two seconds, so that a refusal or a broken connection wastes little. Pure.

use std::time::Duration;

/// How much goes into one request: what the link carries in about two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stride {
    bytes: usize,
    /// A request of about this size was answered.
    known: bool,
    /// Something on the way takes no more than this.
    most: usize,
}

/// A request that takes this long has the right size.
const STRIDE: Duration = Duration::from_secs(2);
/// What is tried first, before anything is known of the link.
const FIRST_STRIDE: usize = 128 << 10;
/// Below this a smaller request would hardly be quicker.
const LEAST_STRIDE: usize = 8 << 10;
/// Most bytes in one request by default: one shard takes no more in a second.
const MOST_STRIDE: usize = 1 << 20;
/// A link that nothing is known of is given the time of one that carries this many bytes a second, 64 kbit/s.
const SLOW_LINK: usize = 8 << 10;
/// What a request may take besides its bytes: connecting, and the service's own time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A link may be this much slower than it was.
const SLACK: u32 = 4;

impl Default for Stride {
    fn default() -> Self {
        Self { bytes: FIRST_STRIDE, known: false, most: MOST_STRIDE }
    }
}

impl Stride {
    /// Bytes for the next request.
    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// How long to wait for the answer to a request of `bytes`. Not longer than it takes to be sure, because as long as it lasts a link
    /// that swallows everything looks like a slow one.
    pub(super) fn timeout(self, bytes: usize) -> Duration {
        let transfer = if self.known {
            (STRIDE * SLACK).mul_f64(bytes as f64 / self.bytes as f64)
        } else {
            Duration::from_secs_f64(base64_len(bytes) as f64 / SLOW_LINK as f64)
        };
        PATIENCE + transfer
    }

    /// A request of `bytes` was answered after `took`.
    pub(super) fn answered(&mut self, bytes: usize, took: Duration) {
        if bytes * 2 < self.bytes {
            return; // too small to tell anything about the link
        }
        let fits = bytes as f64 * STRIDE.as_secs_f64() / took.as_secs_f64().max(0.001);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped below")]
        let fits = fits as usize;
        // Whoever took only less may be gone one day; until then hardly one request in fifty is refused for it.
        self.most = (self.most + self.most / 64).min(MOST_STRIDE);
        self.bytes = fits.clamp(self.bytes / 2, self.bytes * 2).clamp(LEAST_STRIDE, self.most);
        self.known = true;
    }

    /// A request got no answer: the next one is a smaller probe.
    pub(super) fn lost(&mut self) {
        *self = Self { bytes: (self.bytes / 4).clamp(LEAST_STRIDE, FIRST_STRIDE), known: false, ..*self };
    }

    /// A request of `bytes` was refused because it was too large.
    pub(super) fn too_large(&mut self, bytes: usize) {
        self.most = (bytes.min(self.bytes) / 2).max(LEAST_STRIDE);
        self.bytes = self.bytes.min(self.most);
    }
}

/// Bytes on the wire: a record's data travel as base64.
pub fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_grows_and_shrinks_to_what_the_link_carries_in_two_seconds() {
        let mut stride = Stride::default();
        for _ in 0..10 {
            stride.answered(stride.bytes(), Duration::from_millis(20));
        }
        assert_eq!(stride.bytes(), 1 << 20);
        for _ in 0..10 {
            stride.answered(stride.bytes(), Duration::from_secs_f64(stride.bytes() as f64 / 32_768.0));
        }
        assert_eq!(stride.bytes(), 65_536);
        stride.answered(100, Duration::from_secs(9));
        assert_eq!(stride.bytes(), 65_536, "a small request says nothing of the link");
        stride.lost();
        assert_eq!(stride.bytes(), 16_384);
        stride.lost();
        stride.lost();
        assert_eq!(stride.bytes(), LEAST_STRIDE);
    }

    #[test]
    fn requests_that_are_too_large_for_a_proxy_become_smaller_and_then_grow_slowly() {
        let mut stride = Stride::default();
        let (mut refused, mut taken) = (0, 0);
        for _ in 0..1000 {
            if base64_len(stride.bytes()) > 300_000 {
                refused += 1;
                stride.too_large(stride.bytes());
            } else {
                taken += 1;
                stride.answered(stride.bytes(), Duration::from_millis(20));
            }
        }
        assert!(refused * 40 < taken, "{refused} refused, {taken} taken");
        stride.too_large(100);
        assert_eq!(stride.bytes(), LEAST_STRIDE, "one reading that is too large is no reason to send nothing");
    }

    #[test]
    fn a_request_is_given_the_time_that_its_link_needs_and_little_more() {
        let fresh = Stride::default();
        assert!(fresh.timeout(fresh.bytes()) > Duration::from_secs(10 + 21));
        let mut fast = fresh;
        (0..9).for_each(|_| fast.answered(fast.bytes(), Duration::from_millis(20)));
        assert_eq!(fast.timeout(1 << 20), Duration::from_secs(18));
        assert_eq!(fast.timeout(10 << 20), Duration::from_secs(90));
        fast.lost();
        assert!(fast.timeout(fast.bytes()) < Duration::from_secs(35), "a probe into a black hole ends soon");
    }
}
