//! Times `Allocate` of any device plugin, ours or another's:
//!
//! ```text
//! cargo run --release -p cotenant-kubelet --example allocate -- SOCKET DEVICE [COUNT]
//! ```
//!
//! Calls follow each other on one connection, as a kubelet's do; the first hundred are not counted. The result is one line
//! of JSON with times in microseconds: `{"socket":…,"device":…,"calls":…,"p50":…,"p90":…,"p99":…,"max":…}`.
#![expect(clippy::print_stdout, reason = "the result of an example is what it prints")]

#[path = "../src/wire/mod.rs"]
mod wire;

use std::error::Error;
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use wire::v1beta1::device_plugin_client::DevicePluginClient;
use wire::v1beta1::{AllocateRequest, ContainerAllocateRequest};

/// Calls before the first that counts: they find the plugin's code and memory cold.
const WARM_UP: usize = 100;
const USAGE: &str = "usage: allocate SOCKET DEVICE [COUNT, 10000 unless given]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (socket, device, count) = match arguments.as_slice() {
        [socket, device] => (socket, device, 10_000),
        [socket, device, count] => (socket, device, count.parse()?),
        _ => return Err(USAGE.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(time(socket, device, count))?;
    times.sort_unstable();
    let [p50, p90, p99, max] = [500, 900, 990, 1000].map(|permille| microseconds(&times, permille));
    let result = serde_json::json!({
        "socket": socket, "device": device, "calls": times.len(), "p50": p50, "p90": p90, "p99": p99, "max": max,
    });
    println!("{result}");
    Ok(())
}

async fn time(socket: &str, device: &str, count: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let channel = Endpoint::from_shared(format!("unix:{socket}"))?.connect().await?;
    let mut plugin = DevicePluginClient::new(channel);
    for _call in 0..WARM_UP {
        call(&mut plugin, device).await?;
    }
    let mut times = Vec::with_capacity(count);
    for _call in 0..count {
        times.push(call(&mut plugin, device).await?);
    }
    Ok(times)
}

#[expect(clippy::disallowed_methods, reason = "nothing else of this measurement uses a clock")]
async fn call(plugin: &mut DevicePluginClient<Channel>, device: &str) -> Result<Duration, Box<dyn Error>> {
    let container = ContainerAllocateRequest { device_ids: vec![device.to_owned()] };
    let request = AllocateRequest { container_requests: vec![container] };
    let start = Instant::now();
    let answer = plugin.allocate(request).await?.into_inner();
    let took = start.elapsed();
    if answer.container_responses.len() == 1 { Ok(took) } else { Err("not one answer for one container".into()) }
}

/// The smallest time that so many of a thousand do not exceed (nearest rank), in microseconds.
fn microseconds(sorted: &[Duration], permille: usize) -> Option<f64> {
    let rank = (sorted.len() * permille).div_ceil(1000);
    sorted.get(rank.checked_sub(1)?).map(|time| time.as_secs_f64() * 1e6)
}
