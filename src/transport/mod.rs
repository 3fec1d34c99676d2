//! One WebRTC transport per session, either direction: ICE-lite, DTLS, SRTP, and the demultiplexing of their datagrams
//! (RFC 7983). Sans-I/O: datagrams and the time go in; datagrams, events and decrypted packets come out.
//!
//! # The driver's contract
//! A [`Transport`] belongs to one worker. After every call that takes `now`, drain [`Transport::poll_transmit`] and
//! [`Transport::poll_event`], then read [`Transport::poll_timeout`] and call [`Transport::handle_timeout`] no later.
//! Connectivity checks are answered without a transport (see [`stun`]), by whichever worker they reach; the owner is told
//! of each by [`Transport::handle_check`].
