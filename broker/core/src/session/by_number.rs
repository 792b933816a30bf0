//! A map from numbers that looks first where it found the last one.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;

/// Entries sorted by number. What comes in runs, as frames of a channel and deliveries to a consumer do, is found
/// without a search. Values stay where they are, so that adding and removing move 16 octets an entry.
#[derive(Debug)]
pub(super) struct ByNumber<N, V> {
    entries: Vec<(N, Box<V>)>,
    last: Cell<usize>,
}

impl<N: Copy + Ord, V> ByNumber<N, V> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), last: Cell::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn contains(&self, number: N) -> bool {
        self.position(number).is_ok()
    }

    #[inline]
    pub(super) fn get(&self, number: N) -> Option<&V> {
        let at = self.position(number).ok()?;
        self.entries.get(at).map(|(_, value)| &**value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: N) -> Option<&mut V> {
        let at = self.position(number).ok()?;
        self.entries.get_mut(at).map(|(_, value)| &mut **value)
    }

    /// The values with their numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (N, &V)> {
        self.entries.iter().map(|(number, value)| (*number, &**value))
    }

    /// The values, by ascending number.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| &mut **value)
    }

    /// Puts a value in, in the place of the one of that number.
    pub(super) fn insert(&mut self, number: N, value: V) {
        match self.position(number) {
            Ok(at) => *self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (number, Box::new(value))),
        }
    }

    pub(super) fn remove(&mut self, number: N) -> Option<V> {
        let at = self.position(number).ok()?;
        Some(*self.entries.remove(at).1)
    }

    /// Takes out what `belongs`, in order.
    pub(super) fn remove_where(&mut self, belongs: impl Fn(&V) -> bool) -> impl Iterator<Item = (N, V)> {
        self.entries.extract_if(.., move |(_, value)| belongs(value)).map(|(number, value)| (number, *value))
    }

    pub(super) fn clear(&mut self) {
        self.entries = Vec::new();
    }

    /// Where the number is, or where it would be.
    #[inline]
    fn position(&self, number: N) -> Result<usize, usize> {
        let last = self.last.get();
        if self.entries.get(last).is_some_and(|(found, _)| *found == number) {
            return Ok(last);
        }
        let position = self.entries.binary_search_by_key(&number, |(number, _)| *number);
        if let Ok(at) = position {
            self.last.set(at);
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_sorted_map_holds(steps in prop::collection::vec((0..40_u16, 0..4_u8), 0..400)) {
            let (mut map, mut model) = (ByNumber::new(), BTreeMap::new());
            for (step, (number, action)) in steps.into_iter().enumerate() {
                match action {
                    0 => {
                        map.insert(number, step);
                        model.insert(number, step);
                    }
                    1 => prop_assert_eq!(map.remove(number), model.remove(&number)),
                    2 => {
                        let divides = |value: &usize| value.is_multiple_of(7);
                        let removed: Vec<_> = map.remove_where(divides).collect();
                        let expected: Vec<_> = model.extract_if(.., |_, value| divides(value)).collect();
                        prop_assert_eq!(removed, expected);
                    }
                    _ => prop_assert_eq!(map.get_mut(number), model.get_mut(&number)),
                }
                prop_assert_eq!((map.get(number), map.contains(number)), (model.get(&number), model.contains_key(&number)));
                prop_assert_eq!(map.len(), model.len());
            }
        }
    }
}
