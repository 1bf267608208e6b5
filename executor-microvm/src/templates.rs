//! Makes templates, and machines from them: the image is booted once, and each artifact's code loaded once.

use std::sync::{Arc, Mutex, PoisonError};

use wasmatrix_microvm_abi::engine::FeatureSet;

use crate::{
    compile::Code,
    image::Image,
    machine::{Machine, MachineError, template::Template},
    probe::Hypervisor,
};

/// All that they are made with.
#[derive(Debug)]
pub(crate) struct Templates {
    hypervisor: Hypervisor,
    image: Image,
    /// The image's, once it was needed.
    booted: Mutex<Option<Arc<Template>>>,
}

impl Templates {
    /// With that KVM and image.
    pub(crate) fn new(hypervisor: Hypervisor, image: Image) -> Self {
        Self { hypervisor, image, booted: Mutex::default() }
    }

    /// Kinds of instructions that machines have.
    pub(crate) const fn features(&self) -> FeatureSet {
        self.hypervisor.features
    }

    /// Makes that of an artifact. It takes milliseconds.
    ///
    /// # Errors
    /// KVM refuses, or the guest does.
    pub(crate) fn make(&self, code: &Arc<Code>) -> Result<Template, MachineError> {
        let booted = {
            let mut booted = self.booted.lock().unwrap_or_else(PoisonError::into_inner);
            match &*booted {
                Some(template) => Arc::clone(template),
                None => {
                    let template = Arc::new(Template::of_image(&self.hypervisor, &self.image)?);
                    Arc::clone(booted.insert(template))
                }
            }
        };
        booted.with_code(&self.hypervisor, code)
    }

    /// Makes a machine.
    ///
    /// # Errors
    /// KVM refuses.
    pub(crate) fn machine(&self, template: &Template) -> Result<Machine, MachineError> {
        template.machine(&self.hypervisor)
    }

    /// Makes a machine that nobody waits for.
    ///
    /// # Errors
    /// KVM refuses.
    pub(crate) fn machine_ahead(&self, template: &Template) -> Result<Machine, MachineError> {
        template.machine_ahead(&self.hypervisor)
    }
}
