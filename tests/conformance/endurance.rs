//! Starting and stopping leaves nothing behind: no file, no thread, no listed instance. The benchmark `density` does
//! the same ten thousand times and weighs the memory.

use std::time::Duration;

use wasmatrix_tests::{Case, Node, executors};

/// Times that each executor starts and stops.
const CYCLES: usize = 200;
/// Times before the first count: pools and caches fill.
const WARM: usize = 20;

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("Linux tells").count()
}

/// This needs the process to itself: other tests open files too. So it runs in one of its own.
#[test]
fn nothing_is_left_behind() {
    const ALONE: &str = "WASMATRIX_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let child = std::process::Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "endurance::nothing_is_left_behind", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .expect("it can be started again");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(child.status.success(), "{}{}", said(&child.stdout), said(&child.stderr));
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
    runtime.block_on(async {
        for executor in executors() {
            let node = Node::new().await;
            let cycle = async |index: usize| {
                let name = format!("cycle-{index}");
                node.start(&Case::of(*executor, "sleeper").name(&name)).await.expect("it starts");
                node.agent.stop(&name, Duration::ZERO).await.expect("it stops");
                node.agent.remove(&name).await.expect("it is forgotten");
            };
            for index in 0..WARM {
                cycle(index).await;
            }
            let (files, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
            for index in WARM..CYCLES {
                cycle(index).await;
            }
            assert!(node.agent.list(None, 1).is_empty());
            // A pool may hold a few more than it did, but what grows with the cycles is a leak.
            let slack = CYCLES / 10;
            assert!(
                count("/proc/self/fd") <= files + slack,
                "{executor}: {files} files became {}",
                count("/proc/self/fd")
            );
            assert!(
                count("/proc/self/task") <= threads + slack,
                "{executor}: {threads} threads became {}",
                count("/proc/self/task")
            );
        }
    });
}
