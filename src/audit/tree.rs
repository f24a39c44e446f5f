//! The Merkle tree over the trail (RFC 6962, section 2.1; RFC 9162 has its verification).
//!
//! The tree is never held as a whole. Whoever writes or reads the trail from its beginning keeps
//! the right edge, at most 64 hashes, and that is all that appending and the root need. An
//! inclusion proof is a list of subtrees; each is the edge of its own range of leaves, so a proof
//! is made in one pass over the trail as well.
//!
//! Crates that exist were looked at: `ct-merkle` holds all leaves in memory, and the one release
//! of `tlog_tiles` brings a second cryptographic library. The tests check this module against the
//! vectors of RFC 6962's authors and against `ct-merkle`.

use std::cmp::Reverse;
use std::fmt::{self, Debug, Display};
use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-256 hash; in text, the base64 that C2SP's formats use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a leaf: a record's line without its line feed.
    #[must_use]
    pub fn of_leaf(record: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        context.update(record);
        Self::from_slice(context.finish().as_ref())
    }

    fn of_node(left: Self, right: Self) -> Self {
        let mut input = [1; 65];
        let (_, rest) = input.split_at_mut(1);
        let (for_left, for_right) = rest.split_at_mut(32);
        for_left.copy_from_slice(&left.0);
        for_right.copy_from_slice(&right.0);
        Self::from_slice(digest(&SHA256, &input).as_ref())
    }

    /// From 32 bytes.
    pub(super) fn from_slice(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        for (own, byte) in hash.iter_mut().zip(bytes) {
            *own = *byte;
        }
        Self(hash)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// In base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// From base64; nothing when it is not that, or not 32 bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_base64())
    }
}

impl Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256 hash in base64"))
    }
}

/// The right edge of a tree: the roots of its whole subtrees, the largest first, one for each bit
/// that is set in its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    roots: Vec<Hash>,
}

impl Edge {
    /// An edge that was kept; nothing when there can't be such a one.
    #[must_use]
    pub fn of_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() as u64 == u64::from(size.count_ones())).then_some(Self { size, roots })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its whole subtrees, the largest first.
    #[must_use]
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Appends a leaf: one hash more on average, 64 at most.
    pub fn push(&mut self, leaf: Hash) {
        let mut subtree = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                subtree = Hash::of_node(left, subtree);
            }
        }
        self.roots.push(subtree);
        self.size += 1;
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut subtrees = self.roots.iter().rev().copied();
        match subtrees.next() {
            None => Hash::from_slice(digest(&SHA256, &[]).as_ref()),
            Some(smallest) => subtrees.fold(smallest, |right, left| Hash::of_node(left, right)),
        }
    }
}

/// The inclusion proof of one leaf, in the making: fed with the leaves of the tree in their order.
#[derive(Debug)]
pub struct Path {
    /// The subtrees that make the proof in the order of their leaves, each with its place in it.
    subtrees: Vec<(Range<u64>, usize, Edge)>,
    current: usize,
    fed: u64,
}

impl Path {
    /// Of the leaf with this index, in a tree of this size, of whose first leaves only the edge is
    /// known; nothing when the leaf is not among the others.
    #[must_use]
    pub fn new(index: u64, size: u64, known: &Edge) -> Option<Self> {
        if index >= size || index < known.size {
            return None;
        }
        let (mut subtrees, mut from, mut to) = (Vec::new(), 0, size);
        // From the root down, as RFC 6962's PATH; the proof itself runs from the leaf up.
        while to - from > 1 {
            let middle = from + (1 << (to - from - 1).ilog2());
            let sibling = if index < middle { middle..to } else { from..middle };
            if index < middle {
                to = middle
            } else {
                from = middle
            }
            subtrees.push((sibling, subtrees.len(), Edge::default()));
        }
        subtrees.sort_by_key(|(range, ..)| range.start);
        // A subtree to the leaf's left has those of the known edge whole, each at its place.
        let mut start = 0;
        for (level, root) in levels(known.size).zip(&known.roots) {
            let holding = subtrees.iter_mut().find(|(range, ..)| range.contains(&start));
            if let Some((.., edge)) = holding {
                edge.roots.push(*root);
                edge.size += 1 << level;
            }
            start += 1 << level;
        }
        Some(Self { subtrees, current: 0, fed: known.size })
    }

