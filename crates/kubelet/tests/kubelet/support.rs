//! A device plugin that runs beside a fake kubelet.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cotenant_kubelet::device_plugin::{
    Allocation, Answers, Choice, Device, DeviceList, DevicePlugin, Refusal, Registration,
};
use cotenant_model::sharing::{DeviceId, ResourceName};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) const GPU: &str = "nvidia.com/gpu";
pub(crate) const SHARED: &str = "nvidia.com/gpu.shared";

/// A device plugin under test. It answers with the ids it is asked for in a variable, and refuses more than two devices.
pub(crate) struct Plugin {
    pub(crate) devices: watch::Sender<DeviceList>,
    pub(crate) registration: watch::Receiver<Registration>,
    pub(crate) choices: Arc<Mutex<Vec<Choice>>>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

pub(crate) fn list(ids: &[&str]) -> DeviceList {
    let device = |id: &&str| Device { id: DeviceId((*id).to_owned()), healthy: true, numa_nodes: Vec::new() };
    DeviceList::new(ids.iter().map(device).collect()).expect("a list that a kubelet takes")
}

fn allocate(ids: &[DeviceId]) -> Result<Allocation, Refusal> {
    if ids.len() > 2 {
        let found = ids.len();
        return Err(Refusal(format!("maximum request size for shared resources is 2; found {found}")));
    }
    let ids: Vec<&str> = ids.iter().map(|id| id.0.as_str()).collect();
    let mut allocation = Allocation::default();
    allocation.environment.insert("IDS".to_owned(), ids.join(","));
    Ok(allocation)
}

impl Plugin {
    pub(crate) fn start(directory: &Path, resource: &str, devices: DeviceList) -> Self {
        let (devices, watched) = watch::channel(devices);
        let (told, registration) = watch::channel(Registration::Waiting { why: "not started".to_owned() });
        let choices: Arc<Mutex<Vec<Choice>>> = Arc::default();
        let seen = Arc::clone(&choices);
        let prefer = move |choice: &Choice| {
            seen.lock().expect("choices").push(choice.clone());
            choice.available.iter().rev().take(choice.size).cloned().collect()
        };
        let plugin = DevicePlugin {
            directory: directory.to_owned(),
            resource: ResourceName(resource.to_owned()),
            devices: watched,
            answers: Answers { allocate: Arc::new(allocate), prefer: Arc::new(prefer) },
            registration: told,
        };
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(plugin.run(stop.clone()));
        Self { devices, registration, choices, stop, task }
    }

    /// Waits until the plugin says that it is registered for the `times`th time.
    pub(crate) async fn registered(&mut self, times: u64) {
        self.until(|now| matches!(now, Registration::Registered { times: found } if *found >= times)).await;
    }

    /// Waits until the plugin says that it waits, for a reason with these words.
    pub(crate) async fn waiting(&mut self, words: &str) {
        self.until(|now| matches!(now, Registration::Waiting { why } if why.contains(words))).await;
    }

    async fn until(&mut self, condition: impl Fn(&Registration) -> bool) {
        let reached = timeout(Duration::from_secs(10), self.registration.wait_for(|now| condition(now))).await;
        let failed = reached.is_err();
        drop(reached);
        assert!(!failed, "not reached; the plugin says {:?}", *self.registration.borrow());
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = timeout(Duration::from_secs(5), self.task.join_next()).await.expect("it ends") {
            ended.expect("no panic");
        }
    }

    /// Ends like a process that is killed: no socket is removed.
    pub(crate) async fn forget(mut self, socket: &Path) {
        // Its file is hidden, so that it cannot clean up after itself, and put back.
        let hidden = socket.with_extension("hidden");
        std::fs::rename(socket, &hidden).expect("hidden");
        self.task.abort_all();
        while self.task.join_next().await.is_some() {}
        drop(self);
        std::fs::rename(&hidden, socket).expect("left behind");
    }
}

/// The names of a folder's files, but for the kubelet's own.
pub(crate) fn plugin_sockets(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "kubelet.sock");
    names.sort_unstable();
    names
}
