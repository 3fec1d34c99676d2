//! A strict reader of fragments: takes nothing that is not exactly as the standard has it, and knows nothing of the writer.

use bytes::Bytes;

/// What one part holds.
#[derive(Debug, Clone)]
pub struct ReadPart {
    pub sequence: u32,
    pub decode_ticks: u64,
    pub samples: Vec<ReadSample>,
}

#[derive(Debug, Clone)]
pub struct ReadSample {
    pub duration: u32,
    pub sync: bool,
    pub composition: i32,
    pub data: Vec<u8>,
}

impl ReadPart {
    pub fn duration(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.duration)).sum()
    }

    /// Presentation times, in the order of decoding.
    pub fn presented(&self) -> Vec<i64> {
        let mut at = self.decode_ticks as i64;
        let shown = self.samples.iter().map(|sample| {
            let shown = at + i64::from(sample.composition);
            at += i64::from(sample.duration);
            shown
        });
        shown.collect()
    }
}

/// Boxes that fill `bytes` exactly.
pub fn boxes(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let name = String::from_utf8(rest[4..8].to_vec()).unwrap();
        assert!(length >= 8 && length <= rest.len(), "{name} of {length} in {}", rest.len());
        found.push((name, &rest[8..length]));
        rest = &rest[length..];
    }
    found
}

/// The only box of a path.
pub fn find<'a>(bytes: &'a [u8], path: &str) -> &'a [u8] {
    path.split('/').fold(bytes, |inside, name| {
        let found: Vec<_> = boxes(inside).into_iter().filter(|(found, _)| found == name).collect();
        assert_eq!(found.len(), 1, "{name} of {path}");
        found[0].1
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn read_part(bytes: &Bytes) -> ReadPart {
    let top = boxes(bytes);
    assert_eq!(top.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["moof", "mdat"]);
    let moof_bytes = top[0].1.len() + 8;
    let names: Vec<_> = boxes(find(top[0].1, "traf")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["tfhd", "tfdt", "trun"]);
    let tfhd = find(top[0].1, "traf/tfhd");
    assert_eq!((u32_at(tfhd, 0), u32_at(tfhd, 4), tfhd.len()), (0x02_0000, 1, 8), "based on the moof, track 1");
    let tfdt = find(top[0].1, "traf/tfdt");
    assert_eq!((tfdt[0], tfdt.len()), (1, 12));
    let decode_ticks = u64::from_be_bytes(tfdt[4..].try_into().unwrap());
    let trun = find(top[0].1, "traf/trun");
    assert_eq!(u32_at(trun, 0), 0x0100_0f01, "version 1: data offset, duration, size, flags, composition offset");
    let count = u32_at(trun, 4) as usize;
    assert_eq!(u32_at(trun, 8) as usize, moof_bytes + 8, "the data offset leads to what the mdat holds");
    assert_eq!(trun.len(), 12 + 16 * count);
    let mut media = top[1].1;
    let mut samples = Vec::new();
    for at in (12..trun.len()).step_by(16) {
        let size = u32_at(trun, at + 4) as usize;
        let (data, rest) = media.split_at(size);
        media = rest;
        let flags = u32_at(trun, at + 8);
        assert!(matches!(flags, 0x0200_0000 | 0x0101_0000), "{flags:x}");
        samples.push(ReadSample {
            duration: u32_at(trun, at),
            sync: flags == 0x0200_0000,
            composition: u32_at(trun, at + 12) as i32,
            data: data.to_vec(),
        });
    }
    assert!(media.is_empty() && !samples.is_empty(), "no byte that is of no sample");
    ReadPart { sequence: u32_at(find(top[0].1, "mfhd"), 4), decode_ticks, samples }
}

/// The timescale, and the sample entry's name and what is in it.
pub fn read_initialization(bytes: &Bytes) -> (u32, String, Vec<u8>) {
    let names: Vec<_> = boxes(bytes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ftyp", "moov"]);
    let names: Vec<_> = boxes(find(bytes, "moov")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["mvhd", "trak", "mvex"]);
    let mdhd = find(bytes, "moov/trak/mdia/mdhd");
    let stsd = find(bytes, "moov/trak/mdia/minf/stbl/stsd");
    assert_eq!(u32_at(stsd, 4), 1);
    let entry = boxes(&stsd[8..]);
    (u32_at(mdhd, 12), entry[0].0.clone(), entry[0].1.to_vec())
}
