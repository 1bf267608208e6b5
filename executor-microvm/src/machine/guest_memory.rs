//! A machine's memory, and what its guest has a say in of it: its requests, the linear memory that it asks for, the first
//! touch of what it may have. Everything here takes numbers from the guest, and none of it needs a machine that runs.

use std::ops::Range;

use wasmatrix_microvm_abi::{
    Response,
    layout::{
        HEAP, HEAP_BYTES, IMAGE, LARGE_PAGE_BYTES, MEMORIES, MEMORIES_END, PAGE_BYTES, REQUEST,
        REQUEST_BYTES_MAX, RESPONSE, RESPONSE_BYTES_MAX, RESPONSE_LENGTH, STACK, STACK_BYTES,
    },
};

use super::{
    MachineError, Violation,
    descriptors::{self, Descriptors},
    ground::{Ground, IMAGE_AT, Nowhere},
    reserve::Reserve,
    tables::{Access, OutOfTables, Tables},
};
use crate::image::Image;

/// Physical memory for page tables, descriptors and the image's data that every machine has, in bytes.
const SMALL_BYTES: u64 = 1 << 20;
/// Physical memory for all page tables that a machine may come to need, in bytes: tables for 4 GiB of linear memory
/// take half of it.
const TABLES_BYTES_MAX: u64 = 16 << 20;
/// Room for further page tables is taken in steps of so many bytes.
const TABLES_STEP_BYTES: u64 = 1 << 20;
/// Of a request and of a response, what every machine has room for, in bytes: what streams need.
const MESSAGE_BYTES: u64 = 128 << 10;
/// Of the heap, what every machine has, in bytes: most never need more.
const HEAP_BYTES_MIN: u64 = 2 << 20;
/// Linear memory that every machine has, in bytes. It costs little until it is touched.
const LINEAR_BYTES_MIN: u64 = 4 << 20;

/// Where all of that is in physical memory.
pub(super) const REQUEST_AT: u64 = SMALL_BYTES;
pub(super) const RESPONSE_AT: u64 = REQUEST_AT + MESSAGE_BYTES;
const STACK_AT: u64 = RESPONSE_AT + MESSAGE_BYTES;
pub(super) const HEAP_AT: u64 = STACK_AT + STACK_BYTES;
pub(super) const LINEAR_AT: u64 = HEAP_AT + HEAP_BYTES_MIN;
pub(super) const CODE_AT: u64 = LINEAR_AT + LINEAR_BYTES_MIN;

/// Of memory that becomes present in small pages, what is taken from the system at once, in bytes: a page that the
/// system has to find while the guest waits costs ten times as much.
const POPULATED_BYTES: u64 = LARGE_PAGE_BYTES;

/// A machine's memory.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    pub(super) ground: Ground,
    pub(super) state: State,
    /// Linear memory that it may have, in bytes.
    memory_bytes_max: u64,
}

/// What the host knows of a machine's memory, besides its contents.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) tables: Tables,
    /// Room that the tables were given, in bytes.
    tables_bytes: u64,
    pub(super) descriptors: Descriptors,
    request: Reserve,
    /// From the length on.
    response: Reserve,
    heap: Reserve,
    /// Physical memory that the next linear memory is taken from.
    pub(super) linear: Range<u64>,
    /// Linear memory that is present, in bytes.
    memory_bytes: u64,
    /// Where compiled code is, in the guest's addresses.
    pub(super) text: Range<u64>,
}

type Pick = fn(&mut State) -> &mut Reserve;

const REQUESTS: Pick = |state| &mut state.request;
const RESPONSES: Pick = |state| &mut state.response;
const RESERVES: [Pick; 3] = [REQUESTS, RESPONSES, |state| &mut state.heap];

impl State {
    fn new(tables: Tables, descriptors: Descriptors) -> Self {
        let response_bytes_max = u64::from(RESPONSE_BYTES_MAX) + (RESPONSE - RESPONSE_LENGTH);
        Self {
            tables,
            tables_bytes: SMALL_BYTES,
            descriptors,
            request: Reserve::new(REQUEST, REQUEST_BYTES_MAX.into(), REQUEST_AT, MESSAGE_BYTES),
            response: Reserve::new(RESPONSE_LENGTH, response_bytes_max, RESPONSE_AT, MESSAGE_BYTES),
            heap: Reserve::new(HEAP, HEAP_BYTES, HEAP_AT, HEAP_BYTES_MIN),
            linear: LINEAR_AT..LINEAR_AT + LINEAR_BYTES_MIN,
            memory_bytes: 0,
            text: 0..0,
        }
    }
}

