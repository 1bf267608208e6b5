//! What every executor must do alike: each case runs on each executor, and the outcome is the same to the byte.
//!
//! A case says what a guest does and what must come of it. `everywhere` runs it on every line of
//! [`wasmatrix_tests::executors`] and compares the outcomes with each other before it hands one over, so a case can't
//! forget an executor, and two executors can't be wrong in two ways.

#![expect(clippy::panic, reason = "a test that can't go on says why")]

mod bounds;
mod clients;
mod console;
mod crashes;
mod endurance;
mod generations;
mod keyvalue;
mod limits;
mod refusals;
mod walls;

use wasmatrix_model::{ExitCause, Failure};
use wasmatrix_tests::{Case, Node, Outcome, executors};

/// Runs the case on every executor, on a node of its own each time, and gives the outcome that they agree on.
async fn everywhere(case: impl Fn(Case) -> Case, guest: &str) -> Outcome {
    let mut agreed: Option<Outcome> = None;
    for executor in executors() {
        let outcome =
            Node::new().await.run(case(Case::of(*executor, guest))).await.expect("the guest starts");
        match &agreed {
            None => agreed = Some(outcome),
            Some(first) => {
                assert_eq!(
                    comparable(&outcome),
                    comparable(first),
                    "{executor} differs from {}",
                    executors()[0]
                );
            }
        }
    }
    agreed.expect("there is an executor")
}

/// The outcome without the offset of the trapping instruction, which executors tell to the instruction or to the end
/// of it, depending on the code around it.
fn comparable(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    if let ExitCause::Trapped { backtrace, .. } = &mut outcome.cause
        && let Some(innermost) = backtrace.first_mut()
    {
        innermost.offset = None;
    }
    outcome
}

/// Runs steps of the probe on every executor, and gives the lines that they agree on. The probe must end well.
async fn probe(grants: &[&str], steps: &[&str]) -> Vec<String> {
    let outcome = everywhere(|case| case.args(steps.iter().copied()).grants(grants), "probe").await;
    assert_eq!(outcome.cause, ExitCause::Exited { code: 0 }, "{}{}", outcome.stdout, outcome.stderr);
    outcome.stdout.lines().map(str::to_owned).collect()
}

/// Tries to start these bytes on every executor, and gives the refusal that they agree on.
async fn refused(bytes: &[u8]) -> Failure {
    let mut agreed: Option<Failure> = None;
    for executor in executors() {
        let node = Node::new().await;
        let case = Case::with(*executor, bytes.to_vec()).name("refused");
        let failure = node.start(&case).await.expect_err("this must not start");
        match &agreed {
            None => agreed = Some(failure),
            Some(first) => {
                assert_eq!((failure.code, &failure.message), (first.code, &first.message), "{executor}")
            }
        }
    }
    agreed.expect("there is an executor")
}
