//! One device plugin a resource: started when the offer names it, fed while it does, stopped when it no longer does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cotenant_kubelet::device_plugin::{Answers, DeviceList, DevicePlugin, Registration};
use cotenant_model::sharing::ResourceName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The device plugins of a node.
#[derive(Debug)]
pub struct Plugins {
    directory: PathBuf,
    answers: Answers,
    running: BTreeMap<ResourceName, Running>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Counts up whenever the registration of any resource changes.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Running {
    devices: watch::Sender<DeviceList>,
    registration: watch::Receiver<Registration>,
    stop: CancellationToken,
}

impl Plugins {
    /// None yet. `answers` are those of every resource: a device's id says of which it is.
    #[must_use]
    pub fn new(directory: PathBuf, answers: Answers) -> Self {
        Self {
            directory,
            answers,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            changes: watch::Sender::new(0),
        }
    }

    /// Offers exactly these resources from now on.
    pub fn publish(&mut self, lists: BTreeMap<ResourceName, DeviceList>) {
        self.running.retain(|name, running| {
            let wanted = lists.contains_key(name);
            if !wanted {
                running.stop.cancel();
            }
            wanted
        });
        for (name, list) in lists {
            match self.running.get(&name) {
                Some(running) => {
                    running.devices.send_if_modified(|told| {
                        let is_new = *told != list;
                        if is_new {
                            *told = list;
                        }
                        is_new
                    });
                }
                None => self.start(name, list),
            }
        }
    }

    fn start(&mut self, name: ResourceName, list: DeviceList) {
        let devices = watch::Sender::new(list);
        let (told, registration) = watch::channel(Registration::Waiting { why: "it is being started".to_owned() });
        let stop = self.stop.child_token();
        let plugin = DevicePlugin {
            directory: self.directory.clone(),
            resource: name.clone(),
            devices: devices.subscribe(),
            answers: self.answers.clone(),
            registration: told,
        };
        self.tasks.spawn(plugin.run(stop.clone()));
        self.tasks.spawn(pass_on(registration.clone(), self.changes.clone()));
        self.running.insert(name, Running { devices, registration, stop });
    }

    /// How each resource stands with the kubelet.
    #[must_use]
    pub fn registrations(&self) -> BTreeMap<ResourceName, Registration> {
        let registration = |running: &Running| running.registration.borrow().clone();
        self.running.iter().map(|(name, running)| (name.clone(), registration(running))).collect()
    }

    /// Changes whenever the registration of a resource does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Stops every plugin and waits until their sockets are gone.
    pub async fn finish(mut self) {
        self.stop.cancel();
        self.running.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Counts the changes of one resource until its plugin ends.
async fn pass_on(mut registration: watch::Receiver<Registration>, changes: watch::Sender<u64>) {
    while registration.changed().await.is_ok() {
        changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
