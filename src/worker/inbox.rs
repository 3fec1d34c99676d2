//! What reaches a worker from other threads: deliveries of the tree, and messages from signalling and other workers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Waker, net::TcpStream};

use crate::{
    media::SessionId,
    track::{Delivery, LayerIndex, PacketSink, Stream, TrackIndex},
    transport::{Check, Path},
};

/// Deliveries waiting: 4,096 pictures are half a second of 128 streams at 60 pictures a second; then streams skip to a keyframe.
const DELIVERIES_MAX: usize = 4_096;
/// Messages waiting. Those that are lost beyond it are mended: ends are flags in the session table that are swept, datagrams
/// and checks come again, keyframes are asked for again.
const MESSAGES_MAX: usize = 4_096;

/// Word from another thread.
#[derive(Debug)]
pub enum Message {
    /// A session of this worker was asked to end: see its entry.
    EndRequested(SessionId),
    /// A viewer of this worker chose a layer: see its entry.
    LayerSelected(SessionId),
    /// A publisher of this worker is to send a keyframe.
    KeyframeRequested { session: SessionId, track: TrackIndex, layer: LayerIndex },
    /// A check for a session of this worker was answered elsewhere.
    CheckAnswered { session: SessionId, path: Path, check: Check },
    /// A datagram for a session of this worker reached another.
    Datagram { session: SessionId, path: Path, datagram: BytesMut },
    /// An ICE-TCP connection whose session lives here, with what it has sent so far.
    Connection { stream: TcpStream, received: BytesMut },
}

/// The sending side; shared by all who have something for the worker.
#[derive(Debug)]
pub struct Inbox {
    deliveries: Sender<(Arc<Stream>, Delivery)>,
    messages: Sender<Message>,
    waker: Waker,
    /// The worker has been woken and has not looked yet.
    woken: AtomicBool,
}

/// The worker's side.
#[derive(Debug)]
pub struct Outbox {
    pub deliveries: Receiver<(Arc<Stream>, Delivery)>,
    pub messages: Receiver<Message>,
}

impl Inbox {
    pub fn new(waker: Waker) -> (Arc<Self>, Outbox) {
        let (deliveries, deliveries_out) = bounded(DELIVERIES_MAX);
        let (messages, messages_out) = bounded(MESSAGES_MAX);
        let inbox = Self { deliveries, messages, waker, woken: AtomicBool::new(false) };
        (Arc::new(inbox), Outbox { deliveries: deliveries_out, messages: messages_out })
    }

    /// False when the inbox is full.
    pub fn post(&self, message: Message) -> bool {
        let posted = self.messages.try_send(message).is_ok();
        self.wake();
        posted
    }

    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // It fails only when the worker's poll is gone; then nobody needs waking.
            let _ = self.waker.wake();
        }
    }

    /// The worker is about to look: whatever comes from now on must wake it again.
    pub fn about_to_look(&self) {
        self.woken.store(false, Ordering::Release);
    }
}

impl PacketSink for Inbox {
    fn deliver(&self, stream: &Arc<Stream>, delivery: Delivery) -> bool {
        let delivered = self.deliveries.try_send((stream.clone(), delivery)).is_ok();
        self.wake();
        delivered
    }
}
