//! Watches over a guest while it lives: how long it has been running, how much it computes, whether it should stop.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use wasmatrix_executor_api::{Meter, Share};
use wasmatrix_model::{ExitCause, LimitKind, Limits};

/// Why a guest was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It had run for as long as it may.
    WallTime { allowed: Duration },
    /// It was asked to stop.
    Stopped,
}

impl From<Cut> for ExitCause {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::WallTime { allowed } => Self::LimitExceeded {
                limit: LimitKind::WallTime,
                message: format!("{allowed:?} are allowed and the run took longer"),
            },
            Cut::Stopped => Self::StopRequested,
        }
    }
}

/// A request to stop, once it is made.
#[derive(Default)]
pub(crate) struct StopSignal(watch::Sender<bool>);

impl StopSignal {
    /// Asks for a stop.
    pub(crate) fn request(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for a request.
    pub(crate) async fn requested(&self) {
        let mut requested = self.0.subscribe();
        // The sender is ourselves and outlives the call.
        let _ = requested.wait_for(|requested| *requested).await;
    }
}

/// Polls the guest, and counts.
pub(crate) struct Supervisor {
    begun: Instant,
    wall_time_max: Option<Duration>,
    share: Share,
    stop: Arc<StopSignal>,
    meter: Arc<Meter>,
}

impl Supervisor {
    /// Begins to count now.
    pub(crate) fn new(limits: &Limits, stop: Arc<StopSignal>, meter: Arc<Meter>) -> Self {
        Self {
            begun: Instant::now(),
            wall_time_max: limits.wall_time_max,
            share: Share::new(limits.cpu_millis_per_second),
            stop,
            meter,
        }
    }

    /// Runs the guest's code to its end, unless it is cut short. What is cut is dropped, and with it all it waited
    /// for.
    pub(crate) async fn attend<T>(&mut self, guest: impl Future<Output = T>) -> Result<T, Cut> {
        let (begun, wall_time_max, stop) = (self.begun, self.wall_time_max, Arc::clone(&self.stop));
        let too_long = async {
            match wall_time_max {
                // A deadline beyond the clock's end is none.
                Some(allowed) => match begun.checked_add(allowed) {
                    Some(deadline) => {
                        sleep_until(deadline).await;
                        allowed
                    }
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        // The guest comes last: a guest that is always ready must not keep the others from being looked at.
        tokio::select! {
            biased;
            allowed = too_long => Err(Cut::WallTime { allowed }),
            () = stop.requested() => Err(Cut::Stopped),
            ended = self.meter(guest) => Ok(ended),
        }
    }

    /// Polls the guest, adds up its computing, and lets it rest when it has had more than its share.
    async fn meter<T>(&mut self, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        loop {
            let step = poll_fn(|context| {
                let start = Instant::now();
                let polled = guest.as_mut().poll(context);
                let end = Instant::now();
                let used = end - start;
                self.meter.add_cpu_time(used);
                let rest = self.share.charge(end - self.begun, used);
                match (polled, rest) {
                    (Poll::Ready(ended), _) => Poll::Ready(Ok(ended)),
                    (Poll::Pending, Some(rest)) => Poll::Ready(Err(rest)),
                    (Poll::Pending, None) => Poll::Pending,
                }
            });
            match step.await {
                Ok(ended) => return ended,
                // Wake-ups that are missed at rest come to this task, which looks at the guest in any case.
                Err(rest) => sleep(rest).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::yield_now;

    use super::*;

    fn supervisor(limits: &Limits) -> (Supervisor, Arc<StopSignal>) {
        let stop = Arc::<StopSignal>::default();
        (Supervisor::new(limits, Arc::clone(&stop), Arc::default()), stop)
    }

    #[tokio::test]
    async fn wall_time_counts_from_the_beginning_and_over_all_that_is_attended() {
        let allowed = Duration::from_millis(50);
        let limits = Limits { wall_time_max: Some(allowed), ..Limits::default() };
        let begun = Instant::now();
        let (mut supervisor, _stop) = supervisor(&limits);
        assert_eq!(supervisor.attend(async { 7 }).await, Ok(7));
        let cut = supervisor.attend(pending::<()>()).await;
        assert_eq!(cut, Err(Cut::WallTime { allowed }));
        assert!(begun.elapsed() >= allowed);
        let again = supervisor.attend(pending::<()>()).await;
        assert_eq!(again, Err(Cut::WallTime { allowed }), "there is no second helping");
    }

    #[tokio::test]
    async fn a_stop_ends_who_waits_and_whoever_comes_after() {
        let (mut supervisor, stop) = supervisor(&Limits::default());
        assert_eq!(supervisor.attend(yield_now()).await, Ok(()));
        let stopper = async {
            yield_now().await;
            stop.request();
        };
        let (cut, ()) = tokio::join!(supervisor.attend(pending::<()>()), stopper);
        assert_eq!(cut, Err(Cut::Stopped));
        assert_eq!(supervisor.attend(async {}).await, Err(Cut::Stopped));
    }

    #[tokio::test]
    async fn who_is_in_debt_rests_unless_it_is_to_stop() {
        let limits = Limits { cpu_millis_per_second: 10, ..Limits::default() };
        let (mut supervisor, stop) = supervisor(&limits);
        // An hour of computing at a hundredth of a core is paid in days.
        supervisor.share.charge(Duration::ZERO, Duration::from_secs(3600));
        let stopper = async {
            yield_now().await;
            stop.request();
        };
        let (ended, ()) = tokio::join!(supervisor.attend(yield_now()), stopper);
        assert_eq!(ended, Err(Cut::Stopped));
    }
}
