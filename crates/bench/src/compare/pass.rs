//! One pass: an arm is set up, its tenants are started, measured over the same window, and everything is taken down.

use cotenant_gpu::Watch;
use cotenant_model::Nanoseconds;
use cotenant_model::cause::chain;
use cotenant_model::run::{Pass, Telemetry, Window};
use cotenant_model::workload::{Engine, Tenant};

use super::schedule::PassPlan;
use super::strategy::{self, Stage};
use super::worker::{Worker, WorkerError};
use super::{Comparison, Interrupted, Machine};
use crate::protocol::{Command, TenantPlan, WindowPlan};

/// Longest start of a kernel tenant: context, weights and the check of its result.
const KERNEL_READY: Nanoseconds = Nanoseconds(90_000_000_000);
/// Time over its own `ready` that a server tenant's process gets.
const SERVER_GRACE: Nanoseconds = Nanoseconds(15_000_000_000);
/// Time between the order and the start of the load, for the order to reach every tenant.
const LEAD: Nanoseconds = Nanoseconds(30_000_000);
/// Time after the close of a window within which a tenant must have answered; a step of a starved kernel ends in it.
const ANSWER: Nanoseconds = Nanoseconds(30_000_000_000);

/// A tenant in a pass: its process, or why there is none any more.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) worker: Result<Worker, String>,
    /// What it noticed while it got ready.
    notes: Vec<String>,
}

/// What was seen in a window: the tenants' own figures, the GPU's, and what a reader must know.
#[derive(Debug)]
struct Seen {
    windows: Vec<Window>,
    telemetry: Telemetry,
    notes: Vec<String>,
}

/// Runs one pass; also gives what the record's notes should say. A tenant or strategy that fails is recorded as failed; the
/// others finish.
pub(super) fn run(
    machine: &Machine<'_>,
    comparison: &Comparison,
    plan: &PassPlan,
) -> Result<(Pass, Vec<String>), Interrupted> {
    let tenants: Vec<(usize, &Tenant)> = plan
        .tenants
        .iter()
        .filter_map(|&position| Some((position, comparison.workload.tenants.get(position)?)))
        .collect();
    let Some(arm) = comparison.arms.get(plan.arm) else { return Ok((empty(plan, Vec::new()), Vec::new())) };
    let mut stage = match strategy::of(arm).begin(&machine.site) {
        Ok(stage) => stage,
        Err(error) => return Ok((empty(plan, all_failed(&tenants, &chain(&error, ": "))), Vec::new())),
    };
    let mut seats = seat_all(machine, comparison, stage.as_ref(), &tenants)?;
    let settings = &comparison.settings;
    let spans = (settings.warmup, settings.duration);
    let window = window(machine, settings.seed, spans, (u64::from(plan.repeat), plan.repeat == 0));
    let Seen { mut windows, telemetry, mut notes } = measure(machine, &mut seats, window)?;
    notes.extend(seats.iter_mut().flat_map(|seat| {
        let name = &seat.tenant.name;
        std::mem::take(&mut seat.notes).into_iter().map(move |note| format!("{name}: {note}"))
    }));
    let running = seats.iter().filter(|seat| seat.worker.is_ok()).count();
    if let Some(trouble) = stage.trouble(running) {
        blame(&mut windows, &trouble);
    }
    leave(seats, machine);
    let start = Nanoseconds(window.open.0.saturating_sub(machine.begun.0));
    Ok((Pass { repeat: plan.repeat, start, windows, telemetry }, notes))
}

/// Starts every tenant and waits until each is ready: kernels all at once, servers one after another, because engines that
/// measure free memory at their start must not start together.
fn seat_all<'a>(
    machine: &Machine<'_>,
    comparison: &Comparison,
    stage: &dyn Stage,
    tenants: &[(usize, &'a Tenant)],
) -> Result<Vec<Seat<'a>>, Interrupted> {
    let mut seats = Vec::new();
    for &(position, tenant) in tenants {
        let environment = stage.environment(position, tenant);
        let mut seat = spawn(machine, comparison.settings.seed, &environment, (position, tenant));
        if matches!(tenant.engine, Engine::Server(_)) {
            settle(machine, &mut seat)?;
        }
        seats.push(seat);
    }
    for seat in seats.iter_mut().filter(|seat| matches!(seat.tenant.engine, Engine::Kernel(_))) {
        settle(machine, seat)?;
    }
    Ok(seats)
}

/// Starts a tenant's process.
pub(super) fn spawn<'a>(
    machine: &Machine<'_>,
    seed: u64,
    environment: &[(String, String)],
    (position, tenant): (usize, &'a Tenant),
) -> Seat<'a> {
    let log = machine.site.directory.join(format!("{}.log", tenant.name));
    let plan = TenantPlan {
        tenant: tenant.clone(),
        seed: seed.wrapping_add(u64::try_from(position).unwrap_or(0)),
        spawned: machine.clock.monotonic(),
        server_log: matches!(tenant.engine, Engine::Server(_)).then_some(log),
    };
    let worker = Worker::spawn(&machine.program, &machine.site.registry, &plan, environment);
    Seat { tenant, worker: worker.map_err(|error| chain(&error, ": ")), notes: Vec::new() }
}

