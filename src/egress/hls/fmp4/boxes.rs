//! Boxes: a length, four letters, and what is inside (ISO/IEC 14496-12 section 4.2).

/// Bytes of a file, with boxes around what is written inside of `within`.
#[derive(Debug, Default)]
pub(super) struct BoxWriter {
    bytes: Vec<u8>,
}

impl BoxWriter {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A box; its length is known when what is inside was written.
    pub(super) fn within(&mut self, name: &[u8; 4], write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.raw(name);
        write(self);
        let length = (self.bytes.len() - start) as u32;
        self.set_u32(start, length);
    }

    /// A full box: one with a version and flags.
    pub(super) fn within_full(&mut self, name: &[u8; 4], version: u8, flags: u32, write: impl FnOnce(&mut Self)) {
        self.within(name, |w| {
            w.u32(u32::from(version) << 24 | flags & 0x00ff_ffff);
            write(w);
        });
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes over four bytes that were written before.
    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}
