//! Slots with generations: an id of a freed slot never finds its successor.

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A growing table whose freed slots are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Puts in what `make` gives for the new id.
    pub(super) fn insert(&mut self, make: impl FnOnce(u64) -> T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            u32::try_from(self.entries.len() - 1).expect("the layer's limit is far below 2^32")
        });
        let entry = &mut self.entries[index as usize];
        let id = u64::from(entry.generation) << 32 | u64::from(index);
        entry.value = Some(make(id));
        id
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        let (index, generation) = split(id);
        let entry = self.entries.get(index)?;
        entry.value.as_ref().filter(|_| entry.generation == generation)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let (index, generation) = split(id);
        let entry = self.entries.get_mut(index)?;
        let fresh = entry.generation == generation;
        entry.value.as_mut().filter(|_| fresh)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let (index, generation) = split(id);
        let entry = self.entries.get_mut(index)?;
        if entry.generation != generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(u32::try_from(index).ok()?);
        Some(value)
    }
}

fn split(id: u64) -> (usize, u32) {
    ((id & 0xffff_ffff) as usize, (id >> 32) as u32)
}
