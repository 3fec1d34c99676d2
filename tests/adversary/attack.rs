//! What all attacks share: chance from a seed, and damage done to sensible bytes.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Where the doors are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    pub rtmp: SocketAddr,
    pub webrtc: SocketAddr,
}

/// One round of an attack; gives how many things it threw.
pub type Attack = fn(&Addresses, &mut Chance) -> u64;

/// Between two rounds: the viewers' loss shall tell of the server, not of a machine without a core left.
const REST: Duration = Duration::from_millis(2);

pub fn repeat(attack: Attack, addresses: &Addresses, mut chance: Chance, lasting: Duration) -> u64 {
    let until = Instant::now() + lasting;
    let mut thrown = 0;
    while Instant::now() < until {
        thrown += attack(addresses, &mut chance);
        thread::sleep(REST);
    }
    thrown
}

/// Seeded choices.
pub struct Chance(StdRng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound.max(1))
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.0.random()
    }

    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    pub fn bytes(&mut self, max: usize) -> Vec<u8> {
        let count = self.below(max);
        (0..count).map(|_| self.byte()).collect()
    }

    /// Numbers that sit on somebody's boundary, and a few that do not.
    pub fn number(&mut self) -> u64 {
        let edges = [
            0,
            1,
            2,
            127,
            128,
            255,
            256,
            0x7fff,
            0x8000,
            0xffff,
            0x1_0000,
            0xff_ffff,
            0x7fff_ffff,
            0xffff_ffff,
            1 << 32,
            u64::MAX,
        ];
        if self.one_in(4) { self.0.random() } else { edges[self.below(edges.len())] }
    }

    /// Flips, cuts, repeats, inserts: one to four times.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.byte(),
                2 => bytes.truncate(at),
                3 => {
                    let more = self.bytes(40);
                    bytes.splice(at..at, more);
                }
                4 => {
                    let end = (at + self.below(200)).min(bytes.len());
                    let again = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => {
                    let number = self.number().to_be_bytes();
                    let width = [1, 2, 3, 4][self.below(4)];
                    let end = (at + width).min(bytes.len());
                    let from = number.len() - (end - at.min(end));
                    bytes.splice(at.min(end)..end, number[from..].iter().copied());
                }
            }
        }
    }
}
