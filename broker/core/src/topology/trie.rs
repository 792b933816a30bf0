//! A persistent map from names, or from queues' ids, made for being read and for being small.
//!
//! A tree that spends six bits of the key's hash on each level. A node keeps only the children it has, side by side
//! in one allocation, and a key with its value is a child like any other: with 50,000 names a lookup touches three
//! nodes and the name. A change copies the nodes on the way to it and nothing else, so a clone is free and stays what
//! it was.
//!
//! The order of iteration is the hash's and means nothing, but it is the same in every run.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, BuildHasherDefault};

use crate::QueueId;

/// Bits of the hash for one level.
const BITS: u32 = 6;

/// The map. Keys and values are copied with the nodes they are in, so they should be small or shared.
#[derive(Debug, Clone)]
pub(super) struct Trie<K, V> {
    root: Node<K, V>,
    len: usize,
}

/// The map from names.
pub(super) type NameMap<V> = Trie<Arc<str>, V>;

/// What a map may be from.
pub(super) trait Key: Clone {
    /// The form in which keys are looked up.
    type Lookup: PartialEq + ?Sized;

    fn lookup(&self) -> &Self::Lookup;

    fn hash(key: &Self::Lookup) -> u64;
}

/// SipHash with a fixed key. Names whose whole hash agrees are searched one by one; nobody can make many of these at
/// a sensible price, so no random key is needed.
#[expect(deprecated, reason = "the standard library's other hashers are not in core")]
type NameHash = BuildHasherDefault<core::hash::SipHasher>;

/// A hasher of names and other octets, the same everywhere and always.
pub(super) fn name_hasher() -> impl core::hash::Hasher {
    NameHash::default().build_hasher()
}

impl Key for Arc<str> {
    type Lookup = str;

    fn lookup(&self) -> &str {
        self
    }

    fn hash(name: &str) -> u64 {
        NameHash::default().hash_one(name)
    }
}

/// Ids are given one after the other, so that they spread by themselves.
impl Key for QueueId {
    type Lookup = Self;

    fn lookup(&self) -> &Self {
        self
    }

    fn hash(id: &Self) -> u64 {
        id.0.into()
    }
}

/// Below the last bits of the hash `present` is 0 and all children are leaves in no order.
#[derive(Debug, Clone)]
struct Node<K, V> {
    /// Which of the 64 children there are.
    present: u64,
    /// Those, in order.
    children: Arc<[Child<K, V>]>,
}

#[derive(Debug, Clone)]
enum Child<K, V> {
    Leaf(K, V),
    Branch(Node<K, V>),
}