impl GuestMemory {
    /// With the tables of that image, and its data.
    pub(super) fn of_image(ground: Ground, image: &Image) -> Result<Self, MachineError> {
        let mut tables = Tables::new(SMALL_BYTES)?;
        let descriptors = descriptors::write(&mut tables, &ground)?;
        for (address, physical, bytes) in [
            (REQUEST, REQUEST_AT, MESSAGE_BYTES),
            (RESPONSE_LENGTH, RESPONSE_AT, MESSAGE_BYTES),
            (STACK, STACK_AT, STACK_BYTES),
            (HEAP, HEAP_AT, HEAP_BYTES_MIN),
        ] {
            tables.map(&ground, address, physical, bytes, Access::DATA)?;
        }
        let (code_bytes, constants_bytes) = (image.code_bytes, image.shared.bytes() - image.code_bytes);
        let (constants, constants_at) = (IMAGE + code_bytes, IMAGE_AT + code_bytes);
        tables.map_large(&ground, IMAGE, IMAGE_AT, code_bytes, Access::CODE)?;
        tables.map_large(&ground, constants, constants_at, constants_bytes, Access::CONSTANT)?;
        let data_bytes = image.data.memory_bytes.next_multiple_of(PAGE_BYTES);
        let data_at = tables.allocate(data_bytes)?;
        ground.write(data_at, &image.data.bytes).map_err(OutOfTables::from)?;
        tables.map(&ground, image.data.address, data_at, data_bytes, Access::DATA)?;
        Ok(Self::with(ground, State::new(tables, descriptors)))
    }

    /// With contents that are in that state.
    pub(super) const fn with(ground: Ground, state: State) -> Self {
        Self { ground, state, memory_bytes_max: 0 }
    }

    /// Says how much linear memory the run may have, in bytes.
    pub(crate) fn admit(&mut self, memory_bytes_max: u64) {
        self.memory_bytes_max = memory_bytes_max.next_multiple_of(PAGE_BYTES);
    }

    /// Copies a request of that length into `buffer`, so that the guest can't change it any more, and gives the length.
    pub(crate) fn fetch(&mut self, length: u32, buffer: &mut Vec<u8>) -> Result<usize, Violation> {
        let bytes = length as usize;
        if length > REQUEST_BYTES_MAX {
            return Err(Violation::RequestLength(length));
        }
        self.ensure(REQUESTS, length.into()).map_err(Violation::of_host)?;
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        let mut rest = &mut buffer[..bytes];
        for (physical, part) in self.state.request.parts(length.into()) {
            let (now, later) = rest.split_at_mut(part);
            self.ground.read(physical, now).map_err(|Nowhere| Violation::RequestLength(length))?;
            rest = later;
        }
        Ok(bytes)
    }

    /// Answers the request. False: the answer is too long and was not given.
    pub(crate) fn answer(&mut self, response: &Response) -> bool {
        let bytes = response.encode();
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        let mut skip = RESPONSE - RESPONSE_LENGTH;
        let all_bytes = skip + u64::from(length);
        if length > RESPONSE_BYTES_MAX || self.ensure(RESPONSES, all_bytes).is_err() {
            return false;
        }
        let mut rest = &bytes[..];
        for (physical, part) in self.state.response.parts(all_bytes) {
            let (now, later) = rest.split_at(part - skip as usize);
            if self.ground.write(physical + skip, now).is_err() {
                return false;
            }
            (rest, skip) = (later, 0);
        }
        self.ground.write(RESPONSE_AT, &length.to_le_bytes()).is_ok()
    }

    /// Makes linear memory present, zeroed. False: it may not have so much, or not there.
    pub(crate) fn commit(&mut self, address: u64, bytes: u64) -> bool {
        let in_arena =
            address >= MEMORIES && address.checked_add(bytes).is_some_and(|end| end <= MEMORIES_END);
        let aligned = address.is_multiple_of(PAGE_BYTES) && bytes.is_multiple_of(PAGE_BYTES);
        if !in_arena || !aligned || bytes > self.memory_bytes_max.saturating_sub(self.state.memory_bytes) {
            return false;
        }
        // Pages are spent even if some of them were there already: who asks twice has less, and the count stays right.
        self.state.memory_bytes += bytes;
        self.take_linear(address, bytes).is_ok()
    }

    fn take_linear(&mut self, mut address: u64, mut bytes: u64) -> Result<(), MachineError> {
        while bytes > 0 {
            if self.state.linear.is_empty() {
                // As much again as it has: few slots, and no more than twice what it uses.
                let more = self.state.memory_bytes.max(LINEAR_BYTES_MIN) + LARGE_PAGE_BYTES;
                let physical = self.ground.extend(more.next_multiple_of(PAGE_BYTES))?;
                self.state.linear = physical..self.ground.end();
            }
            let linear = &mut self.state.linear;
            if bytes >= LARGE_PAGE_BYTES {
                linear.start += address.wrapping_sub(linear.start) % LARGE_PAGE_BYTES;
                linear.start = linear.start.min(linear.end);
            }
            let physical = linear.start;
            let part = bytes.min(linear.end - physical);
            linear.start += part;
            self.map_data(address, physical, part)?;
            (address, bytes) = (address + part, bytes - part);
        }
        Ok(())
    }

