//! Single groups and their recovery in words: `pairline group …`.
//!
//! Owns the layout. What is at risk, and what to do, the node has said.

use super::table::{seconds, table, utc};
use pairline_node::view::{GroupCopyView, GroupRecoverView, GroupRecoveryView, GroupView, GroupsView, RecoveryView};

/// Groups: a table, or for a single one all there is to say.
pub fn groups(view: &GroupsView) -> String {
    let head = format!("pool {}, as seen by {}\n\n", view.pool, view.seen_by);
    match &view.groups[..] {
        [one] => head + &group(one),
        all => head + &list(all),
    }
}

fn list(groups: &[GroupView]) -> String {
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|one| {
            let copies: Vec<String> = one.copies.iter().map(short).collect();
            let recovered = if one.survived == 0 { "-".to_owned() } else { one.survived.to_string() };
            let leader = one.leader.clone().unwrap_or_else(|| "-".to_owned());
            let state = one.state.replace('-', " ");
            vec![one.group.clone(), state, one.serving.clone(), one.epoch.clone(), leader, copies.join(", "), recovered]
        })
        .collect();
    table(&["GROUP", "STATE", "SERVED BY", "EPOCH", "LEADER", "COPIES", "RECOVERED"], &rows)
}

fn short(copy: &GroupCopyView) -> String {
    let name = copy.server.split('.').next().unwrap_or(&copy.server);
    match copy.state.as_str() {
        "leads" | "up" => name.to_owned(),
        other => format!("{name} ({other})"),
    }
}

fn group(one: &GroupView) -> String {
    let mut text = format!(
        "group {}: {}\n  served by     {} in epoch {}\n  led by        {}\n  recovered     {} times\n\n",
        one.group,
        one.state.replace('-', " "),
        one.serving,
        one.epoch,
        one.leader.as_deref().unwrap_or("nobody"),
        one.survived
    );
    let rows: Vec<Vec<String>> = one
        .copies
        .iter()
        .map(|copy| {
            let votes = if copy.votes { "votes" } else { "follows" };
            let state = copy.stopped.as_ref().map_or_else(|| copy.state.clone(), |why| format!("stopped: {why}"));
            let quiet = copy.quiet_seconds.map_or_else(|| "-".to_owned(), seconds);
            let position = copy.position.clone().unwrap_or_else(|| "-".to_owned());
            vec![copy.server.clone(), state, votes.to_owned(), position, copy.doubtful.to_string(), quiet]
        })
        .collect();
    text.push_str(&table(&["SERVER", "STATE", "COUNTS", "POSITION", "NOT KNOWN COMMITTED", "WITHOUT LEADER"], &rows));
    one.recoveries.iter().for_each(|recovery| text.push_str(&recovered(recovery)));
    text
}

fn recovered(one: &RecoveryView) -> String {
    let why = if one.reason.is_empty() { "no reason given" } else { &one.reason };
    format!(
        "\nrecovered on {} by {}: {why}\n  order         {}\n  went on at    {} (from {} to {})\n  given up      {}\n  was at risk   {}\n",
        utc(one.at),
        one.operator,
        one.id,
        one.survivor,
        one.before,
        one.after,
        one.lost.join(", "),
        one.at_risk
    )
}

/// Plan or outcome of a recovery. Groups of which the same is to be said stand together.
pub fn recovery(view: &GroupRecoveryView) -> String {
    let mut parts: Vec<(String, Vec<&GroupRecoverView>)> = Vec::new();
    for one in &view.groups {
        let text = alike(one);
        match parts.iter_mut().find(|(same, _)| *same == text) {
            Some((_, groups)) => groups.push(one),
            None => parts.push((text, vec![one])),
        }
    }
    let mut text = format!("pool {}: {}\n", view.pool, if view.done { "recovery" } else { "plan of a recovery" });
    parts.iter().for_each(|(what, groups)| text.push_str(&part(what, groups)));
    text.push('\n');
    view.next.iter().for_each(|step| text.push_str(&format!("next: {step}\n")));
    text
}