impl<K: Key, V: Clone> Trie<K, V> {
    pub(super) fn new() -> Self {
        Self { root: Node::empty(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &K::Lookup) -> Option<&V> {
        self.get_hashed(K::hash(key), key)
    }

    /// [`Self::get`] for a key that is looked up in many maps: `hash` is [`Key::hash`] of it.
    pub(super) fn get_hashed(&self, hash: u64, key: &K::Lookup) -> Option<&V> {
        self.root.get(hash, 0, key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get_mut(&mut self, key: &K::Lookup) -> Option<&mut V> {
        self.get(key)?; // a miss must not copy the way to it
        self.root.get_mut(K::hash(key), 0, key)
    }

    /// Puts a value in, in the place of the one of that key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some(present) = self.get_mut(key.lookup()) {
            *present = value;
            return;
        }
        self.root.insert(K::hash(key.lookup()), 0, Child::Leaf(key, value));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, key: &K::Lookup) {
        if self.get(key).is_some() {
            self.root.remove(K::hash(key), 0, key);
            self.len -= 1;
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        let mut open = Vec::from([self.root.children.iter()]);
        core::iter::from_fn(move || {
            loop {
                match open.last_mut()?.next() {
                    Some(Child::Leaf(_, value)) => return Some(value),
                    Some(Child::Branch(node)) => open.push(node.children.iter()),
                    None => _ = open.pop(),
                }
            }
        })
    }
}

/// The child of a node at this depth that the hash leads to; `None` if its bits are used up.
fn bit(hash: u64, depth: u32) -> Option<u64> {
    hash.checked_shr(depth * BITS).map(|rest| 1 << (rest % (1 << BITS)))
}

impl<K: Key, V: Clone> Node<K, V> {
    /// Costs no allocation.
    fn empty() -> Self {
        Self { present: 0, children: Arc::default() }
    }

    /// The position of the child on the way to the key, if there is one.
    fn position(&self, hash: u64, depth: u32, key: &K::Lookup) -> Option<usize> {
        match bit(hash, depth) {
            Some(bit) => (self.present & bit != 0).then(|| self.rank(bit)),
            None => self.children.iter().position(|child| child.is_leaf_of(key)),
        }
    }

    /// How many children come before that of `bit`.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    fn get(&self, hash: u64, depth: u32, key: &K::Lookup) -> Option<&V> {
        match self.children.get(self.position(hash, depth, key)?)? {
            Child::Leaf(found, value) => (found.lookup() == key).then_some(value),
            Child::Branch(node) => node.get(hash, depth + 1, key),
        }
    }

    fn get_mut(&mut self, hash: u64, depth: u32, key: &K::Lookup) -> Option<&mut V> {
        let position = self.position(hash, depth, key)?;
        match Arc::make_mut(&mut self.children).get_mut(position)? {
            Child::Leaf(found, value) => (found.lookup() == key).then_some(value),
            Child::Branch(node) => node.get_mut(hash, depth + 1, key),
        }
    }

    /// Inserts a leaf whose key is not in the map.
    fn insert(&mut self, hash: u64, depth: u32, leaf: Child<K, V>) {
        let Some(bit) = bit(hash, depth) else {
            self.splice(self.children.len(), leaf);
            return;
        };
        let rank = self.rank(bit);
        if self.present & bit == 0 {
            self.present |= bit;
            self.splice(rank, leaf);
            return;
        }
        match &mut Arc::make_mut(&mut self.children)[rank] {
            Child::Branch(node) => node.insert(hash, depth + 1, leaf),
            taken @ Child::Leaf(..) => *taken = Child::Branch(Self::of_two(depth + 1, taken.clone(), hash, leaf)),
        }
    }

    /// A node of two leaves, the second with its hash.
    fn of_two(depth: u32, first: Child<K, V>, hash: u64, second: Child<K, V>) -> Self {
        let mut node = Self::empty();
        node.insert(first.hash(), depth, first);
        node.insert(hash, depth, second);
        node
    }

    fn splice(&mut self, position: usize, child: Child<K, V>) {
        let (before, after) = self.children.split_at(position);
        self.children = before.iter().cloned().chain([child]).chain(after.iter().cloned()).collect();
    }

    /// Removes a key that is in the map. A branch left with one leaf becomes that leaf, so that no shape depends on
    /// what has been.
    fn remove(&mut self, hash: u64, depth: u32, key: &K::Lookup) {
        let Some(position) = self.position(hash, depth, key) else {
            return;
        };
        if let Child::Branch(node) = &mut Arc::make_mut(&mut self.children)[position] {
            node.remove(hash, depth + 1, key);
            if let [Child::Leaf(..)] = &*node.children {
                let only = node.children[0].clone();
                Arc::make_mut(&mut self.children)[position] = only;
            }
            return;
        }
        self.present &= !bit(hash, depth).unwrap_or(0);
        let kept = self.children.iter().enumerate().filter(|(index, _)| *index != position);
        self.children = kept.map(|(_, child)| child.clone()).collect();
    }
}

impl<K: Key, V> Child<K, V> {
    fn is_leaf_of(&self, key: &K::Lookup) -> bool {
        matches!(self, Self::Leaf(found, _) if found.lookup() == key)
    }

    /// The hash of a leaf's key. A branch is never moved down.
    fn hash(&self) -> u64 {
        match self {
            Self::Leaf(key, _) => K::hash(key.lookup()),
            Self::Branch(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_map_holds_what_a_sorted_map_holds(
            steps in prop::collection::vec((0..300_u16, prop::option::of(any::<u8>())), 0..600),
        ) {
            let mut map = NameMap::new();
            let mut model = BTreeMap::new();
            let mut halfway = None;
            for (index, (name, value)) in steps.iter().enumerate() {
                let name = format!("name {name}");
                match value {
                    Some(value) => {
                        map.insert(Arc::from(name.as_str()), *value);
                        model.insert(name, *value);
                    }
                    None => {
                        map.remove(&name);
                        model.remove(&name);
                    }
                }
                if index == steps.len() / 2 {
                    halfway = Some((map.clone(), model.clone()));
                }
            }
            for (map, model) in halfway.into_iter().chain([(map, model)]) {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.values().count(), model.len());
                for name in 0..300 {
                    let name = format!("name {name}");
                    prop_assert_eq!(map.get(&name), model.get(&name));
                    prop_assert_eq!(map.clone().get_mut(&name).copied(), model.get(&name).copied());
                }
            }
        }
    }

    #[test]
    fn names_whose_whole_hash_agrees_are_all_kept() {
        let mut node = Node::empty();
        let leaf = |index: u8| Child::Leaf(Arc::<str>::from(format!("{index}")), index);
        let below_the_last_bits = u64::BITS.div_ceil(BITS);
        (0..5).for_each(|index| node.insert(7, below_the_last_bits, leaf(index)));
        node.remove(7, below_the_last_bits, "2");
        let found = |name: &str| node.get(7, below_the_last_bits, name).copied();
        assert_eq!(["0", "1", "2", "3", "4"].map(found), [Some(0), Some(1), None, Some(3), Some(4)]);
    }

    #[test]
    fn two_names_that_differ_in_the_last_bits_only_are_told_apart() {
        let (one, other) = (1 << 60, 2 << 60);
        let mut node = Node::empty();
        node.insert(one, 10, Child::Leaf(Arc::<str>::from("one"), 1));
        node.insert(other, 10, Child::Leaf(Arc::from("other"), 2));
        assert_eq!(node.get(one, 10, "one"), Some(&1));
        assert_eq!(node.get(other, 10, "other"), Some(&2));
        assert_eq!(node.get(3 << 60, 10, "third"), None);
    }

    #[test]
    fn nothing_is_left_of_names_that_are_gone() {
        let mut map = NameMap::new();
        (0..1_000).for_each(|index| map.insert(Arc::from(format!("{index}")), index));
        (1..1_000).for_each(|index| map.remove(&format!("{index}")));
        assert!(matches!(&*map.root.children, [Child::Leaf(..)]), "one name needs one leaf");
    }

    #[test]
    fn ids_that_follow_one_another_fill_nodes() {
        let mut map = Trie::new();
        (1..=4_096).for_each(|id| map.insert(QueueId(id), id));
        map.insert(QueueId(1 << 31), 0);
        assert_eq!(map.root.children.len(), 64);
        assert!((1..=4_096).all(|id| map.get(&QueueId(id)) == Some(&id)));
        assert_eq!((map.get(&QueueId(1 << 31)), map.get(&QueueId(0)), map.len()), (Some(&0), None, 4_097));
    }
}
