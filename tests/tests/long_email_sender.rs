//! `email-sender` with servers of its own that die under it, and with a mail server that others wrote.
#![allow(clippy::unwrap_used, clippy::panic)]

use lockgate_tests::mail_server::{MailServer, header};
use lockgate_tests::mailroom::{Letter, Mailroom, id_of};
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;

const SENT: &str = "select count(*) from lockgate_mail.sent_emails where state = 'sent'";

async fn holds(room: &Mailroom, users: i64) {
    room.has_mails(users).await;
    room.is_read().await;
    assert_eq!(room.number("select count(*) from lockgate.inbox").await, users);
    assert_eq!(room.number("select count(*) from lockgate.inbox_dead").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_when_postgres_and_kafka_were_killed_or_frozen() {
    let servers = OwnServers::up(&["postgres", "kafka"]);
    let room = servers.mailroom().await.with("EMAIL_PAGE", "20");
    let _sender = room.sender();
    for (round, (verb, back, name)) in [
        ("kill", "start", "postgres"),
        ("freeze", "thaw", "postgres"),
        ("freeze", "thaw", "kafka"),
        ("kill", "start", "kafka"),
    ]
    .into_iter()
    .enumerate()
    {
        let (from, to) = (round as u32 * 8_000, (round as u32 + 1) * 8_000);
        let with_copies = |users: std::ops::Range<u32>| {
            let copies = users.clone().step_by(3);
            users.chain(copies).map(Letter::to_user).collect()
        };
        room.post(with_copies(from..from + 4_000)).await;
        room.has_mails(i64::from(from) + 4_000).await;
        // The rest is held until the trouble is there: how quick the sender is decides nothing.
        let mut held = room.pool.begin().await.unwrap();
        let hold = "lock table lockgate.inbox in share row exclusive mode";
        sqlx::query(hold).execute(&mut *held).await.unwrap();
        room.post(with_copies(from + 4_000..to)).await;
        let midway = room.mails().await;
        assert!(midway < i64::from(to), "there is nothing left to disturb");
        servers.act(verb, name);
        if name == "kafka" {
            held.rollback().await.unwrap();
        } else {
            // With its server: what was sent of a page is committed or not.
            drop(held);
        }
        // Longer than a call to the database may take, so that a frozen server has been given up.
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
        servers.act(back, name);
        holds(&room, i64::from(to)).await;
        println!("{verb} {name} at {midway} of {to} e-mails");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_arrive_at_a_real_server_also_when_it_was_down_for_a_while() {
    let Some(mut server) = MailServer::find() else { return };
    server.start().await;
    let room = Mailroom::new()
        .await
        .with("EMAIL_SMTP_URL", &format!("smtp://127.0.0.1:{}", server.port()))
        .with("EMAIL_FROM", "Tracker <tracker@example.com>");
    let mut sender = room.sender();
    room.post((0..300).chain(0..300).map(Letter::to_user).collect()).await;
    wait_until(PATIENCE, "some mails are sent", async || room.number(SENT).await > 20).await;
    server.kill();
    room.post((300..400).map(Letter::to_user).collect()).await;
    let waiting =
        "select least(count(*), 1) from lockgate_mail.sent_emails where last_error = 'the server was not reached'";
    room.reaches(1, waiting).await;
    server.start().await;
    room.reaches(400, SENT).await;
    let mails = server.mails();
    assert_eq!(mails.len(), 400);
    let copies = mails.values().map(Vec::len).sum::<usize>() - 400;
    println!("{copies} mails went twice");
    // Only those can be there twice whose answer the server did not live to give.
    assert!(copies <= 8, "{copies} mails went twice");
    for user in [4, 5] {
        let mail = &mails[&format!("<{}@example.com>", id_of(user))][0];
        let (subject, hello) = match user % 2 {
            0 => (format!("Willkommen, User {user}"), format!("Hallo User {user},")),
            _ => (format!("Welcome, User {user}"), format!("Hello User {user},")),
        };
        assert_eq!(header(mail, "Subject"), subject);
        assert_eq!(header(mail, "From"), "Tracker <tracker@example.com>");
        assert_eq!(header(mail, "To"), format!("user-{user}@example.org"));
        assert_eq!(header(mail, "X-RcptTo"), format!("user-{user}@example.org"));
        assert!(mail.contains(&hello), "{mail}");
    }
    sender.terminate();
    assert!(sender.ends().await.success());
}
