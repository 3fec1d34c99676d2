//! The way from the track tree to a packaging task.

use tokio::sync::mpsc;

use crate::track::{FrameDelivery, FrameSink};

/// Deliveries that wait for a task: 4 s of 60 pictures and 50 frames of sound a second, and some. A task that is further behind begins
/// anew at the next keyframe.
const QUEUE_MAX_DELIVERIES: usize = 4 * (60 + 50) + 72;

/// The tree's end of it.
pub(super) struct Queue(mpsc::Sender<FrameDelivery>);

impl FrameSink for Queue {
    fn deliver(&self, delivery: FrameDelivery) -> bool {
        self.0.try_send(delivery).is_ok()
    }
}

pub(super) fn queue() -> (Queue, mpsc::Receiver<FrameDelivery>) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX_DELIVERIES);
    (Queue(sender), receiver)
}
