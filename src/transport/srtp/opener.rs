//! What arrives: `rtc-srtp` decrypts, authenticates and refuses replays, behind a guard.
//!
//! `rtc-srtp` (0.21.1) makes state for an SSRC, and starts its replay window at the packet's sequence number, before it has
//! authenticated anything. Left alone, anyone who can forge the peer's address could fill the memory with SSRCs, or deafen
//! us to a stream by being first with a far sequence number. So a packet of an SSRC that has not spoken yet is
//! first tried on a throw-away context; only an authentic one makes its SSRC known to the real context.

use bytes::{Bytes, BytesMut};
use rtc_crypto::RTCCryptoProvider;
use rtc_shared::{error::Error, marshal::MarshalSize, marshal::Unmarshal};
use rtc_srtp::{
    context::Context,
    option::{
        ContextOption, srtcp_no_replay_protection, srtcp_replay_protection, srtp_no_replay_protection,
        srtp_replay_protection,
    },
};

use super::{MasterKey, RTCP_CLEAR_BYTES, RTP_HEADER_BYTES};

/// SSRCs that a peer may use in each protocol: 3 layers with RTX and FEC, audio, probes, times a few reconnects of its
/// encoders; RTCP the same. Beyond it, packets of new SSRCs are dropped.
const SSRCS_MAX: usize = 64;
/// Unauthentic SSRCs that a throw-away context may collect, at about 200 bytes each, before it is replaced.
const SUSPECTS_MAX: usize = 32;
/// As libwebrtc has it: a burst of this many packets may be overtaken by one.
const RTP_REPLAY_WINDOW_PACKETS: usize = 1024;
const RTCP_REPLAY_WINDOW_PACKETS: usize = 64;

/// Opens incoming SRTP and SRTCP.
pub(in super::super) struct SrtpOpener {
    master: MasterKey,
    provider: &'static dyn RTCCryptoProvider,
    context: Context,
    rtp_ssrcs: Vec<u32>,
    rtcp_ssrcs: Vec<u32>,
    /// The throw-away context, and how many packets it has refused.
    trial: Option<Box<(Context, usize)>>,
}

impl SrtpOpener {
    pub fn new(master: MasterKey, provider: &'static dyn RTCCryptoProvider) -> Result<Self, Error> {
        let context = new_context(
            &master,
            provider,
            srtp_replay_protection(RTP_REPLAY_WINDOW_PACKETS),
            srtcp_replay_protection(RTCP_REPLAY_WINDOW_PACKETS),
        )?;
        Ok(Self { master, provider, context, rtp_ssrcs: Vec::new(), rtcp_ssrcs: Vec::new(), trial: None })
    }

    /// The plain RTP packet; `None` for anything forged, replayed or malformed.
    pub fn open_rtp(&mut self, datagram: &[u8]) -> Option<Bytes> {
        let ssrc = rtp_ssrc(datagram)?;
        if !self.rtp_ssrcs.contains(&ssrc) {
            if self.rtp_ssrcs.len() >= SSRCS_MAX || !self.is_authentic(|context| context.decrypt_rtp(datagram)) {
                return None;
            }
            self.rtp_ssrcs.push(ssrc);
        }
        self.context.decrypt_rtp(datagram).ok().map(BytesMut::freeze)
    }

    /// The plain compound RTCP packet; `None` for anything forged, replayed or malformed.
    pub fn open_rtcp(&mut self, datagram: &[u8]) -> Option<Bytes> {
        let [_, _, _, _, s0, s1, s2, s3, ..] = *datagram else { return None };
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        if datagram.len() < RTCP_CLEAR_BYTES + super::RTCP_INDEX_BYTES + self.master.profile.tag_bytes() {
            return None;
        }
        if !self.rtcp_ssrcs.contains(&ssrc) {
            if self.rtcp_ssrcs.len() >= SSRCS_MAX || !self.is_authentic(|context| context.decrypt_rtcp(datagram)) {
                return None;
            }
            self.rtcp_ssrcs.push(ssrc);
        }
        self.context.decrypt_rtcp(datagram).ok().map(BytesMut::freeze)
    }

    #[cfg(test)]
    pub fn known_ssrcs(&self) -> (usize, usize) {
        (self.rtp_ssrcs.len(), self.rtcp_ssrcs.len())
    }

    fn is_authentic(&mut self, open: impl FnOnce(&mut Context) -> Result<BytesMut, Error>) -> bool {
        let mut trial = match self.trial.take() {
            Some(trial) => trial,
            // Without replay windows: a forgery would place them.
            None => {
                let (rtp, rtcp) = (srtp_no_replay_protection(), srtcp_no_replay_protection());
                match new_context(&self.master, self.provider, rtp, rtcp) {
                    Ok(context) => Box::new((context, 0)),
                    Err(_) => return false,
                }
            }
        };
        let authentic = open(&mut trial.0).is_ok();
        trial.1 += 1;
        // An authentic packet means that the peer speaks: most likely no more forgeries are about, so let the memory go.
        if !authentic && trial.1 < SUSPECTS_MAX {
            self.trial = Some(trial);
        }
        authentic
    }
}

fn new_context(
    master: &MasterKey,
    provider: &dyn RTCCryptoProvider,
    rtp: ContextOption,
    rtcp: ContextOption,
) -> Result<Context, Error> {
    let profile = master.profile.to_srtp();
    Context::new(master.key(), master.salt(), profile, Some(rtp), Some(rtcp), provider.crypto())
}

/// The SSRC of a datagram with a sound RTP header.
///
/// `rtc-srtp` takes the header's length to be what it would be if written anew. Where that is not what stands there
/// (an extension block padded in an unusual way), authentication would fail or cover the wrong bytes: such packets are refused here.
fn rtp_ssrc(datagram: &[u8]) -> Option<u32> {
    let (&[first, _, _, _, _, _, _, _, s0, s1, s2, s3], rest) = datagram.split_first_chunk::<RTP_HEADER_BYTES>()?;
    if first >> 6 != 2 {
        return None;
    }
    let csrcs_bytes = usize::from(first & 0x0f) * 4;
    let mut header_bytes = RTP_HEADER_BYTES + csrcs_bytes;
    if first & 0x10 != 0 {
        let [_, _, high, low, ..] = *rest.get(csrcs_bytes..)? else { return None };
        header_bytes += 4 + usize::from(u16::from_be_bytes([high, low])) * 4;
    }
    if header_bytes > datagram.len() {
        return None;
    }
    let mut reader = datagram;
    let header = rtc_rtp::Header::unmarshal(&mut reader).ok()?;
    (header.marshal_size() == header_bytes).then_some(u32::from_be_bytes([s0, s1, s2, s3]))
}
