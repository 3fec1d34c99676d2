//! WHIP (RFC 9725): requests on `/whip/{stream}` and its sessions become decisions and responses.
