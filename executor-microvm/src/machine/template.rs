//! What machines begin with: the memory of a machine whose guest has parked, and nothing else of it.
//!
//! A template is made before any run is known. That of the image depends on the image alone. That of an artifact
//! depends on its code too: its guest has loaded the code, and, where instantiating runs none of it, instantiated it.
//! A template is only ever read; a machine made from it has a copy.

use std::sync::Arc;

use wasmatrix_microvm_abi::{
    End, Request, Response,
    engine::AHEAD_MEMORY_BYTES_MAX,
    layout::{ARTIFACT, PAGE_BYTES, RESUME_ENTRY},
};

use super::{
    GuestMemory, Machine, MachineError, Step, Violation,
    ground::{Ground, IMAGE_AT},
    guest_memory::{CODE_AT, HEAP_AT, LINEAR_AT, REQUEST_AT, RESPONSE_AT, State},
    tables::{Access, OutOfTables, Page},
};
use crate::{
    compile::Code,
    image::Image,
    probe::Hypervisor,
    sys::{Frozen, Kicker, create},
};

/// Pages that are zero in a template and that a run of any size writes, so that they are taken from the system ahead of
/// it: those at the end of the stack, in bytes.
const STACK_TOUCHED_BYTES: u64 = 32 << 10;
/// And those of the heap, behind what it holds already.
const HEAP_TOUCHED_BYTES: u64 = 32 << 10;
/// And those of linear memory, on both sides of what it holds already: a stack grows down from data, a heap up.
const LINEAR_TOUCHED_BYTES: u64 = 8 << 10;
/// Compiled code that is touched ahead of a run, in bytes. Of more code a run needs a part that nobody knows.
const CODE_TOUCHED_BYTES: u64 = 256 << 10;

/// What machines begin with.
#[derive(Debug)]
pub(crate) struct Template {
    image: Arc<Frozen>,
    /// The compiled code, and where in physical memory it is.
    code: Option<(Arc<Code>, u64)>,
    state: State,
    /// Where physical memory ends.
    end: u64,
    /// What is not zero, in stretches of whole pages: where, and the bytes.
    contents: Vec<(u64, Vec<u8>)>,
    /// Stretches that are zero and will be written soon: where, and how long.
    touched: Vec<(u64, u64)>,
    /// What a run of any kind touches, in the guest's addresses.
    familiar: Vec<(u64, u64)>,
    /// What was instantiated; `None`: that is left to the run.
    instantiated: Option<Instantiated>,
}

/// What a component has from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instantiated {
    /// All linear memories together, in bytes.
    pub(crate) memory_bytes: u64,
    /// All tables together, in elements.
    pub(crate) table_elements: u64,
}

impl Template {
    /// Boots the image.
    ///
    /// # Errors
    /// KVM refuses, or the image does not come up.
    pub(crate) fn of_image(hypervisor: &Hypervisor, image: &Image) -> Result<Self, MachineError> {
        let mut machine = Machine::new(hypervisor, image, hypervisor.features)?;
        expect(&mut machine, |request| matches!(request, Request::Ready))?;
        Ok(Self::capture(&machine, Arc::clone(&image.shared), None))
    }

    /// Loads code into a machine made from this template of the image, and instantiates it where that runs none of it.
    ///
    /// # Errors
    /// KVM refuses, or the guest refuses the code.
    pub(crate) fn with_code(&self, hypervisor: &Hypervisor, code: &Arc<Code>) -> Result<Self, MachineError> {
        let mut state = self.state.clone();
        state.text = ARTIFACT + code.text.start..ARTIFACT + code.text.end;
        let code = (Arc::clone(code), self.end);
        let mut machine = self.assemble(hypervisor, state, self.end + code.0.shared.bytes(), Some(&code))?;
        machine.map_code(&code.0, code.1)?;
        machine.tell(&Response::Load { artifact_bytes: code.0.bytes })?;
        expect(&mut machine, |request| matches!(request, Request::Loaded))?;
        let loaded = Self::capture(&machine, Arc::clone(&self.image), Some(code.clone()));
        if code.0.runs_at_instantiation {
            return Ok(loaded);
        }
        machine.tell(&Response::Instantiate)?;
        // What can't be done ahead is done, or fails, in the run itself.
        Ok(match instantiate(&mut machine) {
            Some(instantiated) => Self {
                instantiated: Some(instantiated),
                ..Self::capture(&machine, Arc::clone(&self.image), Some(code))
            },
            None => loaded,
        })
    }

