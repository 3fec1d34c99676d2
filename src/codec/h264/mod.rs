//! H.264 (ITU-T H.264) and its RTP payload format (RFC 6184).

pub mod depacketize;
