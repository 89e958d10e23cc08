//! The registration event package (RFC 3680): who may watch, what is told, and dialogs that outlive a server.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, last, statuses};
use common::{Fake, Task, WEST, aor, flow, group_of, peer_flow, udp};
use pairline_group::Record;
use pairline_services::cx::{Peer, Place, TaskEvent};
use pairline_services::metrics::Counter;
use pairline_services::records::SUBSCRIPTION;
use pairline_services::subscription::{BLOCK, Subscription};
use pairline_services::{events, users};
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;

const BOB: &str = "sip:bob@pairline.test";
const CONTACT: &str = "Contact: <sip:bob@127.0.0.1:7501>";

fn watcher() -> Client {
    let mut watcher = client("bob");
    watcher.call_id = "watch".into();
    watcher.flow = udp("127.0.0.1:7501");
    watcher
}

fn subscribe(fake: &Fake, watcher: &mut Client, user: &str, lines: &[&str]) -> Task {
    let mut all = vec!["Event: reg", CONTACT];
    all.extend(lines);
    watcher.request(fake, "SUBSCRIBE", user, &format!("<{user}>"), &all, "")
}

/// Subscribes and accepts the first notification.
fn subscribed(fake: &Fake, watcher: &mut Client) -> Message {
    let mut task = subscribe(fake, watcher, BOB, &[]);
    assert_eq!(last(fake).0, 200);
    let index = fake.0.borrow().sent.len() - 1;
    task.respond(index, 200, &[]);
    assert!(!task.is_running());
    notify(fake, index)
}

fn notify(fake: &Fake, index: usize) -> Message {
    let notify = fake.0.borrow().sent[index].2.clone();
    assert_eq!(*notify.method(), Method::Notify);
    notify
}

fn body(message: &Message) -> String {
    String::from_utf8(message.body().to_vec()).unwrap()
}

fn header(message: &Message, name: Name) -> String {
    String::from_utf8(message.header(name).unwrap_or_else(|| panic!("{name:?}")).to_vec()).unwrap()
}

fn stored(fake: &Fake) -> Vec<Subscription> {
    let world = fake.0.borrow();
    let of_kind = world.records.iter().filter(|((_, key), _)| key.kind == SUBSCRIPTION);
    of_kind.map(|(_, record): (_, &Record)| Subscription::from_record(record).unwrap()).collect()
}

/// Does what the node does when a record of the user has changed.
fn changed(fake: &Fake) -> Option<Task> {
    let begins = fake.0.borrow_mut().watching.change(BOB);
    begins.then(|| Task::run(fake, events::changed(fake.clone(), aor(BOB))))
}

/// Tells what has changed, accepts it, and lets the pause go by.
fn told(fake: &Fake) -> Vec<Message> {
    let before = fake.0.borrow().sent.len();
    let mut task = changed(fake).unwrap();
    let count = fake.0.borrow().sent.len() - before;
    for index in before..before + count {
        task.respond(index, 200, &[]);
    }
    assert_eq!(task.is_running(), count > 0, "a pause follows what was told");
    task.advance(5_000);
    assert!(!task.is_running());
    (before..before + count).map(|index| notify(fake, index)).collect()
}

fn register(fake: &Fake, port: u16, extra: &str) {
    let mut phone = client("bob");
    phone.call_id = format!("reg-{port}");
    phone.cseq = u32::try_from(fake.0.borrow().mono).unwrap();
    phone.flow = udp(&format!("127.0.0.1:{port}"));
    assert_eq!(phone.register(fake, &[&format!("Contact: <sip:bob@127.0.0.1:{port}>{extra}")]).0, 200);
    fake.0.borrow_mut().mono += 10;
}

