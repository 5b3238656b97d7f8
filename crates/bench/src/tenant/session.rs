//! The conversation with the comparison: a plan, then orders, over standard input and output.

use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use cotenant_model::cause::chain;
use cotenant_model::run::{Process, Window};
use cotenant_model::workload::Engine;

use super::error::TenantError;
use super::gpu::KernelTenant;
use super::kernel::Host;
use super::server::ServerTenant;
use super::stop::Stop;
use crate::clock::MonotonicClock;
use crate::protocol::{Command, Event, Ready, TenantPlan, WindowPlan};

/// What comes in.
#[derive(Debug)]
pub(super) enum Order {
    /// The first line of the comparison.
    Plan(Box<TenantPlan>),
    /// A later one.
    Command(Command),
    /// A line that is neither.
    Unreadable(TenantError),
}

/// A tenant that is ready.
enum Tenant {
    Kernel(Box<KernelTenant>),
    Server(Box<ServerTenant>),
}

impl Tenant {
    fn prepare(plan: &TenantPlan, launcher: &[String], stop: &Stop) -> Result<Self, TenantError> {
        match &plan.tenant.engine {
            Engine::Kernel(kernel) => KernelTenant::prepare(plan, kernel, &MonotonicClock)
                .map(|tenant| Self::Kernel(Box::new(tenant)))
                .map_err(TenantError::Kernel),
            Engine::Server(server) => ServerTenant::start(plan, server, launcher, stop)
                .map(|tenant| Self::Server(Box::new(tenant)))
                .map_err(TenantError::Server),
        }
    }

    fn ready(&self) -> Ready {
        match self {
            Self::Kernel(kernel) => kernel.ready(),
            Self::Server(server) => server.ready(),
        }
    }

    fn measure(&mut self, plan: &WindowPlan, stop: &Stop) -> Result<Window, TenantError> {
        let window = match self {
            Self::Kernel(kernel) => {
                kernel.measure(plan, Host { clock: &MonotonicClock, stop }).map_err(TenantError::Kernel)?
            }
            Self::Server(server) => server.measure(plan, stop).map_err(TenantError::Server)?,
        };
        Ok(Window { process: Some(self.process()), ..window })
    }

    fn process(&self) -> Process {
        match self {
            Self::Kernel(kernel) => kernel.process(),
            Self::Server(server) => server.process(),
        }
    }
}

/// A conversation that has not begun.
#[derive(Debug)]
pub(super) struct Session {
    /// What starts servers; see [`super::run`].
    launcher: Vec<String>,
    /// Where orders are put: by the comparison, and by signals.
    pub(super) sender: Sender<Order>,
    receiver: Receiver<Order>,
    pub(super) stop: Arc<Stop>,
}

impl Session {
    pub(super) fn new(launcher: Vec<String>) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { launcher, sender, receiver, stop: Arc::new(Stop::default()) }
    }

    /// Speaks the protocol until the order to stop, the end of `input`, or a failure, which it reports before it returns
    /// it.
    ///
    /// # Errors
    /// Why the tenant could not go on.
    pub(super) fn serve<I, O>(self, input: I, mut output: O) -> Result<(), TenantError>
    where
        I: Read + Send + 'static,
        O: Write,
    {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.converse(input, &mut output)));
        let outcome = outcome.unwrap_or_else(|payload| Err(TenantError::panicked(payload.as_ref())));
        match &outcome {
            // Where reports cannot be written nobody is left to read one.
            Ok(()) | Err(TenantError::Output(_)) => {}
            Err(error) => write_event(&mut output, &Event::Failed { message: chain(error, ": ") })?,
        }
        outcome
    }

    fn converse<I, O>(self, input: I, output: &mut O) -> Result<(), TenantError>
    where
        I: Read + Send + 'static,
        O: Write,
    {
        let Self { launcher, sender, receiver, stop } = self;
        let reader_stop = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("orders".to_owned())
            .spawn(move || read_orders(BufReader::new(input), &sender, &reader_stop))
            .map_err(TenantError::Thread)?;
        let plan = match receiver.recv() {
            Ok(Order::Plan(plan)) => plan,
            Ok(Order::Unreadable(error)) => return Err(error),
            Ok(Order::Command(_)) | Err(_) => return Ok(()),
        };
        let prepared = Tenant::prepare(&plan, &launcher, &stop);
        if stop.is_set() {
            return Ok(());
        }
        let mut tenant = prepared?;
        write_event(output, &Event::Ready(tenant.ready()))?;
        follow(&mut tenant, output, &receiver, &stop)
    }
}

/// Carries out orders until the one to stop.
fn follow<O: Write>(
    tenant: &mut Tenant,
    output: &mut O,
    orders: &Receiver<Order>,
    stop: &Stop,
) -> Result<(), TenantError> {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Command(Command::Run(plan)) => {
                let window = tenant.measure(&plan, stop);
                if stop.is_set() {
                    return Ok(());
                }
                write_event(output, &Event::Measured(Box::new(window?)))?;
            }
            Order::Command(Command::Stop) | Order::Plan(_) => return Ok(()),
            Order::Unreadable(error) => return Err(error),
        }
    }
    Ok(())
}

/// Passes orders on as they come; the order to stop, and the end of input, also break off what is being done.
fn read_orders(input: impl BufRead, orders: &Sender<Order>, stop: &Stop) {
    let mut planned = false;
    for line in input.lines() {
        let order = line
            .map_err(TenantError::Input)
            .and_then(|line| if planned { parse(&line).map(Order::Command) } else { parse(&line).map(Order::Plan) });
        planned = true;
        let order = match order {
            Ok(Order::Command(Command::Stop)) => break,
            Ok(order) => order,
            Err(error) => Order::Unreadable(error),
        };
        if orders.send(order).is_err() {
            return;
        }
    }
    order_stop(orders, stop);
}

/// Gives the order to stop.
pub(super) fn order_stop(orders: &Sender<Order>, stop: &Stop) {
    stop.set();
    // A receiver that is gone has stopped already.
    orders.send(Order::Command(Command::Stop)).unwrap_or_default();
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, TenantError> {
    serde_json::from_str(line).map_err(|source| TenantError::Unreadable { line: line.trim().to_owned(), source })
}

fn write_event<O: Write>(output: &mut O, event: &Event) -> Result<(), TenantError> {
    let mut line = serde_json::to_vec(event).map_err(|source| TenantError::Output(source.into()))?;
    line.push(b'\n');
    output.write_all(&line).and_then(|()| output.flush()).map_err(TenantError::Output)
}
