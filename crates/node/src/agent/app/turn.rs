//! One turn of the dispatcher: what was heard, what it means, what is done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cotenant_cluster::uninstall::{Installation, NodeUninstall};
use cotenant_gpu::{Cause, Ends, Happening, HealthChange, InstanceIds, Notice};
use cotenant_kubelet::cdi;
use cotenant_model::GpuUuid;
use cotenant_model::cause::chain;
use cotenant_model::sharing::label::{Surroundings, labels};
use cotenant_model::sharing::{Offer, Strategy};
use cotenant_mps::three::{client_directory, namespace_name};
use cotenant_mps::{Place, find_program};

use super::hands::{Hands, pipe};
use super::propose::write_cdi;
use super::watchers::{GpuUsage, Told, Wish, watch_log};
use super::{Agent, AgentError, memory, picture};
use crate::agent::served::Served;
use crate::agent::state::event::{Action, Event, GpuEvent, Note, Subject};
use crate::clock;
use crate::keeper::protocol::Ask;
use crate::usage::attribution::{Seen, attribute};
use crate::usage::inspection::{self, FileSystem, Given};

impl Agent {
    /// Takes in one thing.
    pub(super) async fn hear(&mut self, told: Told) -> Result<(), AgentError> {
        match told {
            Told::Event(event) => self.turn(event),
            Told::Wish(wish) => self.accept(*wish),
            Told::Refused(why) => return self.refuse(why),
            Told::Notice(notice) => self.notice(&notice),
            Told::Usage(usage) => self.learn_usage(usage),
            Told::Uninstall => self.uninstall().await,
            Told::Look => self.again.send_modify(|count| *count = count.wrapping_add(1)),
        }
        Ok(())
    }

    /// Lets the state think and does what it wants.
    pub(super) fn turn(&mut self, event: Event) {
        if self.uninstalled {
            return;
        }
        let actions = self.state.step(event, clock::now());
        self.act(actions);
        self.holders_wanted.send_if_modified(|wanted| {
            let now = self.state.wants_holders();
            std::mem::replace(wanted, now) != now
        });
    }