#[test]
fn the_first_notification_tells_everything() {
    let fake = Fake::new();
    register(&fake, 7502, ";+sip.instance=\"<urn:uuid:1>\";q=0.5");
    let mut watcher = watcher();
    let mut task = subscribe(&fake, &mut watcher, BOB, &["Expires: 600", "Accept: application/reginfo+xml"]);
    let (status, reply) = last(&fake);
    assert_eq!((status, header(&reply, Name::Expires)), (200, "600".into()));
    assert_eq!(reply.contacts().next().unwrap().uri, b"sip:127.0.1.1:5060");
    let (_, to, notify) = fake.0.borrow().sent[0].clone();
    assert_eq!(to, watcher.flow);
    assert_eq!(notify.request_uri(), b"sip:bob@127.0.0.1:7501");
    assert_eq!((notify.cseq().0, notify.from().tag(), notify.to().tag()), (1, reply.to().tag(), Some(&b"ft"[..])));
    assert_eq!((header(&notify, Name::Event), notify.call_id()), ("reg".into(), &b"watch"[..]));
    assert_eq!(header(&notify, Name::SubscriptionState), "active;expires=600");
    assert_eq!(header(&notify, Name::ContentType), "application/reginfo+xml");
    let text = body(&notify);
    for part in [
        "version=\"0\" state=\"full\"",
        "<registration aor=\"sip:bob@pairline.test\" id=\"",
        " state=\"active\">\n<contact id=\"",
        " state=\"active\" event=\"registered\" duration-registered=\"0\" expires=\"600\" q=\"0.500\" callid=\"reg-7502\"",
        "<uri>sip:bob@127.0.0.1:7502</uri>",
        "<unknown-param name=\"+sip.instance\">&quot;&lt;urn:uuid:1&gt;&quot;</unknown-param>",
        "<gr:pub-gruu uri=\"sip:bob@pairline.test;gr=urn:uuid:1\"/>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    task.respond(0, 200, &[]);
    assert!(!task.is_running());
    assert_eq!((stored(&fake).len(), stored(&fake)[0].reserved), (1, BLOCK));
    assert_eq!(fake.count_of(Counter::NotifySent), 1);
    // Nobody registered: init.
    let fake = Fake::new();
    assert!(body(&subscribed(&fake, &mut self::watcher())).contains(" state=\"init\">\n</registration>"));
}

#[test]
fn changes_are_told_once_with_rising_numbers() {
    let fake = Fake::new();
    subscribed(&fake, &mut watcher());
    register(&fake, 7502, "");
    let messages = told(&fake);
    assert_eq!((messages.len(), messages[0].cseq().0), (1, 2));
    let text = body(&messages[0]);
    assert!(text.contains("version=\"1\" state=\"partial\"") && text.contains("event=\"registered\""), "{text}");
    // A refresh is nothing to tell.
    register(&fake, 7502, "");
    assert!(told(&fake).is_empty());
    register(&fake, 7502, ";expires=60");
    let text = body(&told(&fake)[0]);
    assert!(text.contains("version=\"2\"") && text.contains("event=\"shortened\""), "{text}");
    register(&fake, 7503, "");
    assert!(!body(&told(&fake)[0]).contains("7502"), "only what has changed");
    register(&fake, 7503, ";expires=0");
    let text = body(&told(&fake)[0]);
    assert!(text.contains("<registration aor=\"sip:bob@pairline.test\"") && text.contains(" state=\"active\">\n"));
    assert!(text.contains("state=\"terminated\" event=\"unregistered\"") && !text.contains(" expires="), "{text}");
    fake.0.borrow_mut().mono += 61_000;
    let text = body(&told(&fake)[0]);
    assert!(text.contains("event=\"expired\"") && text.contains(" state=\"terminated\">\n"), "{text}");
    register(&fake, 7504, "");
    told(&fake);
    assert_eq!(common::now(users::drop_registrations(&fake, &aor(BOB), None)).unwrap(), 1);
    let text = body(&told(&fake)[0]);
    assert!(text.contains("event=\"deactivated\""), "{text}");
}

#[test]
fn many_changes_are_told_together_after_a_pause() {
    let fake = Fake::new();
    subscribed(&fake, &mut watcher());
    register(&fake, 7502, "");
    let mut task = changed(&fake).unwrap();
    task.respond(1, 200, &[]);
    register(&fake, 7503, "");
    register(&fake, 7504, "");
    assert!(changed(&fake).is_none(), "somebody is at it");
    assert_eq!(fake.0.borrow().sent.len(), 2);
    task.advance(4_000);
    assert_eq!(fake.0.borrow().sent.len(), 2);
    task.advance(1_000);
    let text = body(&notify(&fake, 2));
    assert!(text.contains("7503") && text.contains("7504"), "{text}");
}

#[test]
fn only_the_user_and_named_watchers_may_watch() {
    let fake = Fake::new();
    for user in ["sip:alice@pairline.test", "sip:nobody@pairline.test"] {
        let task = subscribe(&fake, &mut watcher(), user, &[]);
        assert!(!task.is_running());
        assert_eq!(last(&fake).0, 403, "{user}: the same for who exists and who does not");
    }
    let mut liar = watcher();
    liar.password = "wrong";
    subscribe(&fake, &mut liar, BOB, &[]);
    assert_eq!(last(&fake).0, 401);
    assert!(stored(&fake).is_empty() && fake.0.borrow().sent.is_empty());
    fake.edit_view(|view| view.registrar.watchers = vec![aor(BOB)]);
    let task = subscribe(&fake, &mut watcher(), "sip:alice@pairline.test", &[]);
    assert!(task.is_running());
    assert_eq!((last(&fake).0, &*stored(&fake)[0].subscriber), (200, BOB));
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let fake = Fake::new();
    let refused = |lines: &[&str]| {
        let task = watcher().request(&fake, "SUBSCRIBE", BOB, &format!("<{BOB}>"), lines, "");
        assert!(!task.is_running());
        last(&fake)
    };
    let (status, reply) = refused(&["Event: presence", CONTACT]);
    assert_eq!((status, header(&reply, Name::AllowEvents)), (489, "reg".into()));
    assert_eq!(refused(&[CONTACT]).0, 489, "no Event");
    let (status, reply) = refused(&["Event: reg", CONTACT, "Expires: 59"]);
    assert_eq!((status, header(&reply, Name::MinExpires)), (423, "60".into()));
    let (status, reply) = refused(&["Event: reg", CONTACT, "Accept: text/plain"]);
    assert_eq!((status, header(&reply, Name::Accept)), (406, "application/reginfo+xml".into()));
    assert_eq!(refused(&["Event: reg"]).0, 400, "no Contact");
    let task = watcher().request(&fake, "SUBSCRIBE", BOB, &format!("<{BOB}>;tag=old"), &["Event: reg", CONTACT], "");
    assert_eq!((task.is_running(), last(&fake).0), (false, 481));
    assert!(stored(&fake).is_empty());
    for n in 0..8 {
        let mut watcher = watcher();
        watcher.call_id = format!("watch-{n}");
        subscribed(&fake, &mut watcher);
    }
    let mut ninth = watcher();
    ninth.call_id = "watch-9".into();
    subscribe(&fake, &mut ninth, BOB, &[]);
    assert_eq!((last(&fake).0, stored(&fake).len()), (403, 8));
}

/// A request inside the dialog, as the subscriber sends it.
fn again(fake: &Fake, watcher: &mut Client, tag: &str, lines: &[&str]) -> Task {
    let mut all = vec!["Event: reg", CONTACT];
    all.extend(lines);
    watcher.request(fake, "SUBSCRIBE", "sip:127.0.1.1:5060", &format!("<{BOB}>;tag={tag}"), &all, "")
}

#[test]
fn a_dialog_is_refreshed_and_ended_by_the_subscriber() {
    let fake = Fake::new();
    let mut watcher = watcher();
    let first = subscribed(&fake, &mut watcher);
    let tag = String::from_utf8(first.from().tag().unwrap().to_vec()).unwrap();
    let mut task = again(&fake, &mut watcher, &tag, &["Expires: 120"]);
    assert_eq!(last(&fake).0, 200);
    let second = notify(&fake, 1);
    assert_eq!((second.cseq().0, header(&second, Name::SubscriptionState)), (2, "active;expires=120".into()));
    assert!(body(&second).contains("state=\"full\""));
    task.respond(1, 200, &[]);
    assert_eq!((stored(&fake).len(), stored(&fake)[0].seconds_left(common::WALL + 1_000)), (1, 120));
    watcher.cseq = 0;
    again(&fake, &mut watcher, &tag, &[]);
    assert_eq!(last(&fake).0, 500, "an older SUBSCRIBE");
    watcher.cseq = 50;
    let _task = again(&fake, &mut watcher, &tag, &["Expires: 0"]);
    assert_eq!(last(&fake).0, 200);
    assert_eq!(header(&notify(&fake, 2), Name::SubscriptionState), "terminated;reason=timeout");
    assert!(stored(&fake).is_empty());
    again(&fake, &mut watcher, &tag, &[]);
    assert_eq!(last(&fake).0, 481);
    // Asked once: told once, kept nothing.
    let fake = Fake::new();
    let mut task = subscribe(&fake, &mut self::watcher(), BOB, &["Expires: 0"]);
    assert_eq!(header(&notify(&fake, 0), Name::SubscriptionState), "terminated;reason=timeout");
    task.respond(0, 200, &[]);
    assert!(stored(&fake).is_empty() && !task.is_running());
}

#[test]
fn a_subscription_that_ends_by_itself_says_so() {
    let fake = Fake::new();
    subscribed(&fake, &mut watcher());
    fake.0.borrow_mut().mono += 3_761_000;
    let message = told(&fake).remove(0);
    assert_eq!(header(&message, Name::SubscriptionState), "terminated;reason=timeout");
    assert_eq!(message.cseq().0, 2);
    assert!(fake.0.borrow().watching.is_empty(), "nothing is kept of it");
    // The user is removed.
    let fake = Fake::new();
    subscribed(&fake, &mut watcher());
    fake.0.borrow_mut().places.remove(BOB);
    assert_eq!(header(&told(&fake)[0], Name::SubscriptionState), "terminated;reason=noresource");
}

#[test]
fn a_new_server_takes_new_numbers_and_tells_everything() {
    let fake = Fake::new();
    subscribed(&fake, &mut watcher());
    fake.0.borrow_mut().watching = Default::default();
    assert!(fake.0.borrow_mut().watching.watch(BOB));
    let message = told(&fake).remove(0);
    assert_eq!(message.cseq().0, BLOCK + 1);
    let text = body(&message);
    assert!(text.contains(&format!("version=\"{BLOCK}\" state=\"full\"")), "{text}");
    assert_eq!(stored(&fake)[0].reserved, 2 * BLOCK);
    // What this server has told before does not count once another one has taken numbers.
    let other = Fake::new();
    other.0.borrow_mut().records = fake.0.borrow().records.clone();
    other.0.borrow_mut().watching.watch(BOB);
    assert_eq!(told(&other)[0].cseq().0, 2 * BLOCK + 1);
    fake.0.borrow_mut().records = other.0.borrow().records.clone();
    fake.0.borrow_mut().seq += 100;
    register(&fake, 7502, "");
    assert_eq!(told(&fake)[0].cseq().0, 3 * BLOCK + 1);
    // A block that is used up is followed by the next, without a gap that would look like a loss.
    for n in 2..=BLOCK + 5 {
        register(&fake, if n % 2 == 0 { 7503 } else { 7504 }, if n % 4 < 2 { ";expires=0" } else { "" });
        for message in told(&fake) {
            assert!(message.cseq().0 > 3 * BLOCK + 1);
        }
    }
    // A server that does not serve the user leaves it to the one that does.
    fake.set_place(
        &aor(BOB),
        Place::Elsewhere { group: Some(group_of(common::EAST, &aor(BOB))), at: Peer::Pool(WEST) },
    );
    register_elsewhere(&fake);
    assert!(told(&fake).is_empty());
    assert!(fake.0.borrow().watching.is_empty());
}

fn register_elsewhere(fake: &Fake) {
    let key = pairline_services::records::binding_key(BOB, &[1; 16]);
    let value = fake.bindings(BOB)[0].encode();
    let class = pairline_group::Class::Soft { expires: common::WALL * 2 };
    fake.put(group_of(common::EAST, &aor(BOB)), key, class, value);
}

#[test]
fn a_dialog_that_the_subscriber_does_not_know_is_over() {
    for end in [Some(481), Some(404), None] {
        let fake = Fake::new();
        let mut task = subscribe(&fake, &mut watcher(), BOB, &[]);
        match end {
            Some(status) => task.respond(0, status, &[]),
            None => {
                let branch = task.branch(0);
                task.deliver(TaskEvent::Timeout(branch));
            }
        }
        assert!(!task.is_running() && stored(&fake).is_empty(), "{end:?}");
        assert_eq!(fake.count_of(Counter::SubscriptionLost), 1);
    }
    let fake = Fake::new();
    let mut task = subscribe(&fake, &mut watcher(), BOB, &[]);
    task.respond(0, 503, &[]);
    assert_eq!(stored(&fake).len(), 1, "a moment's trouble");
}

#[test]
fn a_notification_to_a_lost_flow_waits_for_its_register() {
    let fake = Fake::new();
    let mut watcher = watcher();
    watcher.flow = flow(Transport::Tcp, "127.0.0.1:7501", 5);
    subscribed(&fake, &mut watcher);
    fake.0.borrow_mut().stranded.insert(5);
    register(&fake, 7502, "");
    let mut task = changed(&fake).unwrap();
    assert_eq!((fake.0.borrow().sent.len(), fake.count_of(Counter::NotifyFailed)), (1, 1), "no way there");
    task.advance(5_000);
    assert_eq!((task.is_running(), stored(&fake).len()), (false, 1));
    // The client is back on another connection, with the contact of its dialog.
    let mut phone = client("bob");
    phone.call_id = "back".into();
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7501", 6);
    assert_eq!(phone.register(&fake, &[CONTACT]).0, 200);
    let mut task = changed(&fake).unwrap();
    let (_, to, message) = fake.0.borrow().sent.last().cloned().unwrap();
    assert_eq!(to.connection, 6);
    assert!(body(&message).contains("state=\"full\""), "what it has missed is in it");
    let index = fake.0.borrow().sent.len() - 1;
    task.respond(index, 200, &[]);
    task.advance(5_000);
    assert!(!task.is_running());
}

#[test]
fn the_serving_pool_answers_and_notifies_through_the_other() {
    // At west, whose clients' home is east.
    let west = Fake::new();
    let bob = aor(BOB);
    west.set_place(&bob, Place::Elsewhere { group: Some(group_of(WEST, &bob)), at: Peer::Pool(WEST) });
    let mut watcher = watcher();
    watcher.flow = flow(Transport::Tcp, "127.0.0.1:7501", 5);
    let task = subscribe(&west, &mut watcher, BOB, &[]);
    assert!(task.is_running());
    let (_, hop, sent) = west.0.borrow().sent[0].clone();
    assert_eq!(hop, peer_flow());
    let route = sent.record_routes().next().unwrap().raw().to_vec();
    // At east, over the link.
    let east = Fake::new();
    let through =
        format!("Record-Route: {}", String::from_utf8(route.clone()).unwrap().replace("127.0.1.1", "127.0.2.1"));
    watcher.flow = peer_flow();
    let _task = subscribe(&east, &mut watcher, BOB, &[&through]);
    assert_eq!(last(&east).0, 200);
    let (_, hop, sent) = east.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.routes().count()), (peer_flow(), 1));
    assert!(sent.routes().next().unwrap().uri.windows(9).any(|w| w == b"127.0.2.1"));
    // East is lost and this server serves its users: the route leads to itself, its token to the client.
    let record = stored(&east).remove(0);
    let mut here = record.clone();
    here.routes = vec![
        String::from_utf8(record.routes[0].to_vec()).unwrap().replace("127.0.2.1", "127.0.1.1").into_bytes().into(),
    ];
    let class = pairline_group::Class::Soft { expires: here.expires };
    let west = Fake::new();
    let key = pairline_services::records::subscription_key(BOB, &here.id);
    west.put(group_of(common::EAST, &bob), key, class, here.encode());
    west.0.borrow_mut().watching.watch(BOB);
    let message = told(&west).remove(0);
    assert_eq!(message.routes().count(), 0);
    let (_, to, _) = west.0.borrow().sent[0].clone();
    assert_eq!((to.transport, to.connection), (Transport::Tcp, 5));
    assert_eq!(message.cseq().0, BLOCK + 1);
}

