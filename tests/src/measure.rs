//! How the benchmarks measure: samples, what this process holds, when a guest said something.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use wasmatrix_executor_api::{Closed, Console, Output};
use wasmatrix_model::LogLevel;

/// What a benchmark was told on its command line: sizes as `name=number`, and words that choose its parts.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    words: Vec<String>,
    sizes: Vec<(String, usize)>,
}

impl Arguments {
    /// Those of this process. What cargo adds by itself, and anything else that begins with a dash, is left out.
    pub fn here() -> Self {
        let mut arguments = Self::default();
        for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
            match argument.split_once('=').map(|(name, number)| (name, number.parse())) {
                Some((name, Ok(number))) => arguments.sizes.push((name.to_owned(), number)),
                Some(_) | None => arguments.words.push(argument),
            }
        }
        arguments
    }

    /// Whether that part is to be run: no word was given, or one that is in its name.
    pub fn want(&self, part: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| part.contains(word.as_str()))
    }

    /// The size of that name.
    pub fn size(&self, name: &str, default: usize) -> usize {
        self.sizes.iter().find(|(known, _)| known == name).map_or(default, |(_, size)| *size)
    }
}

/// Times of the same thing done several times. Never empty when it is read.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The median, in microseconds.
    ///
    /// # Panics
    /// There are no samples.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        micros(sorted[sorted.len() / 2])
    }

    /// The median of the ratios of each to its counterpart, for things measured in turns.
    ///
    /// # Panics
    /// There are no samples.
    pub fn ratio(&self, to: &Self) -> f64 {
        let mut ratios: Vec<f64> =
            self.0.iter().zip(&to.0).map(|(one, other)| micros(*one) / micros(*other)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }

    /// The quickest, in microseconds: what neighbours on a shared machine disturbed least.
    ///
    /// # Panics
    /// There are no samples.
    pub fn best(&self) -> f64 {
        micros(*self.0.iter().min().expect("something was measured"))
    }
}

/// A time in microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What this process holds of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Memory in KiB; a page that is mapped several times counts once.
    pub memory_kib: u64,
    /// What the kernel keeps for it in KiB: page tables of this process, and, of the whole system, its own memory,
    /// the page tables of virtual machines and the maps of their memory among it. Others on the machine blur it.
    pub kernel_kib: u64,
    /// Open files.
    pub files: usize,
    /// Threads.
    pub threads: u64,
}

impl Holdings {
    /// What it holds now.
    ///
    /// # Panics
    /// There is no `/proc`.
    pub fn now() -> Self {
        // The last are tables of KVM; an older kernel does not tell.
        let system = ["VmallocUsed:", "SUnreclaim:", "SecPageTables:"]
            .map(|name| field("/proc/meminfo", name).unwrap_or(0));
        let own = field("/proc/self/status", "VmPTE:").expect("Linux tells about page tables");
        Self {
            memory_kib: field("/proc/self/smaps_rollup", "Pss:").expect("Linux tells about memory"),
            kernel_kib: own + system.iter().sum::<u64>(),
            files: fs::read_dir("/proc/self/fd").expect("and about open files").count(),
            threads: field("/proc/self/status", "Threads:").expect("and about threads"),
        }
    }
}

/// The number behind that name in a file of `/proc`.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A console that notes when lines of standard output ended.
#[derive(Debug, Default)]
pub struct Stopwatch {
    lines: Mutex<Vec<Instant>>,
    more: Notify,
}

impl Stopwatch {
    /// Waits for the line with that index and says when it came.
    pub async fn line(&self, index: usize) -> Instant {
        loop {
            let more = self.more.notified();
            let time = self.lines.lock().unwrap_or_else(PoisonError::into_inner).get(index).copied();
            if let Some(time) = time {
                return time;
            }
            more.await;
        }
    }
}

#[async_trait]
impl Console for Stopwatch {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        if output == Output::Stdout {
            let ended = bytes.iter().filter(|byte| **byte == b'\n').count();
            let now = Instant::now();
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.extend(std::iter::repeat_n(now, ended));
            // One waits at a time; a permit is kept for one that is about to.
            self.more.notify_one();
        }
        Ok(())
    }

    async fn read(&self, _: usize) -> Bytes {
        Bytes::new()
    }

    fn log(&self, _: LogLevel, _: &str, _: &str) {}
}