    pub(super) fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.act_once(action);
        }
    }

    fn act_once(&mut self, action: Action) {
        match action {
            Action::SetHealth { uuid, healthy } => self.serve(|served| {
                if healthy {
                    served.sick.remove(&uuid);
                } else {
                    served.sick.insert(uuid);
                }
            }),
            Action::Publish(offer) => self.publish(offer),
            Action::Cordon(devices) => self.serve(|served| served.cordoned = devices),
            Action::Ensure(gpu, settings) => self.hands.keep(gpu.clone(), Ask::Ensure { gpu, settings }),
            Action::Restart(gpu, settings) => self.hands.keep(gpu.clone(), Ask::Restart { gpu, settings }),
            Action::Stop(gpu) => self.hands.keep(gpu.clone(), Ask::Stop { gpu, idle: false }),
            Action::StopIdle(gpu) => self.hands.keep(gpu.clone(), Ask::Stop { gpu, idle: true }),
            Action::AskStatus(gpu) => self.with_pipe(&gpu, |hands, gpu, pipe, settings| {
                hands.ask_status(gpu, pipe, settings);
            }),
            Action::ShutServers(gpu) => self.with_pipe(&gpu, |hands, gpu, pipe, settings| {
                hands.shut_servers(gpu, pipe, settings);
            }),
            Action::Watch(gpu, process) => self.hands.watch(gpu, process),
            Action::Signal(process, force) => Hands::signal(&process, force),
            Action::Tell(note) => self.hands.say(note),
            Action::SetLabels => self.label(),
            Action::Evict(pod, why) => self.hands.evict(pod, why),
            Action::ApplyMig(gpu, layout) => self.hands.apply_mig(gpu, layout),
            Action::Save => self.save(),
            Action::Faulted(gpu, kind) => {
                *self.facts.tallies.entry(gpu).or_default().faults.entry(kind.to_owned()).or_default() += 1;
            }
            Action::Recovered(gpu, took) => {
                let tally = self.facts.tallies.entry(gpu).or_default();
                tally.recoveries += 1;
                tally.recovery_seconds += took.seconds();
            }
        }
    }

    fn with_pipe(
        &self,
        gpu: &GpuUuid,
        act: impl FnOnce(&Hands, GpuUuid, PathBuf, Option<&crate::keeper::protocol::DaemonSettings>),
    ) {
        let root = self.mps_root(gpu);
        let settings = self.state.gpus().get(gpu).and_then(|known| known.daemon());
        if let Some(pipe) = root.and_then(|root| pipe(&root, gpu)) {
            act(&self.hands, gpu.clone(), pipe, settings);
        }
    }

    /// The MPS root of a GPU's daemon.
    fn mps_root(&self, gpu: &GpuUuid) -> Option<PathBuf> {
        let offer = self.state.offer()?;
        offer.gpu(gpu)?.daemon.as_ref().map(|daemon| PathBuf::from(&daemon.root))
    }

    fn save(&self) {
        if let Err(error) = memory::write(&self.options.paths.state, &self.state.memory()) {
            tracing::warn!(error = chain(&error, ": "), "what must outlive the agent is not kept");
        }
    }

    /// Changes what the kubelet is told.
    pub(super) fn serve(&mut self, change: impl FnOnce(&mut Served)) {
        let mut served = Served::clone(&self.served.borrow());
        change(&mut served);
        let lists = served.lists();
        self.served.send_replace(Arc::new(served));
        if self.options.register {
            self.plugins.publish(lists);
        }
    }

    fn publish(&mut self, offer: Arc<Offer>) {
        let root = offer.gpus.iter().find_map(|gpu| gpu.daemon.as_ref()).map(|daemon| PathBuf::from(&daemon.root));
        let mounts = self.wish.as_ref().is_none_or(|wish| wish.mount_shm);
        let pipes = pipes(&offer);
        self.follow_logs(&offer);
        self.gpus.send_replace(Arc::new(offer.gpus.iter().map(|gpu| gpu.gpu.clone()).collect()));
        self.serve(|served| {
            served.offer = offer;
            served.pipes = pipes;
            served.shared_memory = root.filter(|_| mounts).map(|root| root.join("shm"));
        });
        self.label();
    }

    /// Follows the logs of every daemon that is offered, and no others.
    fn follow_logs(&mut self, offer: &Offer) {
        let wanted = |gpu: &GpuUuid| offer.gpu(gpu).is_some_and(|gpu| gpu.daemon.is_some());
        self.logs.retain(|gpu, stop| {
            if !wanted(gpu) {
                stop.cancel();
            }
            wanted(gpu)
        });
        for gpu in &offer.gpus {
            let Some(daemon) = &gpu.daemon else { continue };
            let Ok(place) = Place::new(Path::new(&daemon.root), gpu.gpu.clone()) else { continue };
            if self.logs.contains_key(&gpu.gpu) {
                continue;
            }
            let stop = self.tasks_stop.child_token();
            self.logs.insert(gpu.gpu.clone(), stop.clone());
            let (uuid, people, to) = (gpu.gpu.clone(), self.hands.people.clone(), self.to.clone());
            self.hands.tasks.spawn(async move {
                stop.run_until_cancelled(watch_log(uuid, place.log(), people, to)).await;
            });
        }
    }

    /// A configuration that can be had: what needs no plan holds at once, the rest is the state's.
    fn accept(&mut self, wish: Wish) {
        self.facts.configuration.clone_from(&wish.name);
        self.facts.refused = None;
        self.facts.driver = Some(wish.driver.version.clone());
        self.facts.gpus.clone_from(&wish.gpus);
        if let Err(error) = write_cdi(&self.options.paths.cdi, &wish.flags, &wish.handing) {
            tracing::error!(error = chain(&error, ": "), "CDI specifications cannot be written");
        }
        let (handing, policy) = (wish.handing.clone(), wish.policy);
        let proposal = wish.proposal.clone();
        self.wish = Some(Box::new(wish));
        self.serve(|served| {
            served.delivery = handing.delivery;
            served.naming = handing.naming;
            served.files = handing.files;
            served.policy = policy;
        });
        self.turn(Event::Proposed(Box::new(proposal)));
        self.label();
    }

    /// A configuration that cannot be had: the one before stays; without one there is nothing to run for.
    fn refuse(&mut self, why: String) -> Result<(), AgentError> {
        if self.state.offer().is_none() {
            return Err(AgentError::Configuration(why));
        }
        self.hands.say(Note {
            subject: Subject::Node,
            warning: true,
            reason: "ConfigurationRefused",
            text: format!("The configuration before stays in force: {why}"),
        });
        self.facts.refused = Some(why);
        Ok(())
    }

    fn notice(&mut self, notice: &Notice) {
        if let Happening::Xid { xid, .. } = &notice.what {
            self.turn(Event::Gpu(notice.gpu.clone(), GpuEvent::Xid(*xid)));
        }
        if matches!(notice.what, Happening::MigChanged) {
            self.again.send_modify(|count| *count = count.wrapping_add(1));
        }
        let before = self.health.trouble(&notice.gpu, None).cloned();
        for HealthChange { place, trouble } in self.health.step(notice) {
            let event = match (place.instance, trouble) {
                (None, Some(trouble)) => Event::Gpu(place.gpu, GpuEvent::Ill(said(&trouble.cause))),
                (None, None) => {
                    let anew = before.as_ref().is_some_and(|trouble| !matches!(trouble.ends, Ends::AfterQuiet(_)));
                    Event::Gpu(place.gpu, GpuEvent::Well { anew })
                }
                (Some(instance), trouble) => {
                    let Some(uuid) = self.mig_device(&place.gpu, instance) else { continue };
                    Event::MigDevice(uuid, trouble.map_or(Ok(()), |trouble| Err(said(&trouble.cause))))
                }
            };
            self.turn(event);
        }
    }

    fn mig_device(&self, gpu: &GpuUuid, instance: InstanceIds) -> Option<GpuUuid> {
        let card = self.facts.gpus.iter().find(|card| card.uuid == *gpu)?;
        let ids = (Some(instance.gpu_instance), Some(instance.compute_instance));
        let device = card.mig_devices.iter().find(|device| (device.gpu_instance, device.compute_instance) == ids);
        device.map(|device| device.uuid.clone())
    }

    fn learn_usage(&mut self, usage: Vec<GpuUsage>) {
        let Some(offer) = self.state.offer().cloned() else { return };
        let holders = self.state.holders().cloned().unwrap_or_default();
        let shared_memory = self.served.borrow().shared_memory.as_deref().and_then(FileSystem::of);
        let mut processes = std::collections::BTreeMap::new();
        for GpuUsage { gpu, used, processes: seen } in usage {
            if let Some(used) = used {
                self.facts.used.insert(gpu.clone(), used);
            }
            let look = |mut seen: Seen| {
                seen.warnings = self.warnings(&offer, &holders, &gpu, &seen, shared_memory);
                seen
            };
            let seen = seen.into_iter().map(look).collect();
            processes.insert(gpu, seen);
        }
        let usage = attribute(&offer, &holders, &processes);
        self.warn(&usage);
        self.facts.tenants = usage.tenants;
        let free = self.facts.gpus.iter().filter_map(|gpu| {
            let used = self.facts.used.get(&gpu.uuid)?;
            Some((gpu.uuid.clone(), cotenant_model::Bytes(gpu.memory.0.saturating_sub(used.0))))
        });
        let free = free.collect();
        let mut served = Served::clone(&self.served.borrow());
        served.free = free;
        self.served.send_replace(Arc::new(served));
    }

    /// What an MPS client did to its limits.
    fn warnings(
        &self,
        offer: &Offer,
        holders: &std::collections::BTreeMap<cotenant_model::sharing::DeviceId, crate::agent::state::event::Holder>,
        gpu: &GpuUuid,
        seen: &Seen,
        shared_memory: Option<FileSystem>,
    ) -> Vec<String> {
        let Some(holder) = &seen.holder else { return Vec::new() };
        let own = offer.devices_of(gpu).filter(|(_, device)| {
            device.strategy == Strategy::Mps
                && holders.get(&device.id).is_some_and(|known| {
                    (&known.pod.namespace, &known.pod.name) == (&holder.pod.namespace, &holder.pod.name)
                        && (holder.container.is_empty() || known.container == holder.container)
                })
        });
        let mut own = own.filter_map(|(resource, device)| Some((resource, device.share?)));
        let Some((resource, first)) = own.next() else { return Vec::new() };
        let share = own.map(|(_, share)| share).fold(first, cotenant_model::sharing::Share::sum);
        let given = Given { gpu, resource: &resource.name, share, shared_memory };
        inspection::inspect(&self.options.paths.proc, seen.process.pid, &given).unwrap_or_else(|error| {
            tracing::debug!(pid = seen.process.pid, %error, "a client cannot be looked into");
            Vec::new()
        })
    }

    /// Tells each warning once.
    fn warn(&mut self, usage: &crate::usage::attribution::Usage) {
        let of_tenants = usage.tenants.iter().flat_map(|tenant| {
            let pod = crate::agent::state::event::Pod {
                namespace: tenant.namespace.clone(),
                name: tenant.pod.clone(),
                uid: None,
            };
            tenant.warnings.iter().map(move |text| (pod.clone(), format!("{}: {text}", tenant.container)))
        });
        let of_strangers = usage.strangers.iter().map(|stranger| {
            let text =
                format!("{} uses GPU {} without holding a device of it", stranger.holder.container, stranger.gpu);
            (stranger.holder.pod.clone(), text)
        });
        let all: Vec<_> = of_tenants.chain(of_strangers).collect();
        let current = all.iter().map(|(pod, text)| format!("{pod} {text}")).collect::<std::collections::BTreeSet<_>>();
        for (pod, text) in all {
            if !self.warned.contains(&format!("{pod} {text}")) {
                let subject = Subject::Pod(pod);
                self.hands.say(Note { subject, warning: true, reason: "GpuShareWidened", text });
            }
        }
        self.warned = current;
    }

    /// Brings the wanted labels up to date.
    fn label(&self) {
        let (Some(wish), Some(offer), true) = (&self.wish, self.state.offer(), self.options.labels) else { return };
        let machine = std::fs::read_to_string(self.options.paths.sys.join("class/dmi/id/product_name")).ok();
        let around = Surroundings {
            mig_strategy: wish.flags.mig_strategy,
            machine: machine.as_deref().map(str::trim),
            timestamp: (!wish.flags.no_timestamp).then(|| self.started),
        };
        let wanted = labels(offer, &wish.gpus, &wish.driver, around);
        self.labels.send_if_modified(|labels| {
            let is_new = labels.as_ref() != Some(&wanted);
            if is_new {
                *labels = Some(wanted);
            }
            is_new
        });
    }

    /// Draws the picture anew.
    pub(super) fn show(&self) {
        let api = self.reachability.as_ref().map(|reachability| reachability.borrow().clone());
        let served = Arc::clone(&self.served.borrow());
        let view = picture::draw(&self.facts, &self.state, &served, &self.plugins.registrations(), api.as_ref());
        self.view.send_if_modified(|shown| {
            let is_new = **shown != view;
            if is_new {
                *shown = Arc::new(view);
            }
            is_new
        });
    }

    /// Whether the installation that this agent is a part of is gone.
    pub(super) async fn is_removed(&self) -> bool {
        let (Some((client, _)), Some((namespace, name))) = (&self.hands.api, &self.options.daemon_set) else {
            return false;
        };
        matches!(client.installation(namespace, name).await, Installation::Removed)
    }

    /// Leaves nothing behind and says so.
    pub(super) async fn uninstall(&mut self) {
        if std::mem::replace(&mut self.uninstalled, true) {
            return;
        }
        tracing::info!("uninstalling: devices, daemons, CDI files, labels and what was remembered go");
        self.labels.send_replace(None);
        self.plugins.publish(std::collections::BTreeMap::new());
        let mut left = Vec::new();
        if let Some(keeper) = &self.hands.keeper {
            let ask = Ask::Shutdown { cleanup: true };
            if let Err(error) = keeper.ask(ask, std::time::Duration::from_secs(60)).await
                && !matches!(error, crate::keeper::client::KeeperCallError::Away { .. })
            {
                left.push(chain(&error, ": "));
            }
        }
        if let Err(error) = cdi::remove(&self.options.paths.cdi) {
            left.push(chain(&error, ": "));
        }
        memory::remove(&self.options.paths.state);
        let outcome = if left.is_empty() { NodeUninstall::Done } else { NodeUninstall::Failed(left.join("; ")) };
        if let Some((client, _)) = &self.hands.api
            && let Err(error) = client.acknowledge_uninstall(&self.options.node, &outcome).await
        {
            tracing::warn!(error = chain(&error, ": "), "the end of uninstalling cannot be told");
        }
    }
}