fn line(name: &str, what: &str) -> String {
    format!("  {name:<13} {what}\n")
}

/// Groups with what is the same for all of them, and then what is each one's own.
fn part(what: &str, groups: &[&GroupRecoverView]) -> String {
    let names: Vec<&str> = groups.iter().map(|one| one.group.as_str()).collect();
    let mut text = format!("\n{} {}\n", if names.len() == 1 { "group" } else { "groups" }, names.join(", "));
    let left: Vec<&&GroupRecoverView> = groups.iter().filter(|one| one.survivor.is_some()).collect();
    if let [first, ..] = &left[..] {
        let positions: Vec<&str> = left.iter().map(|one| one.position.as_str()).collect();
        let copies = if left.len() == 1 { "the copy" } else { "the copies" };
        let survivor = first.survivor.as_deref().unwrap_or_default();
        text.push_str(&line("left", &format!("{copies} at {survivor}, at {}", positions.join(", "))));
        let latest = left.iter().map(|one| one.last_change).max().unwrap_or_default();
        text.push_str(&line("last change", &utc(latest)));
    }
    text.push_str(what);
    for one in groups {
        one.outcome.iter().for_each(|how| text.push_str(&line(if one.goes_on { "done" } else { "failed" }, how)));
    }
    text
}

/// What may be the same for many groups.
fn alike(one: &GroupRecoverView) -> String {
    let mut text = String::new();
    if one.survivor.is_some() {
        text.push_str(&line("given up", &one.lost.join(", ")));
        text.push_str(&line("may be lost", &one.at_risk));
    }
    one.better.iter().for_each(|better| text.push_str(&line("better", better)));
    one.refused.iter().for_each(|why| text.push_str(&line("cannot be", why)));
    one.remedy.iter().for_each(|remedy| text.push_str(&line("do", remedy)));
    text
}

/// Whether an answer is a good one: a plan that can be carried out, or all of it carried out.
pub fn good(view: &GroupRecoveryView) -> bool {
    view.groups.iter().all(|one| if view.done { one.goes_on } else { one.refused.is_none() })
}

#[cfg(test)]
mod tests {
    //! What an operator reads.

    use super::*;

    fn one(group: &str, refused: bool) -> GroupRecoverView {
        GroupRecoverView {
            group: group.to_owned(),
            survivor: (!refused).then(|| "fe1".to_owned()),
            position: "1.1:42".to_owned(),
            at_risk: "whatever fe2 and fe3 acknowledged".to_owned(),
            lost: vec!["fe2".to_owned(), "fe3".to_owned()],
            refused: refused.then(|| "fe2 is up and has a copy".to_owned()),
            remedy: refused.then(|| "see its log".to_owned()),
            ..GroupRecoverView::default()
        }
    }

    #[test]
    fn groups_of_which_the_same_is_said_stand_together() {
        let groups = vec![one("1/0", false), one("1/1", false), one("1/2", true)];
        let mut view = GroupRecoveryView {
            pool: "east".to_owned(),
            done: false,
            groups,
            next: vec!["nothing was changed".to_owned()],
        };
        let text = recovery(&view);
        let begins =
            "pool east: plan of a recovery\n\ngroups 1/0, 1/1\n  left          the copies at fe1, at 1.1:42, 1.1:42\n";
        assert!(text.starts_with(begins), "{text}");
        assert!(
            text.contains("\ngroup 1/2\n  cannot be     fe2 is up and has a copy\n  do            see its log\n"),
            "{text}"
        );
        assert!(text.ends_with("\nnext: nothing was changed\n") && !good(&view), "{text}");
        view.groups.pop();
        assert!(good(&view));
        view.done = true;
        assert!(!good(&view), "none of them goes on");
        for group in &mut view.groups {
            (group.goes_on, group.outcome) = (true, Some(format!("group {} goes on", group.group)));
        }
        assert!(good(&view) && recovery(&view).contains("  done          group 1/1 goes on\n"));
    }
}
