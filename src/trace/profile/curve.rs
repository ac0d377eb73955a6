//! Live bytes over a trace in a bounded number of points.

#![forbid(unsafe_code)]

use super::LivePoint;

/// Points of the live curve.
pub(super) const CURVE_POINTS: usize = 512;

/// Points taken by the stride: one place each is kept free for the peak and for the end.
const STRIDE_POINTS: usize = CURVE_POINTS - 2;

/// Points of the live bytes, one every so many events.
#[derive(Debug)]
pub(super) struct Curve {
    points: Vec<LivePoint>,
    stride: u64,
    /// The length is not known: whenever there are too many points, the stride doubles.
    is_adaptive: bool,
}

impl Curve {
    pub(super) fn of_length(events: u64) -> Self {
        Self {
            points: Vec::with_capacity(CURVE_POINTS),
            stride: events.div_ceil(STRIDE_POINTS as u64).max(1),
            is_adaptive: false,
        }
    }

    pub(super) fn adaptive() -> Self {
        Self {
            points: Vec::with_capacity(CURVE_POINTS),
            stride: 1,
            is_adaptive: true,
        }
    }

    #[inline]
    pub(super) fn offer(&mut self, point: LivePoint) {
        if point.event.is_multiple_of(self.stride) {
            self.take(point);
        }
    }

    fn take(&mut self, point: LivePoint) {
        if self.is_adaptive && self.points.len() == STRIDE_POINTS {
            self.stride *= 2;
            let stride = self.stride;
            self.points.retain(|kept| kept.event.is_multiple_of(stride));
            if !point.event.is_multiple_of(stride) {
                return;
            }
        }
        self.points.push(point);
    }

    pub(super) fn finish(mut self, peak: LivePoint, end: LivePoint) -> Vec<LivePoint> {
        for point in [peak, end] {
            // An empty trace has neither; a point may have been taken by the stride already.
            if point.event > 0
                && let Err(place) = self.points.binary_search_by_key(&point.event, |p| p.event)
            {
                self.points.insert(place, point);
            }
        }
        self.points
    }
}