    /// What was instantiated ahead.
    pub(crate) const fn instantiated(&self) -> Option<Instantiated> {
        self.instantiated
    }

    /// As [`Self::machine`], and takes its time to make the run that comes quicker: has the guest touch what any run
    /// touches.
    ///
    /// # Errors
    /// KVM refuses, or the guest does something else.
    pub(crate) fn machine_ahead(&self, hypervisor: &Hypervisor) -> Result<Machine, MachineError> {
        let mut machine = self.machine(hypervisor)?;
        machine.tell(&Response::Touch { stretches: self.familiar.clone() })?;
        expect(&mut machine, |request| matches!(request, Request::Loaded | Request::Instantiated { .. }))?;
        Ok(machine)
    }

    /// Makes a machine that is where the template's was when it parked.
    ///
    /// # Errors
    /// KVM refuses.
    pub(crate) fn machine(&self, hypervisor: &Hypervisor) -> Result<Machine, MachineError> {
        self.assemble(hypervisor, self.state.clone(), self.end, self.code.as_ref())
    }

    fn assemble(
        &self,
        hypervisor: &Hypervisor,
        state: State,
        end: u64,
        code: Option<&(Arc<Code>, u64)>,
    ) -> Result<Machine, MachineError> {
        let (vcpu, slots) = create(&hypervisor.kvm, &hypervisor.cpuid)?;
        let code = code.map(|(code, at)| (*at, &code.shared));
        let ground = Ground::lay(slots, &self.image, end, code)?;
        for (at, bytes) in &self.contents {
            ground.populate(*at, bytes.len() as u64);
            ground.write(*at, bytes).map_err(OutOfTables::from)?;
        }
        for (at, bytes) in &self.touched {
            ground.populate(*at, *bytes);
        }
        Machine::begin(vcpu, GuestMemory::with(ground, state), RESUME_ENTRY, 0)
    }

    fn capture(machine: &Machine, image: Arc<Frozen>, code: Option<(Arc<Code>, u64)>) -> Self {
        let GuestMemory { ground, state, .. } = &machine.memory;
        let (state, end) = (state.clone(), ground.end());
        // Between these lies the code.
        let later = code.as_ref().map_or(CODE_AT, |(code, at)| at + code.shared.bytes());
        let mut contents = Vec::new();
        for range in [0..CODE_AT, later..end] {
            let is_free = |at: u64| state.linear.contains(&at);
            for at in range.step_by(PAGE_BYTES as usize).filter(|at| !is_free(*at)) {
                add_page(&mut contents, ground, at);
            }
        }
        let mut touched = vec![
            (REQUEST_AT, PAGE_BYTES),
            (RESPONSE_AT, PAGE_BYTES),
            (HEAP_AT - STACK_TOUCHED_BYTES, STACK_TOUCHED_BYTES),
        ];
        let ends = |(at, bytes): &(u64, Vec<u8>)| at + bytes.len() as u64;
        touched.extend(
            contents.iter().map(ends).find(|end| *end > HEAP_AT).map(|end| (end, HEAP_TOUCHED_BYTES)),
        );
        for stretch in contents.iter().filter(|stretch| stretch.0 >= LINEAR_AT) {
            touched
                .push((stretch.0.saturating_sub(LINEAR_TOUCHED_BYTES).max(LINEAR_AT), LINEAR_TOUCHED_BYTES));
            touched.push((ends(stretch), LINEAR_TOUCHED_BYTES));
        }
        let mut template =
            Self { image, code, state, end, contents, touched, familiar: Vec::new(), instantiated: None };
        template.familiar = template.find_familiar(ground);
        template
    }