    /// Makes data present: in large pages, where there are any.
    fn map_data(&mut self, address: u64, physical: u64, bytes: u64) -> Result<(), MachineError> {
        let alike = address.wrapping_sub(physical).is_multiple_of(LARGE_PAGE_BYTES);
        let head = (address.next_multiple_of(LARGE_PAGE_BYTES) - address).min(bytes);
        let large = if alike { (bytes - head) / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES } else { 0 };
        if large == 0 {
            self.ground.populate(physical, bytes.min(POPULATED_BYTES));
            return self.map(address, physical, bytes, Access::DATA);
        }
        let (middle_at, end_at) = (physical + head, physical + head + large);
        self.make_room(bytes)?;
        self.ground.populate(physical, head);
        self.ground.prefer_large_pages(middle_at, large);
        let State { tables, .. } = &mut self.state;
        tables.map(&self.ground, address, physical, head, Access::DATA)?;
        tables.map_large(&self.ground, address + head, middle_at, large, Access::DATA)?;
        tables.map(&self.ground, address + head + large, end_at, bytes - head - large, Access::DATA)?;
        self.ground.populate(end_at, bytes - head - large);
        Ok(())
    }

    /// Maps small pages.
    pub(super) fn map(
        &mut self,
        address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), MachineError> {
        self.make_room(bytes)?;
        Ok(self.state.tables.map(&self.ground, address, physical, bytes, access)?)
    }

    /// Sees to it that the tables have room for a stretch of so many bytes.
    fn make_room(&mut self, bytes: u64) -> Result<(), MachineError> {
        let Some(needed) = self.state.tables.lacks(bytes) else { return Ok(()) };
        let more = needed.max(TABLES_STEP_BYTES);
        if self.state.tables_bytes + more > TABLES_BYTES_MAX {
            return Err(OutOfTables.into());
        }
        let at = self.ground.extend(more)?;
        self.state.tables_bytes += more;
        self.state.tables.go_on_at(at, more);
        Ok(())
    }

    /// Makes an address present that the guest may touch and has not touched before. False: it is none.
    pub(super) fn supply(&mut self, address: u64) -> Result<bool, MachineError> {
        for pick in RESERVES {
            if let Some(missing) = pick(&mut self.state).missing_at(address) {
                self.grow(pick, missing)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the beginning of a reserve present, so many bytes of it.
    fn ensure(&mut self, pick: Pick, bytes: u64) -> Result<(), MachineError> {
        match pick(&mut self.state).missing(bytes) {
            Some(missing) => self.grow(pick, missing),
            None => Ok(()),
        }
    }

    fn grow(&mut self, pick: Pick, (address, bytes): (u64, u64)) -> Result<(), MachineError> {
        let physical = self.ground.extend(bytes)?;
        self.map_data(address, physical, bytes)?;
        pick(&mut self.state).supply(physical, bytes);
        Ok(())
    }

    /// Linear memory that is present, in bytes.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.state.memory_bytes
    }
}

#[cfg(any(test, fuzzing))]
mod alone {
    use wasmatrix_microvm_abi::layout::{MEMORIES, MEMORIES_END};

    use super::{
        CODE_AT, Descriptors, Ground, GuestMemory, LINEAR_AT, MESSAGE_BYTES, REQUEST, REQUESTS, SMALL_BYTES,
        State, Tables,
    };
    use crate::machine::MachineError;

    impl GuestMemory {
        /// That of no machine, which may have so much linear memory.
        pub(crate) fn alone(memory_bytes_max: u64) -> Result<Self, MachineError> {
            let state = State::new(Tables::new(SMALL_BYTES)?, Descriptors::default());
            Ok(Self { memory_bytes_max, ..Self::with(Ground::alone(CODE_AT)?, state) })
        }

        /// What a guest does before it asks.
        pub(crate) fn write_request(&mut self, bytes: &[u8]) {
            self.ensure(REQUESTS, bytes.len() as u64).expect("it is no longer than a request may be");
            let mut rest = bytes;
            for (physical, part) in self.state.request.parts(bytes.len() as u64) {
                let (now, later) = rest.split_at(part);
                self.ground.write(physical, now).expect("it is there");
                rest = later;
            }
        }

        /// Whether no page leads anywhere but from the addresses of linear memories and messages to memory that is
        /// this guest's, every page to its own.
        pub(crate) fn check(&self) {
            assert!(self.state.memory_bytes <= self.memory_bytes_max, "it has more than it may");
            let pages = self.state.tables.pages(&self.ground);
            let mut taken = std::collections::HashSet::new();
            let mut linear_bytes = 0;
            for page in &pages {
                let (address, end) = (page.address, page.address + page.bytes);
                let is_linear = address >= MEMORIES && end <= MEMORIES_END;
                assert!(
                    is_linear || (REQUEST + MESSAGE_BYTES..super::STACK).contains(&address),
                    "a page at {address:#x}"
                );
                linear_bytes += if is_linear { page.bytes } else { 0 };
                let physical = page.physical;
                assert!(
                    physical >= LINEAR_AT && physical + page.bytes <= self.ground.end(),
                    "a page leads to {physical:#x}"
                );
                assert!(taken.insert(physical), "two pages lead to {physical:#x}");
            }
            assert!(linear_bytes <= self.state.memory_bytes, "more is present than was counted");
        }
    }
}
