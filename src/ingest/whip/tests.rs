//! Rules of the receiver, by name, on a virtual clock.
