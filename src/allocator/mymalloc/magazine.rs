//! How a heap's magazines grow, are filled, and are emptied: what happens when one is empty or full.
//!
//! A magazine starts with room for 8 blocks, and may have twice as many each time that its class has
//! turned here four times. What is too much goes home until then, so that a program which uses a little
//! of every class does not keep a little of each. A class that has shown that it needs much has a full
//! magazine, a second one, and offers whole trays to other threads. Medium blocks start with none.

use core::mem::{self, MaybeUninit};
use core::ptr::{self, NonNull};

use super::cold::places_to_warm;
use super::heap::{Carving, FIRST_ENTRIES, Heap, TURNS_MAX, TURNS_PER_DOUBLING};
use super::size_class::{LARGE, block_bytes};
use super::tray::{self, Entry, Rack, Tray, capacity, usual_capacity};
use super::{options, shelf, thread, tick};

/// Turns to the slow paths between two looks at the clock.
pub(super) const TURNS_BETWEEN_LOOKS: u32 = 7;

/// Trays that a heap keeps of each class beside the magazine, before it offers one to others. Blocks that change
/// threads lie among those of the thread that they come from, whose state bytes both then write to. Medium ones share
/// such bytes with nobody, and are long: where more than three threads may each have some, they pass them on.
fn spares_max(class: usize) -> usize {
    usize::from(class < LARGE || thread::count_in_use() <= 3)
}

/// Idle bytes of a medium class that all threads may have among them, and that each may in any case. Many threads keep
/// less each, since blocks of as many classes lie idle in every one of them.
const MEDIUM_BYTES_OF_ALL: usize = 512 << 10;
const MEDIUM_BYTES_OF_EACH: usize = 64 << 10;

/// Blocks that the magazine of a medium class may have.
fn medium_capacity(class: usize) -> usize {
    let of_all = if options::is_secure() {
        // A guard each, of which there are not many.
        0
    } else {
        MEDIUM_BYTES_OF_ALL / thread::count_in_use().max(1)
    };
    let bytes = of_all.max(MEDIUM_BYTES_OF_EACH);
    capacity(class).min(bytes / block_bytes(class) + 1)
}

/// Of a class that has more than so many bytes of slices, all magazines together may have a part of what is more: where
/// many blocks are replaced one by one, more are free for a moment.
const FEW_BYTES: usize = 256 << 10;
const PART: usize = 16;

/// Small blocks that the magazine of a class may have on top of what any may.
fn share(class: usize) -> usize {
    let more = shelf::slices_bytes(class).saturating_sub(FEW_BYTES);
    let part = PART * thread::count_in_use().max(1) * block_bytes(class);
    // A short division: it is on the way of each turn.
    (more.min(u32::MAX as usize) as u32 / part.min(u32::MAX as usize) as u32) as usize
}

/// Bytes of blocks that stay in a heap whose thread has ended, and classes of which some do.
const LEFT_BYTES: usize = 16 << 10;
const LEFT_CLASSES: usize = 16;

/// Empty trays that a heap keeps of each kind.
const EMPTIES_MAX: usize = 8;

impl Heap {
    /// Makes a tray the magazine.
    fn set_magazine(&mut self, class: usize, tray: NonNull<Tray>) {
        // SAFETY: the tray is this heap's; the capacity is at most a tray's.
        unsafe {
            let first = tray::first_of(tray);
            let count = tray::open(tray);
            let limit = usize::from(self.capacities[class]).max(count);
            self.firsts[class] = first;
            self.bins[class].limit = first.add(limit);
            self.set_count(class, count);
        }
    }

    /// Blocks that the magazine may have by now.
    fn capacity_now(&self, class: usize) -> usize {
        if class > LARGE {
            // A few of each class would be megabytes.
            let is_used_often = self.turns[class] >= TURNS_MAX;
            return if is_used_often {
                medium_capacity(class)
            } else {
                0
            };
        }
        let doublings = self.turns[class] / TURNS_PER_DOUBLING;
        let most = capacity(class).min(usual_capacity(class) + share(class));
        most.min(FIRST_ENTRIES << doublings)
    }

