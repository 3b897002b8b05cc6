//! Spans.

use super::*;

macro_rules! spans {
    ($($id:ident = $kind:ident $name:literal in $parent:literal linked $links:literal ($($attribute:ident),*) [$($event:literal),*] $when:ident => $about:literal;)*) => {
        $(
            #[doc = $about]
            pub static $id: SpanDef = SpanDef {
                name: $name,
                kind: stringify!($kind),
                about: $about,
                parent: $parent,
                links: $links,
                attributes: &[&REPLICA, $(&$attribute),*],
                events: &[$($event),*],
                when: When::$when,
            };
        )*
        /// All of them.
        pub static SPANS: &[&SpanDef] = &[$(&$id),*];
    };
}

spans! {
    RUN = internal "run {workflow}" in "the span that it was started within, if there is one" linked "the run that it comes of: its parent, the one before it or the one it repeats; the run that goes on in its place"
        (RUN_ID, WORKFLOW, QUEUE, SLOT, RUN_OUTCOME, TOKEN, RUN_ATTEMPTS, ERROR_TYPE) [] AtWork => "a run, from its start to its end, made by whoever ended it, and by the leader where that was done in SQL";
    EXECUTE = internal "execute {workflow}" in "run" linked "the children that it started, at most 128"
        (RUN_ID, WORKFLOW, TOKEN, EXECUTE_END, REPLAYED, CODE_VERSION, ERROR_TYPE) [] AtWork => "one claim of a run";
    STEP = internal "step {name}" in "execute" linked ""
        (RUN_ID, WORKFLOW, STEP_PATH, STEP_KIND, STEP_ATTEMPTS, STEP_OUTCOME, ERROR_TYPE) ["retry"] AtWork => "the code of a step that was done in this claim";
    WAIT = internal "wait {name}" in "run" linked "the child"
        (RUN_ID, WORKFLOW, STEP_PATH, STEP_KIND) [] AtWork => "a sleep, or the wait for a signal, a child or a fan-out, when it ends";
    PLAN = internal "plan {name}" in "execute" linked ""
        (RUN_ID, WORKFLOW, STEP_PATH, ITEMS, BATCHES, CHUNKS, ERROR_TYPE) ["trouble"] AtWork => "the planning of a fan-out";
    SEND = producer "send {topic}" in "run" linked ""
        (RUN_ID, WORKFLOW, STEP_PATH, BATCH_SEQ, TOKEN, BATCH_ITEMS, MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_TYPE, TOPIC, MESSAGE_COUNT, DELIVERED, REFUSED, UNKNOWN, SKIPPED, VANISHED, BATCH_END, HAND_BACK_REASON, ERROR_TYPE)
        ["read", "sent", "settled", "finished"] AtWork => "the work of a replica on a batch; the first 1,000 of a run have one, then one in sixteen, and each that did not end clean";
    REDELIVER = client "redeliver {topic}" in "" linked "the contexts of its messages, at most 32"
        (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_TYPE, TOPIC, MESSAGE_COUNT, DELIVERED, REFUSED, RETRIED, DEAD, HANDED_BACK) [] InTrouble => "a page of undelivered messages";
    RELAY = client "relay {topic}" in "" linked "the contexts of its messages, at most 32"
        (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_TYPE, TOPIC, LANE, MESSAGE_COUNT, DELIVERED, REFUSED, KEPT) [] AtWork => "a page of the outbox";
    SUBMIT = client "submit {topic}" in "the span in which the command was made" linked ""
        (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_TYPE, TOPIC, MESSAGE_ID, PLACED, STORED_REASON, ERROR_TYPE) [] AtWork => "a direct command whose context is sampled";
    RECEIVE = client "poll {topic}" in "" linked "each context of its messages, at most 128"
        (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_TYPE, TOPIC, CONSUMER_GROUP, MESSAGE_COUNT, NEW, REPEATED, DEAD, ERROR_TYPE) [] AtWork => "a page of messages that was consumed";
    PROCESS = consumer "process {topic}" in "the span that sent the messages" linked "the page"
        (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_TYPE, TOPIC, CONSUMER_GROUP, MESSAGE_COUNT, MESSAGE_ID, ERROR_TYPE) [] AtWork => "the messages of one sampled context in a page";
    SEND_MAIL = client "send mail" in "the span that sent the command" linked ""
        (MESSAGE_ID, MAIL_ATTEMPTS, MAIL_OUTCOME, ERROR_TYPE) [] AtWork => "an e-mail that is handed to the mail server";
    REQUEST = server "{method} {route}" in "the client's" linked ""
        (HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS, URL_SCHEME, ERROR_TYPE) [] AtWork => "a request to the HTTP API, without `url.path`, which may hold names and keys; none for health and metrics";
    VERB = client "{verb}" in "the current one" linked ""
        (DB_SYSTEM, DB_NAMESPACE, DB_VERB, DB_SUMMARY, ERROR_TYPE) [] AtWork => "a verb of a store, within a sampled span";
    FIRE = producer "fire {schedule}" in "the run that it started" linked ""
        (SCHEDULE, SLOT, SLOT_OUTCOME, TERM) [] AtWork => "a slot of a schedule that came";
    JOB_TURN = internal "job {job}" in "" linked ""
        (JOB, TERM, DONE, ERROR_TYPE) [] AtWork => "a turn of a job of the leader that did something or failed";
    DRAIN = internal "drain" in "" linked ""
        (IN_TIME, IN_FLIGHT) [] AtWork => "the stop of a replica";
}
