//! Import of many users: a few large proposals instead of two small ones per user.
//!
//! Owns the batching. Every row ends as added, unchanged or refused with a reason; repeating a call is harmless.

use super::{Added, NewUser, add, check, data_writes, directory_write, entry_of, is_conflict};
use crate::cx::Cx;
use crate::join::join_all;
use crate::records::credential_key;
use crate::remedy::{CommandError, written};
use pairline_group::GroupId;
use pairline_group::io::{Done, Proposal};
use pairline_topology::directory;
use std::collections::BTreeMap;

/// Most rows of one call.
pub const MAX_ROWS: usize = 1000;
/// Most reasons that are reported.
const MAX_REASONS: usize = 100;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows that are there now and were not before, or not whole.
    pub added: u64,
    /// Rows that were there before.
    pub unchanged: u64,
    /// Rows refused: user and reason (the first hundred).
    pub refused: Vec<(String, String)>,
    /// How many were refused in all.
    pub refused_count: u64,
    /// Users of rows that a passing obstacle stopped: the same rows may be given again, and are completed then.
    pub unfinished: Vec<String>,
}

impl Imported {
    fn refuse(&mut self, user: &str, error: &CommandError) {
        self.refused_count += 1;
        if self.refused.len() < MAX_REASONS {
            self.refused.push((user.to_owned(), format!("{error}; {}", error.remedy())));
        }
    }

    fn count(&mut self, row: &NewUser, result: Result<Added, CommandError>) {
        match result {
            Ok(_) => self.added += 1,
            Err(CommandError::Exists { .. }) => self.unchanged += 1,
            Err(error) if error.passes() => self.unfinished.push(row.user.as_str().to_owned()),
            Err(error) => self.refuse(row.user.as_str(), &error),
        }
    }
}

/// Rows sorted by what they still need.
#[derive(Default)]
struct Sorted<'a> {
    /// Rows without a directory entry.
    unlisted: Vec<&'a NewUser>,
    /// Rows by group whose data is missing.
    data: BTreeMap<GroupId, Vec<&'a NewUser>>,
}

async fn sort<'a, C: Cx>(cx: &C, rows: &'a [NewUser], result: &mut Imported) -> Sorted<'a> {
    let view = cx.view();
    let mut sorted = Sorted::default();
    for row in rows.iter().take(MAX_ROWS) {
        let group = match check(&view, row) {
            Ok(group) => group,
            Err(error) => {
                result.refuse(row.user.as_str(), &error);
                continue;
            }
        };
        match entry_of(cx, &row.user).await {
            Ok(None) => {
                sorted.unlisted.push(row);
                sorted.data.entry(group).or_default().push(row);
            }
            Ok(Some(entry)) if entry.home == row.home => {
                if cx.read(group, &credential_key(row.user.as_str())).await.is_some() {
                    result.unchanged += 1;
                } else {
                    sorted.data.entry(group).or_default().push(row);
                }
            }
            Ok(Some(entry)) => {
                let home = view.pool_label(entry.home);
                result.refuse(row.user.as_str(), &CommandError::Exists { user: row.user.as_str().to_owned(), home });
            }
            Err(error) => result.refuse(row.user.as_str(), &error),
        }
    }
    sorted
}

/// Imports at most [`MAX_ROWS`] users; rows beyond that are refused. A row is idempotent, so one that a passing obstacle
/// stopped (a busy group, a link that is not up yet) is reported apart from refusals and may be given again.
pub async fn import<C: Cx>(cx: &C, rows: &[NewUser]) -> Imported {
    let mut result = Imported::default();
    for row in rows.iter().skip(MAX_ROWS) {
        let reason = "too many rows in one call";
        result.refuse(row.user.as_str(), &CommandError::BadValue { field: "rows", reason });
    }
    let sorted = sort(cx, rows, &mut result).await;
    if !sorted.unlisted.is_empty() {
        let proposal = Proposal {
            reads: sorted.unlisted.iter().map(|row| (directory::user_key(row.user.as_str()), None)).collect(),
            writes: sorted.unlisted.iter().map(|row| directory_write(row)).collect(),
            ..Proposal::default()
        };
        let done = cx.commit(GroupId::CMS, proposal).await;
        if matches!(done, Done::Refused(_)) {
            // One bad row must not refuse the others; and a row given twice, or added meanwhile, is found one by one.
            return one_by_one(cx, sorted, result).await;
        }
    }
    let groups: Vec<_> = sorted.data.iter().map(|(group, rows)| import_group(cx, *group, rows)).collect();
    for (rows, results) in sorted.data.values().zip(join_all(groups).await) {
        for (row, outcome) in rows.iter().zip(results) {
            result.count(row, outcome);
        }
    }
    result
}

async fn one_by_one<C: Cx>(cx: &C, sorted: Sorted<'_>, mut result: Imported) -> Imported {
    for row in sorted.data.values().flatten() {
        let outcome = add(cx, row).await;
        result.count(row, outcome);
    }
    result
}

/// Writes the data of one group's rows: in one proposal, or one by one if that meets a conflict or a limit.
async fn import_group<C: Cx>(cx: &C, group: GroupId, rows: &[&NewUser]) -> Vec<Result<Added, CommandError>> {
    let view = cx.view();
    let proposal = Proposal {
        reads: rows.iter().map(|row| (credential_key(row.user.as_str()), None)).collect(),
        writes: rows.iter().flat_map(|row| data_writes(cx, &view, row)).collect(),
        ..Proposal::default()
    };
    let done = cx.commit(group, proposal).await;
    let too_large = matches!(&done, Done::Refused(pairline_group::io::Refusal::TooLarge(_)));
    if !is_conflict(&done) && !too_large {
        return rows.iter().map(|row| written(done.clone(), &row.user).map(|()| Added::New)).collect();
    }
    let mut results = Vec::with_capacity(rows.len());
    for row in rows {
        results.push(add(cx, row).await);
    }
    results
}