    /// Takes the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let index = self.fed;
        self.fed += 1;
        while let Some((range, _, edge)) = self.subtrees.get_mut(self.current) {
            if index < range.start {
                return;
            }
            if index < range.end {
                return edge.push(leaf);
            }
            self.current += 1;
        }
    }

    /// The proof, from the leaf's sibling up to the root's child.
    #[must_use]
    pub fn proof(mut self) -> Vec<Hash> {
        self.subtrees.sort_by_key(|(_, depth, _)| Reverse(*depth));
        self.subtrees.iter().map(|(.., edge)| edge.root()).collect()
    }
}

/// The levels of the whole subtrees of a tree of this size, the largest first.
fn levels(size: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).rev().filter(move |level| size >> level & 1 == 1)
}

/// The root that an inclusion proof leads to (RFC 9162, section 2.1.3.2); nothing when it can't be
/// a proof for a leaf with this index in a tree of this size.
#[must_use]
pub fn root_of_proof(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = Hash::of_node(*sibling, root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = Hash::of_node(root, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves and roots of the tests of RFC 6962's authors (`merkle_tree_test.cc`).
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hexadecimal(hash: Hash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_roots_are_those_of_rfc_6962s_authors() {
        let mut edge = Edge::default();
        assert_eq!(hexadecimal(edge.root()), ROOTS[0]);
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            edge.push(Hash::of_leaf(leaf));
            assert_eq!(hexadecimal(edge.root()), *root);
            let kept = Edge::of_parts(edge.size(), edge.roots().to_vec());
            assert_eq!(kept.as_ref(), Some(&edge));
        }
        assert_eq!(Edge::of_parts(8, vec![]), None);
    }

    /// For every tree of up to 70 leaves, every leaf of it, and every known edge before that leaf.
    #[test]
    fn roots_and_proofs_are_those_of_an_independent_implementation() {
        type Other = ct_merkle::mem_backed_tree::MemoryBackedTree<sha2::Sha256, Vec<u8>>;
        let (mut other, mut edges) = (Other::new(), vec![Edge::default()]);
        let record = |index: u64| index.to_string().into_bytes();
        for size in 1..=70 {
            other.push(record(size - 1));
            let mut edge = edges[edges.len() - 1].clone();
            edge.push(Hash::of_leaf(&record(size - 1)));
            assert_eq!(edge.root().0[..], other.root().as_bytes()[..]);
            edges.push(edge.clone());
            for index in 0..size {
                let theirs = other.prove_inclusion(usize::try_from(index).unwrap());
                let theirs: Vec<Hash> =
                    theirs.as_bytes().chunks(32).map(Hash::from_slice).collect();
                for known in &edges[..=usize::try_from(index).unwrap()] {
                    let mut path = Path::new(index, size, known).unwrap();
                    (known.size()..size).for_each(|it| path.push(Hash::of_leaf(&record(it))));
                    assert_eq!(path.proof(), theirs, "{index} of {size} from {}", known.size());
                }
                let leaf = Hash::of_leaf(&record(index));
                assert_eq!(root_of_proof(leaf, index, size, &theirs), Some(edge.root()));
                for wrong in [index + 1, index ^ 1] {
                    assert_ne!(root_of_proof(leaf, wrong, size, &theirs), Some(edge.root()));
                }
                assert_ne!(
                    root_of_proof(leaf, index, size, &theirs[1.min(theirs.len())..]),
                    Some(edge.root()).filter(|_| size > 1)
                );
            }
            assert!(Path::new(size, size, &Edge::default()).is_none());
        }
    }
}
