//! Steps that use, or use up, what the instance itself is: its memory, its time, its life.

use std::{
    hint::black_box,
    sync::{Mutex, PoisonError},
};

use crate::{
    outcome::{Outcome, Problem, ok},
    step::Step,
};

/// In a guest's own memory, where nothing outlives the instance.
static REMEMBERED: Mutex<Option<String>> = Mutex::new(None);

/// What `alloc` took and keeps.
#[derive(Default)]
pub(crate) struct Memory {
    blocks: Vec<Vec<u8>>,
}

impl Memory {
    pub(crate) fn take(&mut self, mut step: Step<'_>) -> Outcome {
        let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
        match step.name() {
            "static-set" => {
                *remembered = Some(step.rest().to_owned());
                ok()
            }
            "static-get" => {
                Ok(remembered.as_ref().map_or_else(|| "none".to_owned(), |text| format!("some {text}")))
            }
            "alloc" => self.allocate(step.number("how many MiB")?),
            "touch" => Ok(self.touch()),
            "spin" => loop {
                black_box(());
            },
            "trap" => step.word("a way to crash")?.parse::<trap::Kind>().map_err(Problem::Other)?.spring(),
            other => Err(Problem::Other(format!("no step is called `{other}`"))),
        }
    }

    /// Takes memory, and is told so when there is none, instead of dying of it.
    fn allocate(&mut self, mebibytes: usize) -> Outcome {
        let bytes = mebibytes.saturating_mul(1 << 20);
        let mut block = Vec::new();
        block.try_reserve_exact(bytes).map_err(|error| Problem::Other(error.to_string()))?;
        self.blocks.push(block);
        ok()
    }

    /// Writes to every byte that was allocated, so that the host must find memory for it.
    fn touch(&mut self) -> String {
        for block in &mut self.blocks {
            block.resize(block.capacity(), 0xA5);
        }
        let bytes: usize = self.blocks.iter().map(|block| black_box(block).len()).sum();
        format!("touched {} MiB", bytes >> 20)
    }
}
