//! A thread per stream that turns AAC into Opus, with bounded queues before and after it. When it lags, sound is dropped;
//! whoever feeds it never waits.

#![allow(clippy::disallowed_methods, reason = "this room owns its threads")]

use std::{io, thread};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::mpsc;
use tracing::warn;

use super::{AacToOpus, OpusPacket, TranscodeError};

/// AAC frames that may wait: 1.4 s at 44.1 kHz. A thread that is further behind does not catch up.
const INPUT_MAX_FRAMES: usize = 64;
/// Answers that may wait for the session's task: 1.3 s.
const OUTPUT_MAX_EVENTS: usize = 64;
/// Decoder, encoder and resampler keep their state on the heap; Opus's scratch space is some tens of KB.
const STACK_BYTES: usize = 1024 * 1024;

/// What the thread is told, in order.
#[derive(Debug, Clone)]
pub enum SoundInput {
    /// An `AudioSpecificConfig`: the frames that follow are of this kind.
    Config(Bytes),
    /// One frame and its time in milliseconds of the media clock.
    Frame { data: Bytes, time_ms: i64 },
}

/// What the thread answers: one event for each input, in order.
#[derive(Debug)]
pub enum SoundEvent {
    /// What the input completed: one packet or two of a frame, none of a configuration.
    Made(Vec<OpusPacket>),
    /// Frames are of no use until the next configuration.
    Failed(TranscodeError),
}

/// The handle; dropping it ends the thread.
#[derive(Debug)]
pub struct SoundThread {
    input: Sender<SoundInput>,
    dropped_frames: u64,
}

impl SoundThread {
    /// Starts a thread; `name` (cut to what the system shows) says whose it is.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str) -> io::Result<(Self, mpsc::Receiver<SoundEvent>)> {
        let (input, inputs) = bounded(INPUT_MAX_FRAMES);
        let (events, output) = mpsc::channel(OUTPUT_MAX_EVENTS);
        // Linux shows 15 bytes. Stream names are ASCII.
        let name = format!("aac-{}", name.get(..name.len().min(11)).unwrap_or_default());
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || run(&inputs, &events))?;
        Ok((Self { input, dropped_frames: 0 }, output))
    }

    /// Hands one input over, or drops it when the thread lags or has ended.
    pub fn send(&mut self, input: SoundInput) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.input.try_send(input) {
            self.dropped_frames += 1;
        }
    }

    /// Inputs dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_frames)
    }
}

/// A session's thread, which begins with its first sound: most connections never have any.
#[derive(Debug, Default)]
pub struct LazySoundThread {
    running: Option<(SoundThread, mpsc::Receiver<SoundEvent>)>,
}

impl LazySoundThread {
    /// Hands one input over. `name` gives that of the thread, should it begin now.
    pub fn send(&mut self, name: impl FnOnce() -> String, input: SoundInput) {
        if self.running.is_none() {
            match SoundThread::start(&name()) {
                Ok(started) => self.running = Some(started),
                Err(error) => warn!(%error, "no thread for the sound"),
            }
        }
        if let Some((thread, _)) = &mut self.running {
            thread.send(input);
        }
    }

    /// The next answer; waits for as long as there is none. May be dropped at any time.
    pub async fn next(&mut self) -> SoundEvent {
        loop {
            match &mut self.running {
                Some((_, events)) => match events.recv().await {
                    Some(event) => return event,
                    None => self.running = None,
                },
                None => std::future::pending().await,
            }
        }
    }

    /// Inputs dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        self.running.as_mut().map_or(0, |(thread, _)| thread.take_dropped())
    }
}

fn run(inputs: &Receiver<SoundInput>, events: &mpsc::Sender<SoundEvent>) {
    let mut codec: Option<AacToOpus> = None;
    for input in inputs {
        let mut made = Vec::new();
        let done = match (input, &mut codec) {
            (SoundInput::Config(config), codec) => AacToOpus::new(&config).map(|new| *codec = Some(new)),
            (SoundInput::Frame { data, time_ms }, Some(codec)) => {
                codec.push(&data, time_ms, |packet| made.push(packet))
            }
            (SoundInput::Frame { .. }, None) => Ok(()),
        };
        let event = match done {
            Ok(()) => SoundEvent::Made(made),
            Err(error) => {
                codec = None;
                SoundEvent::Failed(error)
            }
        };
        // A full queue means that the session's task lags; it would only lag more.
        let _ = events.try_send(event);
        if events.is_closed() {
            return;
        }
    }
}
