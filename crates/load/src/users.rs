//! The simulated users of one thread.
//!
//! Owns their names, passwords and what each has to remember between requests. Sends nothing.

use crate::args::Common;
use crate::digest::Session;

/// One simulated user.
#[derive(Debug, Default)]
pub struct User {
    /// Last CSeq used outside dialogs.
    pub cseq: u32,
    /// Which of the servers it uses now.
    pub server: usize,
    /// Whether its last REGISTER was accepted.
    pub registered: bool,
    /// Whether a REGISTER is under way.
    pub registering: bool,
    /// Challenges that it has answered: of REGISTER, and of everything else.
    pub sessions: [Option<Session>; 2],
}

/// The users of one thread.
#[derive(Debug)]
pub struct Users {
    all: Vec<User>,
    first: u32,
    prefix: String,
    digits: usize,
    template: String,
}

impl Users {
    /// `count` users from number `first` on; server by number, in turn.
    pub fn new(common: &Common, first: u32, count: u32) -> Self {
        let servers = common.server.len().max(1);
        let all = (0..count).map(|i| User { server: (first + i) as usize % servers, ..User::default() }).collect();
        Self {
            all,
            first,
            prefix: common.prefix.clone(),
            digits: usize::from(common.digits),
            template: common.password_template.clone(),
        }
    }

    /// How many.
    pub fn len(&self) -> u32 {
        // Built from a u32.
        self.all.len() as u32
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// User `index` of this thread.
    pub fn get(&self, index: u32) -> &User {
        &self.all[index as usize]
    }

    /// User `index` of this thread.
    pub fn get_mut(&mut self, index: u32) -> &mut User {
        &mut self.all[index as usize]
    }

    /// Writes the name of user `index`.
    pub fn write_name(&self, index: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        let number = (self.first + index).to_string();
        out.extend(std::iter::repeat_n(b'0', self.digits.saturating_sub(number.len())));
        out.extend_from_slice(number.as_bytes());
    }

    /// The name of user `index`.
    pub fn name(&self, index: u32) -> String {
        format!("{}{:0width$}", self.prefix, self.first + index, width = self.digits)
    }

    /// The password of user `index`.
    pub fn password(&self, index: u32) -> String {
        let number = (self.first + index).to_string();
        self.template.replace("{user}", &self.name(index)).replace("{n}", &number)
    }

    /// The user that `index` calls and writes to: half a turn away, never itself.
    pub fn partner(&self, index: u32) -> u32 {
        let count = self.len().max(2);
        (index + count / 2) % count
    }
}
