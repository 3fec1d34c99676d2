//! RTP's companions: RTCP on the wire, and the bookkeeping of received streams: what came, what is missing, when it came.
//! Sans-I/O.

mod arrival_feedback;
mod missing;
mod receive_window;
mod reception;
mod renumber;
pub mod rtcp;

pub use arrival_feedback::ArrivalFeedback;
pub use missing::{GivenUp, MissingPackets};
pub use receive_window::{Arrival, ReceiveWindow, WINDOW_PACKETS};
pub use reception::Reception;
pub use renumber::Renumber;
