//! WHEP (draft-ietf-wish-whep): requests on `/whep/{stream}` and its sessions become decisions and responses.
