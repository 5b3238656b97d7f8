//! A kernel tenant on a real GPU: the first device this process sees.

use cotenant_cuda::{Check, CudaError, Device, Load};
use cotenant_model::run::{Process, Window};
use cotenant_model::{Clock, Kernel, Nanoseconds};

use super::kernel::{self, Host, Service, Steps};
use super::process;
use crate::protocol::{Ready, TenantPlan, WindowPlan};

/// Why a kernel tenant cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The driver, or the kernel on it, failed.
    #[error("cannot {doing}")]
    Cuda {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: CudaError,
    },
    /// The kernel's result is not what the CPU computed.
    #[error("the kernel's result is wrong: relative error {relative_error:e}, at most {bound:e} is right")]
    WrongResult {
        /// ‖out − reference‖ ÷ ‖reference‖.
        relative_error: f64,
        /// What it may be at most.
        bound: f64,
    },
    /// The write to a foreign address did no harm.
    #[error("the write to an address that is not the tenant's was not noticed")]
    NoFault,
    /// The fault it was told to make.
    #[error("the GPU faulted as it was told to")]
    Faulted(#[source] CudaError),
}

impl Steps for Load {
    type Error = CudaError;

    fn step(&mut self) -> Result<(), CudaError> {
        Self::step(self)
    }
}

/// A load kernel that holds its memory and has shown that it computes rightly.
#[derive(Debug)]
pub(super) struct KernelTenant {
    service: Service,
    faults: bool,
    load: Load,
    startup: Nanoseconds,
    multiprocessors: u32,
    relative_error: Option<f64>,
}

fn while_doing(doing: &'static str) -> impl FnOnce(CudaError) -> KernelError {
    move |source| KernelError::Cuda { doing, source }
}

impl KernelTenant {
    /// Opens the GPU, takes the kernel's memory, does one step and checks the result on fresh random input.
    ///
    /// # Errors
    /// When the driver refuses, or the result is wrong.
    pub(super) fn prepare(plan: &TenantPlan, kernel: &Kernel, clock: &dyn Clock) -> Result<Self, KernelError> {
        let device = Device::open(0).map_err(while_doing("open the GPU"))?;
        let mut load = Load::prepare(&device, kernel, plan.seed).map_err(while_doing("prepare the kernel"))?;
        let service = Service::new(&plan.tenant.name, kernel, plan.tenant.load.as_ref());
        let serves = service.steps > 0;
        if serves {
            load.step().map_err(while_doing("do the first step"))?;
        }
        let startup = Nanoseconds(clock.monotonic().0.saturating_sub(plan.spawned.0));
        let relative_error = if serves { Some(checked(&mut load)?) } else { None };
        let multiprocessors = device.usable_multiprocessors().unwrap_or_else(|| device.multiprocessors());
        let faults = matches!(kernel, Kernel::Fault);
        Ok(Self { service, faults, load, startup, multiprocessors, relative_error })
    }

    pub(super) fn ready(&self) -> Ready {
        Ready {
            process: self.process(),
            unit: self.service.unit,
            relative_error: self.relative_error,
            notes: Vec::new(),
        }
    }

    pub(super) fn process(&self) -> Process {
        let pid = std::process::id();
        let memory = process::memory(pid);
        Process {
            pid,
            startup: self.startup,
            resident: memory.unwrap_or_default().resident,
            own: memory.map(|memory| memory.own),
            device_memory: None,
            multiprocessors: Some(self.multiprocessors),
        }
    }

    /// Serves a window. A kernel that faults does so in the middle of it.
    ///
    /// # Errors
    /// The first failing step; always for a kernel that faults.
    pub(super) fn measure(&mut self, plan: &WindowPlan, host: Host<'_>) -> Result<Window, KernelError> {
        if self.faults {
            return self.fault(plan, host);
        }
        kernel::serve(&mut self.load, &self.service, plan, host).map_err(while_doing("do a step"))
    }

    fn fault(&mut self, plan: &WindowPlan, host: Host<'_>) -> Result<Window, KernelError> {
        let middle = Nanoseconds(plan.open.0.midpoint(plan.close.0));
        if !host.stop.sleep_until(host.clock, middle) {
            return Ok(Window { tenant: self.service.tenant.clone(), ..Window::default() });
        }
        match self.load.fault() {
            Ok(()) => Err(KernelError::NoFault),
            Err(fault) => Err(KernelError::Faulted(fault)),
        }
    }
}

fn checked(load: &mut Load) -> Result<f64, KernelError> {
    let check: Check = load.verify().map_err(while_doing("check the kernel's result"))?;
    if check.passed() {
        Ok(check.relative_error)
    } else {
        Err(KernelError::WrongResult { relative_error: check.relative_error, bound: check.bound })
    }
}
