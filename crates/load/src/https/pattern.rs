//! Texts with places for the user's name and the request's number.
//!
//! Owns the replacement, and which user and which body are whose turn.

use super::args::{ReadArgs, RequestArgs};

/// Paths and bodies of all requests.
#[derive(Clone, Debug)]
pub struct Pattern {
    path: String,
    bodies: Vec<String>,
    users: u64,
    prefix: String,
    digits: usize,
}

impl Pattern {
    /// As the arguments say.
    pub fn new(args: &RequestArgs) -> Self {
        Self {
            path: args.path.clone(),
            bodies: args.body.clone(),
            users: u64::from(args.users.max(1)),
            prefix: args.prefix.clone(),
            digits: usize::from(args.digits),
        }
    }

    /// Of reading, which has no bodies.
    pub fn reading(args: &ReadArgs) -> Self {
        Self {
            path: args.path.clone(),
            bodies: Vec::new(),
            users: u64::from(args.users.max(1)),
            prefix: args.prefix.clone(),
            digits: usize::from(args.digits),
        }
    }

    /// Name of the user whose request `number` is.
    pub fn user(&self, number: u64) -> String {
        format!("{}{:0digits$}", self.prefix, number % self.users + 1, digits = self.digits)
    }

    /// Path and body of request `number`, from 0: one user after the other, and with each pass over the users the next body.
    pub fn request(&self, number: u64) -> (String, String) {
        let (pass, user) = (number / self.users, self.user(number));
        let turn = pass % u64::try_from(self.bodies.len().max(1)).unwrap_or(1);
        let body = usize::try_from(turn).ok().and_then(|turn| self.bodies.get(turn)).map_or("", String::as_str);
        let fill = |text: &str| text.replace("{user}", &user).replace("{n}", &number.to_string());
        (fill(&self.path), fill(body))
    }
}

#[cfg(test)]
mod tests {
    //! Users take turns, bodies after each pass.

    use super::*;

    #[test]
    fn each_pass_has_its_body() {
        let pattern = Pattern {
            path: "/of/{user}".into(),
            bodies: vec!["put {n}".into(), "remove".into()],
            users: 2,
            prefix: "u".into(),
            digits: 3,
        };
        let all: Vec<_> = (0..5).map(|number| pattern.request(number)).collect();
        let paths: Vec<&str> = all.iter().map(|(path, _)| path.as_str()).collect();
        let bodies: Vec<&str> = all.iter().map(|(_, body)| body.as_str()).collect();
        assert_eq!(paths, ["/of/u001", "/of/u002", "/of/u001", "/of/u002", "/of/u001"]);
        assert_eq!(bodies, ["put 0", "put 1", "remove", "remove", "put 4"]);
    }
}