    /// Counts a turn to the slow paths: for a class that serves others as well, two.
    fn count_turn(&mut self, class: usize) {
        let turns = 1 + u8::from(self.stands_in(class));
        self.turns[class] = (self.turns[class] + turns).min(TURNS_MAX);
    }

    /// Blocks in the magazine.
    pub(super) fn count(&self, class: usize) -> usize {
        (self.bins[class].top.addr() - self.firsts[class].addr()) / size_of::<Entry>()
    }

    /// Blocks that the magazine has room for.
    fn room(&self, class: usize) -> usize {
        (self.bins[class].limit.addr() - self.firsts[class].addr()) / size_of::<Entry>()
    }

    /// Takes the magazine's tray out, if it has one, with what is in it. The first magazine takes its place, empty and
    /// without room: the caller sees to another one.
    fn take_magazine(&mut self, class: usize) -> Option<NonNull<Tray>> {
        let mut tray = self.tray(class)?;
        // SAFETY: the tray is this heap's.
        unsafe { tray.as_mut() }.count = self.count(class);
        let first = self.first_magazine(class);
        self.firsts[class] = first;
        self.bins[class].limit = first;
        self.set_empty(class);
        Some(tray)
    }

    /// Gets blocks for an empty magazine. False: no memory.
    pub(super) fn get_blocks(&mut self, class: usize) -> bool {
        debug_assert!(self.is_empty(class));
        if !self.has_magazine(class) {
            return false;
        }
        if let Some(spare) = self.spares[class].pop() {
            self.replace_magazine(class, spare);
            return true;
        }
        self.active |= 1 << class;
        self.fetched |= 1 << class;
        self.count_turn(class);
        self.look_around(class);
        if let Some(tray) = shelf::take_offer(class) {
            self.replace_magazine(class, tray);
            return true;
        }
        self.grow(class);
        let heap = ptr::from_ref(self);
        // SAFETY: the magazine is empty and has room up to its limit.
        unsafe {
            // There is room for one even where none may stay.
            let (first, room) = (self.firsts[class], self.room(class));
            let mut rack = Rack::new(first);
            // Medium blocks are not carved.
            let (own, mut none) = (self.carving.get_mut(class), Carving::NONE);
            let own = own.unwrap_or(&mut none);
            shelf::fill(class, &mut rack, room.max(1), heap, own);
            let (has_blocks, places) = (rack.count > 0, own.places);
            self.set_count(class, rack.count);
            if places >= places_to_warm(class) && self.stands_in(class) {
                self.warm_up(class);
            }
            has_blocks
        }
    }

    /// A block of a class for which there is no memory for a magazine. None: nor is there any for that.
    #[cold]
    pub(super) fn get_one(&mut self, class: usize) -> Option<Entry> {
        let heap = ptr::from_ref(self);
        let mut entry = MaybeUninit::uninit();
        let (own, mut none) = (self.carving.get_mut(class), Carving::NONE);
        // SAFETY: there is room for one; the carving is this heap's.
        unsafe {
            let mut rack = Rack::new(entry.as_mut_ptr());
            let own = own.unwrap_or(&mut none);
            shelf::fill(class, &mut rack, 1, heap, own);
            if let Some(slice) = NonNull::new(mem::replace(&mut own.slice, ptr::null_mut())) {
                // Without a magazine the class is none of those that the heap looks after.
                shelf::open(class, slice);
            }
            rack.entries_mut().first().copied()
        }
    }

    /// Puts a filled tray in the place of an empty magazine.
    fn replace_magazine(&mut self, class: usize, tray: NonNull<Tray>) {
        if let Some(empty) = self.take_magazine(class) {
            self.drop_tray(class, empty);
        }
        self.set_magazine(class, tray);
    }

    /// An empty tray for a class. None: no memory.
    fn take_tray(&mut self, class: usize) -> Option<NonNull<Tray>> {
        let own = self.empties[tray::kind_of(class)].pop();
        own.or_else(|| tray::take(class))
    }

    /// Keeps an empty tray for the next time, or gives it to others.
    fn drop_tray(&mut self, class: usize, mut tray: NonNull<Tray>) {
        let empties = &mut self.empties[tray::kind_of(class)];
        // SAFETY: the tray was this heap's.
        unsafe {
            if empties.count < EMPTIES_MAX {
                tray.as_mut().count = 0;
                empties.push(tray);
            } else {
                tray::give(class, tray);
            }
        }
    }

