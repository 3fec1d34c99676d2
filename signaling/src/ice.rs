//! ICE as signalling sees it: credentials, trickle fragments (RFC 8840), ETags (RFC 9725 section 4.3.1).

use std::fmt;

/// One side's ICE user name fragment and password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

/// The password never reaches a log.
impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}