/// Waits until a tenant is ready; one that is not loses its seat.
pub(super) fn settle(machine: &Machine<'_>, seat: &mut Seat<'_>) -> Result<(), Interrupted> {
    let limit = match &seat.tenant.engine {
        Engine::Kernel(_) => KERNEL_READY,
        Engine::Server(server) => Nanoseconds(server.ready.0.saturating_add(SERVER_GRACE.0)),
    };
    let Ok(worker) = &mut seat.worker else { return Ok(()) };
    match worker.wait_ready(limit, machine.patience()) {
        Ok(ready) => seat.notes = ready.notes,
        Err(WorkerError::Interrupted) => return Err(Interrupted),
        Err(error) => seat.worker = Err(chain(&error, ": ")),
    }
    Ok(())
}

/// The next window, from now: so much warm-up, so long; `number` varies the arrivals.
pub(super) fn window(
    machine: &Machine<'_>,
    seed: u64,
    (warmup, length): (Nanoseconds, Nanoseconds),
    (number, trace): (u64, bool),
) -> WindowPlan {
    let warm = Nanoseconds(machine.clock.monotonic().0 + LEAD.0);
    let open = Nanoseconds(warm.0 + warmup.0);
    let close = Nanoseconds(open.0 + length.0);
    WindowPlan { warm, open, close, seed: seed.wrapping_add(number), trace }
}

/// Lets every seated tenant load the GPU over the same window.
fn measure(machine: &Machine<'_>, seats: &mut [Seat<'_>], plan: WindowPlan) -> Result<Seen, Interrupted> {
    let watch = machine.sampler.watch(plan.open, plan.close);
    let mut windows = answers(machine, seats, plan)?;
    let (telemetry, notes) = match watch.and_then(Watch::finish) {
        Ok(observation) => (observation.telemetry.clone(), observation.notes()),
        Err(error) => (Telemetry::default(), vec![format!("a window has no telemetry: {}", chain(&error, ": "))]),
    };
    for (seat, window) in seats.iter().zip(&mut windows) {
        if let (Some(process), Ok(worker)) = (&mut window.process, &seat.worker) {
            process.device_memory = super::processes::device_memory(worker.pid(), &telemetry.processes);
        }
    }
    Ok(Seen { windows, telemetry, notes })
}

/// Each seated tenant's window, without telemetry.
pub(super) fn answers(
    machine: &Machine<'_>,
    seats: &mut [Seat<'_>],
    plan: WindowPlan,
) -> Result<Vec<Window>, Interrupted> {
    for seat in seats.iter_mut() {
        if let Ok(worker) = &mut seat.worker
            && let Err(error) = worker.order(&Command::Run(plan))
        {
            seat.worker = Err(chain(&error, ": "));
        }
    }
    let deadline = Nanoseconds(plan.close.0 + ANSWER.0);
    seats.iter_mut().map(|seat| answer(machine, seat, deadline)).collect()
}

fn answer(machine: &Machine<'_>, seat: &mut Seat<'_>, deadline: Nanoseconds) -> Result<Window, Interrupted> {
    let outcome = match &mut seat.worker {
        Ok(worker) => worker.wait_measured(deadline, machine.patience()),
        Err(failure) => return Ok(failed(seat.tenant, failure)),
    };
    match outcome {
        Ok(window) => Ok(window),
        Err(WorkerError::Interrupted) => Err(Interrupted),
        Err(error) => {
            let failure = chain(&error, ": ");
            let window = failed(seat.tenant, &failure);
            seat.worker = Err(failure);
            Ok(window)
        }
    }
}

/// Adds what was wrong with the strategy to the tenants that failed; where none did, the window counts for nobody, since it
/// was not measured under the arm's own conditions.
fn blame(windows: &mut [Window], trouble: &str) {
    let any = windows.iter().any(|window| window.failure.is_some());
    for window in windows.iter_mut() {
        match &mut window.failure {
            Some(failure) => *failure = format!("{failure}; {trouble}"),
            None if any => {}
            none @ None => *none = Some(trouble.to_owned()),
        }
    }
}

/// Tells all tenants to leave, then waits for each.
pub(super) fn leave(mut seats: Vec<Seat<'_>>, machine: &Machine<'_>) {
    for worker in seats.iter_mut().filter_map(|seat| seat.worker.as_mut().ok()) {
        // One that cannot be told any more has left, or is killed below.
        drop(worker.order(&Command::Stop));
    }
    for worker in seats.into_iter().filter_map(|seat| seat.worker.ok()) {
        worker.finish(machine.clock.as_ref());
    }
}

fn empty(plan: &PassPlan, windows: Vec<Window>) -> Pass {
    Pass { repeat: plan.repeat, start: Nanoseconds::default(), windows, telemetry: Telemetry::default() }
}

fn all_failed(tenants: &[(usize, &Tenant)], failure: &str) -> Vec<Window> {
    tenants.iter().map(|(_, tenant)| failed(tenant, failure)).collect()
}

fn failed(tenant: &Tenant, failure: &str) -> Window {
    Window { tenant: tenant.name.clone(), failure: Some(failure.to_owned()), ..Window::default() }
}
