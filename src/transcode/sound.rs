//! A thread per stream that turns AAC into Opus, with bounded queues before and after it. When it lags, sound is dropped;
//! whoever feeds it never waits.

#![allow(clippy::disallowed_methods, reason = "this room owns its threads")]

use std::{io, thread};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
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

/// Both ends of a thread's queues; dropping them ends it.
#[derive(Debug)]
struct SoundThread {
    input: Sender<SoundInput>,
    events: mpsc::Receiver<SoundEvent>,
}

impl SoundThread {
    /// Starts a thread; `name` (cut to what the system shows) says whose it is.
    ///
    /// # Errors
    /// When the system gives no thread.
    fn start(name: &str) -> io::Result<Self> {
        let (input, inputs) = bounded(INPUT_MAX_FRAMES);
        let (made, events) = mpsc::channel(OUTPUT_MAX_EVENTS);
        // Linux shows 15 bytes. Stream names are ASCII.
        let name = format!("aac-{}", name.get(..name.len().min(11)).unwrap_or_default());
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || run(&inputs, &made))?;
        Ok(Self { input, events })
    }
}

/// A session's thread, which begins with its first sound: most connections never have any. One that has ended is followed by another.
#[derive(Debug)]
pub struct LazySoundThread {
    start: fn(&str) -> io::Result<SoundThread>,
    running: Option<SoundThread>,
    /// The last one. Publishers say it once, so whichever thread runs is told it before it is given frames.
    config: Option<Bytes>,
    /// The thread that runs was.
    is_configured: bool,
    dropped_inputs: u64,
    has_warned: bool,
}

impl Default for LazySoundThread {
    fn default() -> Self {
        Self {
            start: SoundThread::start,
            running: None,
            config: None,
            is_configured: false,
            dropped_inputs: 0,
            has_warned: false,
        }
    }
}

impl LazySoundThread {
    /// Hands one input over, or drops it when there is no thread, or it lags. `name` gives that of the thread, should it begin now.
    pub fn send(&mut self, name: impl FnOnce() -> String, input: SoundInput) {
        let frame = match input {
            SoundInput::Config(config) => {
                // A copy: it stays, and what it came in should not.
                self.config = Some(Bytes::copy_from_slice(&config));
                self.is_configured = false;
                None
            }
            frame @ SoundInput::Frame { .. } => Some(frame),
        };
        if self.running.is_none() {
            match (self.start)(&name()) {
                Ok(started) => self.running = Some(started),
                Err(error) if !self.has_warned => {
                    self.has_warned = true;
                    warn!(%error, "no thread for the sound: viewers by WebRTC hear nothing until the system gives one");
                }
                Err(_) => {}
            }
        }
        if !(self.configure() && frame.is_none_or(|frame| self.hand_over(frame))) {
            self.dropped_inputs += 1;
        }
    }

    /// False while the thread does not know how the frames are coded.
    fn configure(&mut self) -> bool {
        if let (false, Some(config)) = (self.is_configured, &self.config) {
            self.is_configured = self.hand_over(SoundInput::Config(config.clone()));
            return self.is_configured;
        }
        true
    }

    fn hand_over(&self, input: SoundInput) -> bool {
        self.running.as_ref().is_some_and(|thread| thread.input.try_send(input).is_ok())
    }

    /// The next answer; waits for as long as there is none. May be dropped at any time.
    pub async fn next(&mut self) -> SoundEvent {
        loop {
            match &mut self.running {
                Some(thread) => match thread.events.recv().await {
                    Some(event) => return event,
                    None => (self.running, self.is_configured) = (None, false),
                },
                None => std::future::pending().await,
            }
        }
    }

    /// Inputs dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_inputs)
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

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Bytes = Bytes::from_static(&[0x12, 0x10]);

    fn config() -> SoundInput {
        SoundInput::Config(CONFIG)
    }

    fn frame() -> SoundInput {
        SoundInput::Frame { data: Bytes::from_static(&[1]), time_ms: 0 }
    }

    /// A thread that does nothing, with room for so many inputs; and what it was given.
    fn idle(room: usize) -> (SoundThread, Receiver<SoundInput>) {
        let ((input, inputs), (_, events)) = (bounded(room), mpsc::channel(1));
        (SoundThread { input, events }, inputs)
    }

    /// C: a configuration, f: a frame.
    fn given(inputs: &Receiver<SoundInput>) -> String {
        let letter = |input| if matches!(input, SoundInput::Config(config) if config == CONFIG) { 'C' } else { 'f' };
        inputs.try_iter().map(letter).collect()
    }

    #[test]
    fn a_thread_that_begins_late_is_told_the_configuration() {
        let mut sound = LazySoundThread { start: |_| Err(io::Error::other("no more")), ..LazySoundThread::default() };
        sound.send(String::new, config());
        sound.send(String::new, frame());
        assert_eq!(sound.take_dropped(), 2, "which is told to the publisher");
        let (thread, inputs) = idle(9);
        sound.running = Some(thread);
        sound.send(String::new, frame());
        sound.send(String::new, frame());
        assert_eq!((given(&inputs).as_str(), sound.take_dropped()), ("Cff", 0));
    }

    #[test]
    fn a_configuration_that_finds_no_room_comes_before_the_next_frame() {
        let (thread, inputs) = idle(2);
        let mut sound = LazySoundThread { running: Some(thread), ..LazySoundThread::default() };
        for input in [frame(), frame(), config(), frame()] {
            sound.send(String::new, input);
        }
        assert_eq!((given(&inputs).as_str(), sound.take_dropped()), ("ff", 2));
        sound.send(String::new, frame());
        sound.send(String::new, frame());
        assert_eq!((given(&inputs).as_str(), sound.take_dropped()), ("Cf", 1));
    }

    #[tokio::test]
    async fn a_thread_that_follows_another_is_told_the_configuration() {
        let (thread, inputs) = idle(9);
        let mut sound = LazySoundThread { running: Some(thread), ..LazySoundThread::default() };
        let refused = SoundInput::Config(Bytes::from_static(&[0x12]));
        sound.send(String::new, refused);
        assert_eq!(inputs.try_iter().count(), 1);
        drop(inputs);
        sound.send(String::new, frame());
        assert_eq!(sound.take_dropped(), 1);
        assert!(futures_util::poll!(std::pin::pin!(sound.next())).is_pending());
        // Another thread begins with the next frame, and answers the configuration first.
        sound.send(String::new, frame());
        assert!(matches!(sound.next().await, SoundEvent::Failed(_)));
        assert!(matches!(sound.next().await, SoundEvent::Made(_)));
    }
}
