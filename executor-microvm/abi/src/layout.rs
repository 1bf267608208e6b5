//! Where things are: guest-virtual addresses, ports. Where they are physically is the host's own business.
//!
//! ```text
//!  virtual (ring 3 sees)
//!  0x00_0000_0000  nothing, ever
//!  0x00_0010_0000  GDT IDT TSS stub (ring 0)
//!  0x00_0020_0000  image: code and constants, shared, read-only; then its data
//!  0x00_1000_0000  request, response
//!  0x00_2000_0000  stack
//!  0x00_4000_0000  heap
//!  0x10_0000_0000  artifact: compiled Wasm, shared, read-only
//! 0x100_0000_0000  linear memories, 4 GiB and a guard for each
//! ```
//!
//! All addresses are in the lower half, because that is what a paravirtual KVM maps. Of request, response and heap
//! the host makes more present when the guest first touches it.

/// A page, in bytes.
pub const PAGE_BYTES: u64 = 4096;
/// A large page, in bytes.
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// A guest asks its host by writing a request's length here, as four bytes.
pub const HYPERCALL_PORT: u16 = 0x510;
/// The ring-0 stub reports an exception by writing its vector here, as one byte. Closed to ring 3.
pub const TRAP_PORT: u8 = 0x21;

/// Where supervisor pages begin.
pub const SUPERVISOR: u64 = 0x10_0000;
/// Where the image begins; its first instruction is its entry.
pub const IMAGE: u64 = 0x20_0000;
/// Where ring 3 goes on after an exception: (instruction, frame pointer, whether an address faulted, the address)
/// in the registers of the first four arguments.
pub const TRAP_ENTRY: u64 = IMAGE + 16;
/// Where ring 3 goes on in a machine that is made from what another one wrote before it parked.
pub const RESUME_ENTRY: u64 = IMAGE + 32;

/// Most bytes that one call of a component hands to its host, or takes from it; the same as in process.
pub const CALL_BYTES_MAX: u32 = 16 << 20;

/// Most bytes that a program may write to a standard stream, or is given to read, at a time; the same as in process.
pub const STREAM_BYTES_MAX: u32 = 64 << 10;

/// Where a guest writes its request.
pub const REQUEST: u64 = 0x1000_0000;
/// Longest request, in bytes.
pub const REQUEST_BYTES_MAX: u32 = CALL_BYTES_MAX + (1 << 20);
/// Where the response's length stands, in four bytes.
pub const RESPONSE_LENGTH: u64 = 0x1200_0000;
/// Where the response begins.
pub const RESPONSE: u64 = RESPONSE_LENGTH + 8;
/// Longest response, in bytes.
pub const RESPONSE_BYTES_MAX: u32 = REQUEST_BYTES_MAX - 8;

/// Where the stack begins. Below it is nothing.
pub const STACK: u64 = 0x2000_0000;
/// The stack, in bytes: Wasm's own, and as much again for the host functions that run above it.
pub const STACK_BYTES: u64 = 2 << 20;

/// Where the runtime's heap begins.
pub const HEAP: u64 = 0x4000_0000;
/// The runtime's heap, in bytes: its records of the component, and the values that cross into it.
pub const HEAP_BYTES: u64 = 128 << 20;

/// Where compiled code begins.
pub const ARTIFACT: u64 = 0x10_0000_0000;
/// Most bytes of compiled code.
pub const ARTIFACT_BYTES_MAX: u64 = 1 << 30;

/// Where linear memories begin.
pub const MEMORIES: u64 = 0x100_0000_0000;
/// Where linear memories end.
pub const MEMORIES_END: u64 = 0x200_0000_0000;
