//! RTP's companions: RTCP on the wire, loss and arrival bookkeeping of received streams. Sans-I/O.

pub mod rtcp;
