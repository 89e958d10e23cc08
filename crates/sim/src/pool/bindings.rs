//! Whether registrations are kept: what phones were told of their bindings, and what was read of them.
//!
//! Owns that history. A phone counts its REGISTERs, and a binding says of which it is by its User-Agent.

use super::world::World;
use pairline_node::view::WhereView;

/// By how much clocks may differ, and a little more, in milliseconds.
const MARGIN_MS: u64 = 6_000;

/// How much less than what was asked for is granted at most, in per cent: the policy's default.
const SPREAD_PERCENT: u64 = 10;

/// One REGISTER of a phone, whose number is its place.
#[derive(Clone, Copy, Debug)]
struct Registration {
    /// When it was sent, and until when it holds at least, on the simulator's clock.
    sent: u64,
    until: u64,
    /// The step at which it was acknowledged.
    acknowledged: Option<u64>,
}

/// The registrations of one phone.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    all: Vec<Registration>,
    /// The newest that a read has shown, and the step at which that read ended.
    seen: Vec<(usize, u64)>,
    /// Two pools may each have registrations of this phone: nothing is owed.
    split: bool,
    /// Registrations before this one, and reads that began before this step, count for nothing.
    counted_from: (usize, u64),
}

impl Bindings {
    /// A REGISTER is sent; gives its number. Expiries are spread: until it is known what was granted, it is taken for the least.
    pub fn sent(&mut self, now: u64, expires_ms: u64) -> usize {
        let least_ms = expires_ms - expires_ms / 100 * SPREAD_PERCENT;
        self.all.push(Registration { sent: now, until: now + least_ms, acknowledged: None });
        self.all.len() - 1
    }

    /// So much was granted.
    pub fn granted(&mut self, number: usize, expires_ms: u64) {
        if let Some(registration) = self.all.get_mut(number) {
            registration.until = registration.sent + expires_ms;
        }
    }

    /// It was answered 200.
    pub fn acknowledged(&mut self, number: usize, step: u64) {
        if self.split || number < self.counted_from.0 {
            return;
        }
        if let Some(registration) = self.all.get_mut(number) {
            registration.acknowledged.get_or_insert(step);
        }
    }

    /// The group was promoted without the source's help: what was acknowledged may be lost, or be added by both.
    pub fn split(&mut self) {
        self.split = true;
        self.seen.clear();
        self.all.iter_mut().for_each(|registration| registration.acknowledged = None);
    }

    /// One pool serves again, alone: what begins now counts.
    pub fn whole(&mut self, step: u64) {
        self.split = false;
        self.counted_from = (self.all.len(), step);
    }

    /// The newest that was acknowledged before a step.
    fn owed(&self, step: u64) -> Option<usize> {
        let told = self.all.iter().rposition(|one| one.acknowledged.is_some_and(|at| at < step));
        told.max(self.seen.iter().filter(|(_, ended)| *ended < step).map(|(number, _)| *number).max())
    }

    /// What is wrong with a read of the binding that gave this number, or nothing.
    fn read(&mut self, found: Option<usize>, began: u64, ended: u64, now: u64) -> Result<(), String> {
        if self.split || began < self.counted_from.1 {
            return Ok(());
        }
        let owed = self.owed(began);
        match (found, owed) {
            (Some(found), _) if found >= self.all.len() => return Err(format!("registration {found} was never made")),
            (Some(found), Some(owed)) if found < owed => {
                return Err(format!("registration {found} was read after {owed} was acknowledged or seen"));
            }
            (None, Some(owed)) if self.all[owed..].iter().all(|one| one.until > now + MARGIN_MS) => {
                return Err(format!("registration {owed} was acknowledged, holds, and is not there"));
            }
            _ => {}
        }
        if let Some(found) = found {
            self.seen.push((found, ended));
        }
        Ok(())
    }
}

/// The number of the registration that a view shows of a phone of the run.
fn shown(view: &WhereView) -> Option<usize> {
    let numbers = view.bindings.iter().filter(|binding| !binding.guest);
    numbers.filter_map(|binding| binding.user_agent.strip_prefix("sim/")?.parse().ok()).max()
}

/// The bindings of a user were read through some server.
pub fn read(world: &mut World, number: usize, began: u64, ended: u64, view: &WhereView) {
    // Who does not serve the user says so: what it shows is what it knows.
    if view.place != "here" {
        return;
    }
    let found = shown(view);
    let now = world.now;
    world.note("where", &format!("user {number}: {found:?}"));
    let Some(phone) = world.phones.all.get_mut(number) else { return };
    if let Err(why) = phone.bindings.read(found, began, ended, now) {
        world.history.violate(1, format!("bindings of u{number}: {why}"));
    }
}

/// What was acknowledged and has not run out is there, at whoever leads each group.
pub fn kept(world: &mut World) {
    for number in 0..world.phones.all.len() {
        let Some(user) = super::clients::aor(&format!("u{number}")) else { continue };
        let Some(group) = super::checks::group_of(world, &user) else { continue };
        let Some(leader) = super::checks::leader(world, group) else { continue };
        let Some(node) = world.servers[leader].node.as_ref() else { continue };
        let found = node.inspect(|core| {
            let records = core.host.scan(group, user.as_str(), Some(pairline_services::records::BINDING));
            let bindings =
                records.filter_map(|(_, record)| pairline_services::binding::Binding::from_record(record).ok());
            let numbers = bindings.filter_map(|binding| {
                std::str::from_utf8(&binding.user_agent).ok()?.strip_prefix("sim/")?.parse::<usize>().ok()
            });
            numbers.max()
        });
        let (now, step) = (world.now, world.step());
        if let Err(why) = world.phones.all[number].bindings.read(found, step, step, now) {
            world.history.violate(1, format!("bindings of u{number} after healing: {why}"));
        }
    }
}
