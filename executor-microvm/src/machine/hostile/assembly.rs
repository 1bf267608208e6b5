//! Instructions written by hand, for guests that no compiler would make.

use wasmatrix_microvm_abi::{
    Request, Response,
    layout::{HYPERCALL_PORT, IMAGE, REQUEST, RESPONSE, RESUME_ENTRY},
};

use super::DATA;

/// How far a guest has come that parks, in the first byte of its data.
const PARKED_ONCE: u8 = 1;
const PARKED_TWICE: u8 = 2;

/// Code by hand, with jumps that go back or are filled in later.
#[derive(Default)]
pub(in crate::machine) struct Assembly(pub(in crate::machine) Vec<u8>);

impl Assembly {
    pub(in crate::machine) fn put(&mut self, code: &[u8]) -> usize {
        self.0.extend(code);
        self.0.len()
    }

    /// jcc or jmp, with four bytes to where.
    pub(in crate::machine) fn jump_back(&mut self, opcode: &[u8], to: usize) {
        let after = self.put(opcode) + 4;
        self.put(&(to as i32 - after as i32).to_le_bytes());
    }

    pub(in crate::machine) fn jump_ahead(&mut self, opcode: &[u8]) -> usize {
        self.put(opcode);
        self.put(&[0; 4])
    }

    pub(in crate::machine) fn land(&mut self, jump: usize) {
        let distance = (self.0.len() - jump) as i32;
        self.0[jump - 4..jump].copy_from_slice(&distance.to_le_bytes());
    }

    /// Writes a request and makes the hypercall.
    pub(in crate::machine) fn ask(&mut self, request: &[u8]) {
        for (at, byte) in (0_u8..).zip(request) {
            // mov byte [rax + at], byte
            self.put(&with_rax(REQUEST, &[0xc6, 0x40, at, *byte]));
        }
        self.put(&hypercall(request.len() as u32));
    }

    /// Parks as our own image does, twice: to be given code, and a run. It has to come first.
    pub(in crate::machine) fn park(&mut self) {
        let boot = self.jump_ahead(&[0xe9]);
        self.0.resize((RESUME_ENTRY - IMAGE) as usize, 0xcc);
        // cmp byte [rax], PARKED_ONCE; jne
        self.put(&with_rax(DATA, &[0x80, 0x38, PARKED_ONCE]));
        let answered = self.jump_ahead(&[0x0f, 0x85]);
        let load = self.jump_ahead(&[0xe9]);
        self.land(boot);
        // mov byte [rax], PARKED_ONCE
        self.put(&with_rax(DATA, &[0xc6, 0x00, PARKED_ONCE]));
        self.ask(&Request::Ready.encode());
        self.land(load);
        let again = self.0.len();
        // mov byte [rax], PARKED_TWICE
        self.put(&with_rax(DATA, &[0xc6, 0x00, PARKED_TWICE]));
        self.ask(&Request::Loaded.encode());
        self.land(answered);
        // cmp byte [rax], the first byte of an answer that wants it to park again; je
        let [touch, ..] = Response::Touch { stretches: Vec::new() }.encode()[..] else {
            panic!("an answer has a first byte")
        };
        self.put(&with_rax(RESPONSE, &[0x80, 0x38, touch]));
        self.jump_back(&[0x0f, 0x84], again);
    }

    /// For each range of a table, start and number of words each, until one of no words: does something with rcx words
    /// at rax.
    pub(in crate::machine) fn for_each_range(&mut self, table: u64, word: impl Fn(&mut Self)) {
        // mov rsi, table
        self.put(&[0x48, 0xbe]);
        let next_range = self.put(&table.to_le_bytes());
        // mov rax, [rsi]; mov rcx, [rsi + 8]; add rsi, 16; test rcx, rcx; jz done
        self.put(&[0x48, 0x8b, 0x06, 0x48, 0x8b, 0x4e, 0x08, 0x48, 0x83, 0xc6, 0x10, 0x48, 0x85, 0xc9]);
        let done = self.jump_ahead(&[0x0f, 0x84]);
        let next_word = self.0.len();
        word(self);
        // add rax, 8; dec rcx; jnz next_word; jmp next_range
        self.put(&[0x48, 0x83, 0xc0, 0x08, 0x48, 0xff, 0xc9]);
        self.jump_back(&[0x0f, 0x85], next_word);
        self.jump_back(&[0xe9], next_range);
        self.land(done);
    }

    /// Copies bytes from elsewhere into the request's pages, and makes the hypercall with another length, if need be.
    pub(in crate::machine) fn say(&mut self, from: u64, bytes: u32, claim: u32) {
        // mov rsi, from; mov rdi, REQUEST; mov ecx, bytes; rep movsb
        self.put(&[0x48, 0xbe]);
        self.put(&from.to_le_bytes());
        self.put(&[0x48, 0xbf]);
        self.put(&REQUEST.to_le_bytes());
        self.put(&[0xb9]);
        self.put(&bytes.to_le_bytes());
        self.put(&[0xf3, 0xa4]);
        self.put(&hypercall(claim));
    }

    /// Sets a bit of r15 if a word is the marker.
    pub(in crate::machine) fn look(&mut self, table: u64, bit: u8) {
        self.for_each_range(table, |code| {
            // cmp [rax], r12; jne on; or r15, bit
            code.put(&[0x4c, 0x39, 0x20]);
            let on = code.jump_ahead(&[0x0f, 0x85]);
            code.put(&[0x49, 0x83, 0xcf, bit]);
            code.land(on);
        });
    }
}

/// mov rax, value; then the rest.
pub(in crate::machine) fn with_rax(value: u64, rest: &[u8]) -> Vec<u8> {
    [&[0x48, 0xb8], &value.to_le_bytes()[..], rest].concat()
}

/// mov eax, value; mov dx, port; out dx, eax.
pub(in crate::machine) fn hypercall(length: u32) -> Vec<u8> {
    [&[0xb8], &length.to_le_bytes()[..], &[0x66, 0xba], &HYPERCALL_PORT.to_le_bytes(), &[0xef]].concat()
}
