//! One turn of the dispatcher: what was heard, what it means, what is done.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use cotenant_model::GpuUuid;
use cotenant_model::cause::chain;
use cotenant_model::sharing::Offer;
use cotenant_model::sharing::label::{Surroundings, labels};

use super::hands::Hands;
use super::propose::write_cdi;
use super::watchers::{Told, Wish};
use super::{Agent, AgentError, memory, picture};
use crate::agent::served::Served;
use crate::agent::state::event::{Action, Event, Note, Subject};
use crate::clock;
use crate::keeper::protocol::Ask;

impl Agent {
    /// Takes in one thing.
    pub(super) async fn hear(&mut self, told: Told) -> Result<(), AgentError> {
        match told {
            Told::Event(event) => self.turn(event),
            Told::Wish(wish) => self.accept(*wish),
            Told::Refused(why) => return self.refuse(why),
            Told::Notice(notice) => self.notice(&notice),
            Told::Kept(kept) => self.learn_daemons(kept),
            Told::Usage(usage) => self.learn_usage(usage),
            Told::Uninstall => self.uninstall().await,
            Told::Look => self.look_again(),
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
            Action::AskStatus(gpu) => {
                if let Some(daemon) = self.daemon(&gpu) {
                    self.hands.ask_status(gpu, daemon);
                }
            }
            Action::ShutServers(gpu) => {
                if let Some(daemon) = self.daemon(&gpu) {
                    self.hands.shut_servers(gpu, daemon);
                }
            }
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

    fn save(&self) {
        if let Err(error) = memory::write(&self.options.paths.state, &self.state.memory()) {
            tracing::warn!(error = chain(&error, ": "), "what must outlive the agent is not kept");
        }
    }

    /// Changes what the kubelet is told.
    pub(super) fn serve(&mut self, change: impl FnOnce(&mut Served)) {
        let mut served = Served::clone(&self.served.borrow());
        change(&mut served);
        self.lists = served.lists();
        self.served.send_replace(Arc::new(served));
        // Before the configuration is read nobody can say how containers are told their devices.
        if self.options.register && self.wish.is_some() && !self.uninstalled {
            self.plugins.publish(self.lists.clone());
        }
    }

    fn publish(&mut self, offer: Arc<Offer>) {
        let root = offer.gpus.iter().find_map(|gpu| gpu.daemon.as_ref()).map(|daemon| PathBuf::from(&daemon.root));
        let mounts = self.wish.as_ref().is_none_or(|wish| wish.mount_shm);
        let pipes = self.pipes(&offer);
        self.follow_logs(&offer);
        let gpus = offer.gpus.iter().map(|gpu| &gpu.gpu);
        let devices = offer.resources.iter().flat_map(|resource| &resource.devices).map(|device| &device.uuid);
        let watched: BTreeSet<GpuUuid> = gpus.chain(devices).cloned().collect();
        self.gpus.send_replace(Arc::new(watched.into_iter().collect()));
        self.serve(|served| {
            served.offer = offer;
            served.pipes = pipes;
            served.shared_memory = root.filter(|_| mounts).map(|root| root.join("shm"));
        });
        self.label();
    }

    /// A configuration that can be had: what needs no plan holds at once, the rest is the state's.
    fn accept(&mut self, wish: Wish) {
        if self.uninstalled {
            return;
        }
        self.facts.configuration.clone_from(&wish.name);
        self.facts.refused = None;
        self.facts.driver = Some(wish.driver.version.clone());
        self.take_stock(&wish.gpus);
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
        if self.uninstalled {
            return Ok(());
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

    /// Brings the wanted labels up to date.
    fn label(&self) {
        let (Some(wish), Some(offer), true) = (&self.wish, self.state.offer(), self.options.labels) else { return };
        let machine = std::fs::read_to_string(self.options.paths.sys.join("class/dmi/id/product_name")).ok();
        let around = Surroundings {
            mig_strategy: wish.flags.mig_strategy,
            machine: machine.as_deref().map(str::trim),
            timestamp: (!wish.flags.no_timestamp).then_some(self.started),
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
        let told = picture::Told {
            offer: &Arc::clone(&self.served.borrow().offer),
            lists: &self.lists,
            registrations: &self.plugins.registrations(),
        };
        let view = picture::draw(&self.facts, &self.state, &told, api.as_ref());
        self.view.send_if_modified(|shown| {
            let is_new = **shown != view;
            if is_new {
                *shown = Arc::new(view);
            }
            is_new
        });
    }
}
