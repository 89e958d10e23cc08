//! Locating servers (RFC 3263) as pure machines: which questions to ask, in which order to try what was found, and what to
//! leave alone for a while. Sends no query and keeps no answer.

mod locator;
mod order;
mod records;
mod resting;

pub use locator::{Locator, MAX_QUESTIONS, MAX_TARGETS, Means, Step, Target};
pub use records::{Answers, Kind, MAX_RECORDS, Naptr, Question, Srv};
pub use resting::{MAX_REST_MS, MAX_RESTING, Rest, Resting, retry_after};