    /// Lets the magazine have as many blocks as it may by now.
    fn grow(&mut self, class: usize) {
        let capacity = self.capacity_now(class);
        self.capacities[class] = capacity as u8;
        if self.room(class) >= capacity {
            return;
        }
        if self.tray(class).is_some() || capacity <= FIRST_ENTRIES {
            // SAFETY: a tray of the class has room for its capacity, the first magazine for so many.
            self.bins[class].limit = unsafe { self.firsts[class].add(capacity) };
        } else if let Some(tray) = self.take_tray(class) {
            self.move_to(class, tray);
        }
    }

    /// Makes room in a full magazine: lets it grow, or sends a part of it home; once the class has
    /// shown that it needs much, sets the tray aside, or gives the one set aside to others.
    pub(super) fn make_room(&mut self, class: usize) {
        if !self.has_magazine(class) {
            return;
        }
        self.count_turn(class);
        self.grow(class);
        if self.bins[class].top != self.bins[class].limit {
            return;
        }
        if self.turns[class] < TURNS_MAX {
            return self.send_part_home(class);
        }
        let Some(fresh) = self.take_tray(class) else {
            return self.send_home(class);
        };
        if let Some(full) = self.take_magazine(class) {
            // SAFETY: the tray was the magazine.
            unsafe { self.spares[class].push(full) };
            let mut has_parted = false;
            while self.spares[class].count > spares_max(class)
                && let Some(spare) = self.spares[class].pop_first()
            {
                self.part_with(class, spare);
                has_parted = true;
            }
            if has_parted {
                self.active |= 1 << class;
                self.look_around(class);
            }
            // `look_around` frees no block, so the magazine is still the empty first one.
            self.set_magazine(class, fresh);
        } else {
            // A class of so few blocks that the first magazine was enough: from now on in trays.
            self.move_to(class, fresh);
            self.make_room(class);
        }
    }

    /// Offers a tray to other threads. Where this one gets blocks of the class from elsewhere as well, what it
    /// has too many of goes home instead, so that it can get its own again.
    fn part_with(&mut self, class: usize, tray: NonNull<Tray>) {
        let has_fetched = (self.fetched | self.fetched_before) & (1 << class) != 0;
        // SAFETY: the tray was this heap's, and its blocks.
        unsafe {
            if has_fetched && class < LARGE && thread::has_threads() {
                shelf::take_home(class, tray::entries_of(tray));
                self.drop_tray(class, tray);
            } else {
                shelf::give(class, tray);
            }
        }
    }

    /// Moves what is in the first magazine to a tray, which takes its place.
    fn move_to(&mut self, class: usize, mut tray: NonNull<Tray>) {
        let count = self.count(class);
        // SAFETY: the first magazine has so many blocks, and a tray has room for them.
        unsafe {
            ptr::copy_nonoverlapping(self.firsts[class], tray::first_of(tray), count);
            tray.as_mut().count = count;
        }
        self.set_magazine(class, tray);
    }

    /// Gives the half of the magazine back that was freed first.
    fn send_part_home(&mut self, class: usize) {
        let count = self.count(class);
        if count == 0 {
            return;
        }
        let (part, first) = (count.div_ceil(2), self.firsts[class]);
        // SAFETY: the magazine has so many blocks, which are this heap's.
        unsafe {
            shelf::take_home(class, core::slice::from_raw_parts(first, part));
            ptr::copy(first.add(part), first, count - part);
            self.set_count(class, count - part);
        }
        self.active |= 1 << class;
        self.look_around(class);
    }

    /// Gives all blocks of the magazine back to their slices.
    fn send_home(&mut self, class: usize) {
        let (count, first) = (self.count(class), self.firsts[class]);
        // SAFETY: the magazine has so many blocks, which are this heap's.
        unsafe { shelf::take_home(class, core::slice::from_raw_parts(first, count)) };
        self.set_empty(class);
    }

    /// Whether this heap has nothing of a class: it took none, or gave all away and has taken none since.
    fn is_untouched(&self, class: usize) -> bool {
        self.turns[class] == 0 && self.is_empty(class)
    }

