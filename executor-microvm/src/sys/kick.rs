//! Interrupts a vCPU that runs, from another thread.
//!
//! ```text
//!  away ──take_seat──► seated ──drop──► away        kick while seated: immediate_exit and a signal
//!    └──kick──► pending ──take_seat──► away (refused: the vCPU must not enter)
//! ```
//!
//! A kick is never lost: it ends the run that is under way, and forbids the next, since the one under way may just have
//! ended by itself. A vCPU that was kicked in vain is asked to run once more.

use std::{
    mem,
    ptr::{self, NonNull},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
};

use kvm_ioctls::VcpuFd;

/// Interrupts one vCPU.
#[derive(Debug, Default)]
pub(crate) struct Kicker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: bool,
    seated: Option<Seated>,
}

/// A thread that is in KVM_RUN, or just before or after it.
#[derive(Debug)]
struct Seated {
    thread: libc::pthread_t,
    immediate_exit: NonNull<u8>,
}

// SAFETY: the pointer is only used under the lock, while the seat that owns it exists; see `kick`.
unsafe impl Send for Seated {}

/// Held while a thread runs the vCPU.
pub(super) struct Seat<'a>(&'a Kicker);

impl Kicker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interrupts the vCPU, now or when it is next to run.
    pub(crate) fn kick(&self) {
        let mut state = self.lock();
        // Whoever is seated may have stopped already, for another reason, and must not sit down again.
        state.pending = true;
        interrupt(&state);
    }

    /// Interrupts the vCPU if it runs now.
    pub(crate) fn nudge(&self) {
        interrupt(&self.lock());
    }

    /// Says that this thread is about to run the vCPU. `None`: it was kicked, and must not.
    pub(super) fn take_seat(&self, vcpu: &mut VcpuFd) -> Option<Seat<'_>> {
        install_handler();
        let mut state = self.lock();
        vcpu.set_kvm_immediate_exit(0);
        if mem::take(&mut state.pending) {
            return None;
        }
        let immediate_exit = NonNull::from(&mut vcpu.get_kvm_run().immediate_exit);
        // SAFETY: always sound; it names the calling thread.
        let thread = unsafe { libc::pthread_self() };
        state.seated = Some(Seated { thread, immediate_exit });
        Some(Seat(self))
    }
}

/// Interrupts whoever is seated; the state is that under the lock.
fn interrupt(state: &State) {
    if let Some(seated) = &state.seated {
        // SAFETY: the byte lies in the vCPU's kvm_run page, which stays mapped while its seat exists, and the seat
        // can't be given up while the lock is held. The kernel and we only ever access it as one byte.
        let immediate_exit = unsafe { AtomicU8::from_ptr(seated.immediate_exit.as_ptr()) };
        immediate_exit.store(1, SeqCst);
        // SAFETY: the thread is alive, because it holds the seat, and the handler was installed when it took it.
        let _gone = unsafe { libc::pthread_kill(seated.thread, signal()) };
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.lock().seated = None;
    }
}

/// A real-time signal, which nothing else in the process has a meaning for.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

/// The signal must have a handler, or it would end the process; the handler has nothing to do, because the arrival
/// alone ends KVM_RUN.
fn install_handler() {
    extern "C" fn arrived(_signal: libc::c_int) {}
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // SAFETY: all zeroes is a valid value: no flags, so that system calls are interrupted, and an empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = arrived as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the action is initialised, the handler does nothing that is forbidden in one, and the old action
        // is not asked for.
        let _cannot_fail_for_a_valid_signal =
            unsafe { libc::sigaction(signal(), &raw const action, ptr::null_mut()) };
    });
}

#[cfg(test)]
mod tests {
    use kvm_ioctls::Kvm;

    use super::*;

    #[test]
    fn a_kick_that_comes_as_the_processor_stops_by_itself_is_not_lost() {
        let Ok(kvm) = Kvm::new() else { return };
        let vm = kvm.create_vm().unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let kicker = Kicker::default();
        let seat = kicker.take_seat(&mut vcpu).expect("nobody kicked it");
        kicker.nudge();
        kicker.kick();
        drop(seat);
        assert!(kicker.take_seat(&mut vcpu).is_none(), "it was kicked");
        assert!(kicker.take_seat(&mut vcpu).is_some(), "once");
    }
}