fn said(cause: &Cause) -> String {
    match cause {
        Cause::Xid(number) => match cotenant_gpu::xid_name(*number) {
            Some(name) => format!("XID {number} ({name})"),
            None => format!("XID {number}"),
        },
        Cause::Asked(action) => format!("the driver asks for recovery: {action:?}"),
        Cause::Lost(reason) => format!("the driver cannot reach it: {reason}"),
    }
}

/// Whether daemons of this protocol have a folder for each size class.
fn speaks_three(protocol: &str) -> bool {
    let probed = || find_program().is_ok_and(|program| cotenant_mps::speaks_three(&program));
    protocol == "3" || (protocol != "2" && probed())
}

/// The pipe folders that containers are given, by GPU; under protocol 3 also by size class.
fn pipes(offer: &Offer) -> std::collections::BTreeMap<(GpuUuid, Option<String>), PathBuf> {
    let mut pipes = std::collections::BTreeMap::new();
    for gpu in &offer.gpus {
        let Some(daemon) = &gpu.daemon else { continue };
        let Some(own) = pipe(Path::new(&daemon.root), &gpu.gpu) else { continue };
        if speaks_three(&daemon.protocol) {
            let classes = offer.devices_of(&gpu.gpu).filter_map(|(_, device)| device.class.clone());
            pipes.extend(classes.map(|class| {
                let folder = client_directory(&own, &namespace_name(&class));
                ((gpu.gpu.clone(), Some(class)), folder)
            }));
        }
        pipes.insert((gpu.gpu.clone(), None), own);
    }
    pipes
}
