//! What is counted under a name for as long as somebody holds it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Counts by name. They begin at zero, are the same for all who hold them at a time, and go with the last of those.
pub(super) struct Living<T> {
    by_name: Mutex<BTreeMap<String, Weak<T>>>,
}

impl<T> Default for Living<T> {
    fn default() -> Self {
        Self { by_name: Mutex::default() }
    }
}

impl<T: Default> Living<T> {
    pub(super) fn hold(&self, name: &str) -> Arc<T> {
        let mut by_name = self.lock();
        if let Some(held) = by_name.get(name).and_then(Weak::upgrade) {
            return held;
        }
        // Endpoints come and go for months: names that nobody holds do not stay.
        by_name.retain(|_, counts| counts.strong_count() > 0);
        let counts = Arc::new(T::default());
        by_name.insert(name.to_owned(), Arc::downgrade(&counts));
        counts
    }

    /// Does not bring it into being.
    pub(super) fn find(&self, name: &str) -> Option<Arc<T>> {
        self.lock().get(name).and_then(Weak::upgrade)
    }

    /// All that are held, by name.
    pub(super) fn all(&self) -> Vec<(String, Arc<T>)> {
        self.lock().iter().filter_map(|(name, counts)| Some((name.clone(), counts.upgrade()?))).collect()
    }

    /// Whatever happened to a thread that held the lock, the map is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Weak<T>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn counts_are_shared_while_they_are_held_and_begin_anew_after_that() {
        let living = Living::<AtomicU64>::default();
        let (first, second) = (living.hold("a"), living.hold("a"));
        first.fetch_add(1, Ordering::Relaxed);
        drop(first);
        assert_eq!(living.hold("a").load(Ordering::Relaxed), 1);
        drop(second);
        assert!(living.find("a").is_none());
        assert_eq!(living.hold("a").load(Ordering::Relaxed), 0);
    }

    #[test]
    fn names_that_nobody_holds_are_forgotten() {
        let living = Living::<AtomicU64>::default();
        for number in 0..1000 {
            living.hold(&number.to_string());
        }
        let kept = living.hold("kept");
        assert_eq!(living.lock().len(), 1);
        assert_eq!(living.all().len(), 1);
        drop(kept);
        assert!(living.all().is_empty());
    }
}
