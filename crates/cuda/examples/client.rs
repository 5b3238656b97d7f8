//! A CUDA process that does as it is told, for trials of sharing on a real GPU.
//!
//! Opens device 0 of what its environment lets it see and then obeys a line of its standard input at a time, each answered by one
//! line of JSON on standard output with the time it took:
//!
//! - `look`: multiprocessors this process may use, free and total memory as the driver tells them;
//! - `hold MEBIBYTES`: allocates and writes so much, and keeps it;
//! - `step COUNT`: so many tokens of a small decoder;
//! - `fault`: writes to an address nothing is mapped at;
//! - end of input: leaves.
//!
//! `"error"` is the driver's; the process lives on after it, so that what follows can be seen too.
#![expect(clippy::print_stdout, reason = "its answers are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures spans of its own process")]

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use cotenant_cuda::{CudaError, Device, Load};
use cotenant_model::kernel::{Buffer, Decode};
use cotenant_model::{Bytes, Kernel};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let begun = Instant::now();
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(error) => {
            say(json!({ "did": "open", "error": error.to_string() }), begun);
            return ExitCode::FAILURE;
        }
    };
    say(json!({ "did": "open", "pid": std::process::id(), "uuid": device.uuid().0 }), begun);
    let mut client = Client { device, held: Vec::new(), decoder: None };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let begun = Instant::now();
        say(client.obey(&line), begun);
    }
    ExitCode::SUCCESS
}

/// Prints one answer; a reader that has gone is no reason to fail.
fn say(mut answer: Value, begun: Instant) {
    answer["seconds"] = json!(begun.elapsed().as_secs_f64());
    println!("{answer}");
    std::io::stdout().flush().unwrap_or_default();
}

struct Client {
    device: Device,
    held: Vec<Load>,
    decoder: Option<Load>,
}

impl Client {
    fn obey(&mut self, line: &str) -> Value {
        let (verb, argument) = line.trim().split_once(' ').unwrap_or_else(|| (line.trim(), ""));
        let number: u64 = argument.parse().unwrap_or(1);
        let done = match verb {
            "look" => self.look(),
            "hold" => self.hold(number),
            "step" => self.step(number),
            "fault" => self.fault(),
            _ => return json!({ "did": verb, "error": "no such command" }),
        };
        let mut answer = done.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        answer["did"] = json!(verb);
        answer
    }

    fn look(&self) -> Result<Value, CudaError> {
        let (free, total) = self.device.memory()?;
        Ok(json!({
            "multiprocessors": self.device.multiprocessors(),
            "usableMultiprocessors": self.device.usable_multiprocessors(),
            "freeMebibytes": free.0 >> 20,
            "totalMebibytes": total.0 >> 20,
        }))
    }

    fn hold(&mut self, mebibytes: u64) -> Result<Value, CudaError> {
        let kernel = Kernel::Memory(Buffer { size: Bytes::mebibytes(mebibytes) });
        self.held.push(Load::prepare(&self.device, &kernel, mebibytes)?);
        Ok(json!({ "heldMebibytes": mebibytes }))
    }

    fn step(&mut self, count: u64) -> Result<Value, CudaError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            absent => {
                let kernel = Kernel::Decode(Decode { layers: 4, width: 1024, hidden: 2816, batch: 1, tokens: 128 });
                absent.insert(Load::prepare(&self.device, &kernel, 1)?)
            }
        };
        for _ in 0..count {
            decoder.step()?;
        }
        Ok(json!({ "steps": count }))
    }

    fn fault(&self) -> Result<Value, CudaError> {
        Load::prepare(&self.device, &Kernel::Fault, 1)?.fault()?;
        Ok(json!({ "let": "pass" }))
    }
}
