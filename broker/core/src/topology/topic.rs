//! The bindings of a topic exchange, as a tree of words.
//!
//! A binding key is words with dots between them; `*` stands for one word, `#` for any number of words, none included.
//! The empty key has no word; `a.` has two, the second empty. Each word is one step down the tree, and a binding hangs
//! where its key ends. The tree is persistent: a change copies the path to it and nothing else.
//!
//! Matching walks the routing key once and keeps the set of tree nodes that the words so far can lead to. A node
//! reached by `#` stays in the set for good, and is put in only once, so the work is at most words × nodes however the
//! wildcards are combined.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr;

use rpds::RedBlackTreeSetSync;

use super::binding::Binding;
use super::trie::{Key, NameMap};

/// One node of the tree, with all below it.
#[derive(Debug, Clone)]
pub(super) struct TopicTree {
    words: NameMap<Arc<Self>>,
    any_word: Option<Arc<Self>>,
    any_words: Option<Arc<Self>>,
    bindings: RedBlackTreeSetSync<Arc<Binding>>,
}

impl TopicTree {
    pub(super) fn new() -> Self {
        Self { words: NameMap::new(), any_word: None, any_words: None, bindings: RedBlackTreeSetSync::new_sync() }
    }

    /// Adds a binding; nothing happens if it is there.
    pub(super) fn insert(&mut self, binding: Arc<Binding>) {
        let key = Arc::clone(&binding.routing_key);
        self.node_mut(words(&key)).bindings.insert_mut(binding);
    }

    /// Removes a binding and the nodes that then lead nowhere.
    pub(super) fn remove(&mut self, binding: &Binding) {
        self.remove_below(words(&binding.routing_key), binding);
    }

    /// Calls `found` with every binding whose key matches; with none twice.
    pub(super) fn matches<'t>(&'t self, routing_key: &str, found: impl FnMut(&'t Arc<Binding>)) {
        self.walk(routing_key).ends().flat_map(|node| node.bindings.iter()).for_each(found);
    }

    /// [`Self::matches`] for all that match one of several keys, none twice.
    pub(super) fn matches_any<'t, 'k>(
        &'t self,
        routing_keys: impl Iterator<Item = &'k &'k str>,
        mut found: impl FnMut(&'t Arc<Binding>),
    ) {
        let mut reached = BTreeSet::new();
        for routing_key in routing_keys {
            let walk = self.walk(routing_key);
            let new = walk.ends().filter(|node| reached.insert(ptr::from_ref(*node)));
            new.flat_map(|node| node.bindings.iter()).for_each(&mut found);
        }
    }

    /// Follows a routing key to its end.
    fn walk(&self, routing_key: &str) -> Walk<'_> {
        let mut walk = Walk { here: Vec::new(), anywhere: Vec::new(), seen: BTreeSet::new() };
        walk.enter(self);
        let mut next = Vec::new();
        for word in words(routing_key) {
            let hash = <Arc<str>>::hash(word);
            for node in walk.here.iter().chain(&walk.anywhere) {
                next.extend(node.words.get_hashed(hash, word).map(Arc::as_ref));
                next.extend(node.any_word.as_deref());
            }
            walk.here.clear();
            for node in next.drain(..) {
                walk.enter(node);
            }
        }
        walk
    }

    /// Calls `each` with every binding.
    pub(super) fn for_each<'t>(&'t self, each: &mut dyn FnMut(&'t Arc<Binding>)) {
        self.bindings.iter().for_each(&mut *each);
        let wildcards = [&self.any_word, &self.any_words].into_iter().flatten();
        self.words.values().chain(wildcards).for_each(|child| child.for_each(each));
    }

    fn node_mut<'k>(&mut self, mut words: impl Iterator<Item = &'k str>) -> &mut Self {
        let Some(word) = words.next() else {
            return self;
        };
        let child = match word {
            "*" => self.any_word.get_or_insert_with(|| Arc::new(Self::new())),
            "#" => self.any_words.get_or_insert_with(|| Arc::new(Self::new())),
            _ => {
                if self.words.get(word).is_none() {
                    self.words.insert(Arc::from(word), Arc::new(Self::new()));
                }
                let child = self.words.get_mut(word);
                child.expect("the word was inserted above if it was missing")
            }
        };
        Arc::make_mut(child).node_mut(words)
    }

    fn remove_below<'k>(&mut self, mut words: impl Iterator<Item = &'k str>, binding: &Binding) {
        let Some(word) = words.next() else {
            self.bindings.remove_mut(binding);
            return;
        };
        let slot = match word {
            "*" => &mut self.any_word,
            "#" => &mut self.any_words,
            _ => {
                let Some(child) = self.words.get_mut(word) else {
                    return;
                };
                let child = Arc::make_mut(child);
                child.remove_below(words, binding);
                if child.is_bare() {
                    self.words.remove(word);
                }
                return;
            }
        };
        let Some(child) = slot else { return };
        let child = Arc::make_mut(child);
        child.remove_below(words, binding);
        if child.is_bare() {
            *slot = None;
        }
    }

    /// Whether no binding hangs here or below.
    pub(super) fn is_bare(&self) -> bool {
        self.bindings.is_empty() && self.words.is_empty() && self.any_word.is_none() && self.any_words.is_none()
    }
}

/// The nodes that the words read so far lead to.
struct Walk<'t> {
    /// Nodes that the next word must leave.
    here: Vec<&'t TopicTree>,
    /// Nodes below a `#`: they may leave by any later word.
    anywhere: Vec<&'t TopicTree>,
    /// The addresses of `anywhere`.
    seen: BTreeSet<*const TopicTree>,
}

impl<'t> Walk<'t> {
    /// The nodes that the words have led to, each once.
    fn ends(&self) -> impl Iterator<Item = &'t TopicTree> {
        self.here.iter().chain(&self.anywhere).copied()
    }

    /// Adds a node and all that `#` for no word leads to from it.
    fn enter(&mut self, node: &'t TopicTree) {
        self.here.push(node);
        let mut below = node.any_words.as_deref();
        while let Some(node) = below {
            if !self.seen.insert(ptr::from_ref(node)) {
                return;
            }
            self.anywhere.push(node);
            below = node.any_words.as_deref();
        }
    }
}

/// The words of a key: none if it is empty.
pub(super) fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').take(if key.is_empty() { 0 } else { usize::MAX })
}