    /// Gives all blocks of a class to whoever needs them.
    fn give_class(&mut self, class: usize) {
        while let Some(spare) = self.spares[class].pop() {
            // SAFETY: the tray was this heap's, and its blocks.
            unsafe { shelf::give(class, spare) };
        }
        if self.count(class) > 0 {
            self.send_home(class);
        }
        let stands_in = self.stands_in(class);
        if let Some(carving) = self.carving.get_mut(class)
            && stands_in
        {
            // So much was not needed at a time.
            carving.places = 0;
        }
        if let Some(carving) = self.carving.get_mut(class)
            && let Some(slice) = NonNull::new(mem::replace(&mut carving.slice, ptr::null_mut()))
        {
            // SAFETY: `fill` has set it, and it is this heap's no more.
            unsafe { shelf::open(class, slice) };
        }
        if let Some(empty) = self.take_magazine(class) {
            self.drop_tray(class, empty);
        }
        let capacity = self.capacity_now(class);
        self.capacities[class] = capacity as u8;
        let count = capacity.min(FIRST_ENTRIES);
        // SAFETY: the magazine is the first one now, which has room for so many.
        self.bins[class].limit = unsafe { self.firsts[class].add(count) };
    }

    /// Gives away what is much, before the thread ends. With the rest the next one begins: threads that need a few
    /// blocks and end are not to get them from home, and send them there, each.
    pub(super) fn give_most(&mut self) {
        let (mut bytes_left, mut classes_left) = (LEFT_BYTES, LEFT_CLASSES);
        for class in self.classes() {
            if self.is_untouched(class) {
                continue;
            }
            let bytes = self.count(class) * block_bytes(class);
            let is_little = class < LARGE && self.spares[class].count == 0;
            if is_little && (1..=bytes_left).contains(&bytes) && classes_left > 0 {
                (bytes_left, classes_left) = (bytes_left - bytes, classes_left - 1);
                continue;
            }
            self.turns[class] = 0;
            self.give_class(class);
            if let Some(carving) = self.carving.get_mut(class) {
                carving.places = 0;
            }
        }
        self.give_empties();
    }

    /// Gives all blocks away.
    pub(super) fn give_all(&mut self) {
        for class in self.classes() {
            if !self.is_untouched(class) {
                self.give_class(class);
            }
        }
        self.give_empties();
    }

    fn give_empties(&mut self) {
        for kind in 0..tray::KINDS {
            while let Some(empty) = self.empties[kind].pop() {
                // SAFETY: the tray was this heap's.
                unsafe { tray::give_kind(kind, empty) };
            }
        }
    }

    /// From time to time, and when the store has grown: gives away what this thread has not needed lately.
    /// From time to time it also has the process's idle memory go back to the system. `class` is the one that
    /// turned to a slow path.
    fn look_around(&mut self, class: usize) {
        let growths = tick::growths();
        if self.growths != growths {
            self.growths = growths;
            self.give_inactive(class, true);
            return tick::answer_growth();
        }
        // The clock costs as much as half a tray does.
        if self.turns_left > 0 {
            self.turns_left -= 1;
            return;
        }
        self.turns_left = TURNS_BETWEEN_LOOKS;
        let due_ms = tick::now_if_due();
        let now_ms = due_ms.unwrap_or_else(tick::last_ms);
        if self.looked_ms == 0 {
            // This heap is older than the first look at the clock.
            self.looked_ms = now_ms;
        }
        if now_ms.wrapping_sub(self.looked_ms) >= tick::THREAD_MS {
            self.looked_ms = now_ms;
            (self.fetched_before, self.fetched) = (self.fetched, 0);
            self.give_inactive(class, false);
        }
        if let Some(now_ms) = due_ms {
            tick::work(now_ms);
        }
    }

    /// Gives away what was not needed since the last time; where the store has grown, medium blocks that
    /// were as well. The class `now` is needed.
    fn give_inactive(&mut self, now: usize, has_grown: bool) {
        for class in self.classes() {
            if self.is_untouched(class) {
                continue;
            }
            let is_active = self.active & (1 << class) != 0;
            if !is_active {
                self.turns[class] = 0;
            }
            if !is_active || has_grown && class > LARGE {
                self.give_class(class);
            }
        }
        self.active = 1 << now;
    }
}
