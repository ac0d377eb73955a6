//! Cold classes: which class serves which in a heap. Until its threads need much, two classes per doubling stand in
//! for those between them, so that a few blocks of each size do not take an OS page for each.

use super::heap::{Doubled, Heap};
use super::size_class::{self, block_bytes};

/// Places that the slices have which a heap gets of a class that stands in for others, without giving it away meanwhile
/// as not needed, before those have slices of their own. What is left over in longer blocks is by then as much as the OS
/// pages would be that each class begins. As many as three slices have, six, and two.
pub(super) const fn places_to_warm(class: usize) -> usize {
    match block_bytes(class) {
        ..=1024 => 1 + 2 + 4,
        1025..=4096 => 2 + 5 * 4,
        _ => 8 + 16,
    }
}

impl Heap {
    /// Has the classes that a class stands in for served by their own from now on.
    pub(super) fn warm_up(&mut self, stand_in: usize) {
        self.standing_in &= !(1 << stand_in);
        for class in size_class::served_by(stand_in) {
            self.serving[class] = class as u8;
            self.doubled[size_class::units_of(class)].fill(Doubled::of(class).to_byte());
        }
    }

    /// Whether the classes that a class stands in for are still cold.
    pub(super) fn stands_in(&self, class: usize) -> bool {
        self.standing_in & (1 << class) != 0
    }
}