#[test]
fn in_a_dialog_with_us_a_subscribe_is_ours_whichever_server_it_names() {
    let fake = Fake::new();
    let mut watcher = watcher();
    let first = subscribed(&fake, &mut watcher);
    let tag = String::from_utf8(first.from().tag().unwrap().to_vec()).unwrap();
    let mark = pairline_services::routes::dialog_mark(&common::view().sealing_key, b"watch", b"");
    let route = format!("Route: <sip:127.0.1.1:5060;lr;pl={mark}>");
    let lines = ["Event: reg", CONTACT, route.as_str()];
    let to = format!("<{BOB}>;tag={tag}");
    // The contact of a server of the other pool, which is lost.
    let _task = watcher.request(&fake, "SUBSCRIBE", "sip:127.0.2.1:5060", &to, &lines, "");
    assert_eq!((last(&fake).0, notify(&fake, 1).cseq().0), (200, 2));
    assert_eq!(statuses(&fake).len(), 2);
}

#[test]
fn what_a_client_says_cannot_break_the_document() {
    let fake = Fake::new();
    register(&fake, 7502, ";x=\"<&'\u{1}\"");
    let text = body(&subscribed(&fake, &mut watcher()));
    assert!(text.contains("&lt;&amp;") && !text.contains('\u{1}'), "{text}");
    assert_eq!(text.matches("<contact ").count(), 1);
}

#[test]
fn cut_anywhere_no_number_is_used_twice() {
    let mut used = Vec::new();
    for steps in 0..12 {
        let fake = Fake::new();
        subscribed(&fake, &mut watcher());
        register(&fake, 7502, "");
        fake.0.borrow_mut().watching = Default::default();
        fake.0.borrow_mut().watching.watch(BOB);
        fake.0.borrow_mut().slow = true;
        let mut task = changed(&fake).unwrap();
        for _ in 0..steps {
            task.poll();
        }
        drop(task);
        // The server starts anew.
        fake.0.borrow_mut().slow = false;
        fake.0.borrow_mut().watching = Default::default();
        fake.0.borrow_mut().watching.watch(BOB);
        told(&fake);
        let numbers: Vec<u32> = fake.0.borrow().sent.iter().map(|(_, _, sent)| sent.cseq().0).collect();
        let mut unique = numbers.clone();
        unique.dedup();
        assert!(numbers.is_sorted() && unique.len() == numbers.len(), "{numbers:?}");
        used.push(numbers.len());
    }
    assert!(used.contains(&2) && used.contains(&3), "cut before and after something was sent: {used:?}");
}
