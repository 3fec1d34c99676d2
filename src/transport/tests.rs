//! Two transports, a bad network between them, and a virtual clock.

mod handshake;
mod hostile;
mod lifetime;
mod network;