    /// Which pages a run touches that no run has touched: those with contents, those that are written soon, the image,
    /// and code, if there is not much of it.
    fn find_familiar(&self, ground: &Ground) -> Vec<(u64, u64)> {
        let mut code_bytes_left = CODE_TOUCHED_BYTES;
        let mut familiar: Vec<(u64, u64)> = Vec::new();
        let written = self.contents.iter().map(|(at, bytes)| (*at, bytes.len() as u64));
        let written: Vec<(u64, u64)> = written.chain(self.touched.iter().copied()).collect();
        for page in self.state.tables.pages(ground).into_iter().filter(Page::is_of_ring3) {
            let is_written = |(at, bytes): &(u64, u64)| (*at..at + bytes).contains(&page.physical);
            let is_familiar = page.physical >= IMAGE_AT || written.iter().any(is_written) || {
                let is_code = page.is_executable() && code_bytes_left > 0;
                code_bytes_left = code_bytes_left.saturating_sub(if is_code { page.bytes } else { 0 });
                is_code
            };
            match familiar.last_mut() {
                _ if !is_familiar => {}
                Some((at, bytes)) if *at + *bytes == page.address => *bytes += page.bytes,
                _ => familiar.push((page.address, page.bytes)),
            }
        }
        familiar
    }
}

/// Adds a page that is not zero.
fn add_page(contents: &mut Vec<(u64, Vec<u8>)>, ground: &Ground, at: u64) {
    let mut page = [0; PAGE_BYTES as usize];
    if ground.read(at, &mut page).is_err() || page.iter().all(|byte| *byte == 0) {
        return;
    }
    match contents.last_mut() {
        Some((start, bytes)) if *start + bytes.len() as u64 == at => bytes.extend_from_slice(&page),
        _ => contents.push((at, page.to_vec())),
    }
}

impl Machine {
    /// Maps compiled code that is in physical memory there.
    pub(super) fn map_code(&mut self, code: &Code, physical: u64) -> Result<(), MachineError> {
        let bytes = code.shared.bytes();
        let text =
            code.text.start / PAGE_BYTES * PAGE_BYTES..code.text.end.next_multiple_of(PAGE_BYTES).min(bytes);
        for (range, access) in [
            (0..text.start, Access::CONSTANT),
            (text.clone(), Access::CODE),
            (text.end..bytes, Access::CONSTANT),
        ] {
            self.memory.map(
                ARTIFACT + range.start,
                physical + range.start,
                range.end - range.start,
                access,
            )?;
        }
        Ok(())
    }

    fn tell(&mut self, response: &Response) -> Result<(), MachineError> {
        if self.answer(response) { Ok(()) } else { Err(MachineError::Boot("it can't be answered".into())) }
    }
}

/// Runs the machine until it has asked for something.
fn ask<T>(machine: &mut Machine, look: impl FnOnce(Request<'_>) -> T) -> Result<T, Violation> {
    let mut buffer = Vec::new();
    match machine.step(&Kicker::default(), &mut buffer)? {
        Step::Request(length) => Ok(look(Request::parse(&buffer[..length])?)),
        Step::Kicked => Err(Violation::OutOfTurn),
    }
}

/// Runs the machine until it has parked as it should.
fn expect(machine: &mut Machine, is: impl FnOnce(&Request<'_>) -> bool) -> Result<(), MachineError> {
    let parked = ask(machine, |request| match request {
        Request::End(End::RuntimeFailed { message }) => Err(message),
        request if is(&request) => Ok(()),
        _ => Err("it asked for something else than it should".into()),
    });
    parked.map_err(|violation| MachineError::Boot(violation.to_string()))?.map_err(MachineError::Boot)
}

/// Serves a guest that instantiates ahead of its run: with memory, and with nothing else. `None`: it did not come to
/// the end of that.
fn instantiate(machine: &mut Machine) -> Option<Instantiated> {
    enum Asked {
        Memory { address: u64, bytes: u64 },
        Done(Instantiated),
        More,
    }
    machine.memory.admit(AHEAD_MEMORY_BYTES_MAX);
    loop {
        let asked = ask(machine, |request| match request {
            Request::Commit { address, bytes } => Asked::Memory { address, bytes },
            Request::Instantiated { memory_bytes, table_elements } => {
                Asked::Done(Instantiated { memory_bytes, table_elements })
            }
            _ => Asked::More,
        });
        match asked {
            Ok(Asked::Memory { address, bytes }) => {
                let answer = if machine.memory.commit(address, bytes) { Response::Yes } else { Response::No };
                machine.tell(&answer).ok()?;
            }
            Ok(Asked::Done(instantiated)) => return Some(instantiated),
            Ok(Asked::More) | Err(_) => return None,
        }
    }
}
