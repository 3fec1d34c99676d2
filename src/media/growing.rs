//! Times that never stand still.

/// Ticks that only grow: RTP packets of two pictures must not share a timestamp.
#[derive(Debug, Default)]
pub struct Growing {
    last: Option<u64>,
}

impl Growing {
    /// These, or the next after the last ones.
    pub fn after(&mut self, ticks: u64) -> u64 {
        let ticks = self.last.map_or(ticks, |last| ticks.max(last + 1));
        self.last = Some(ticks);
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_grow_even_when_times_do_not() {
        let mut growing = Growing::default();
        assert_eq!([9, 9, 5, 20].map(|ticks| growing.after(ticks)), [9, 10, 11, 20]);
    }
}
